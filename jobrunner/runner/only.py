"""What a runner may be asked to do, where `--only` says that it is not to do just anything.

A pattern names functions as `MODULE:FUNCTION`, or with its own first word `command:PROGRAM` or `shell:LINE`. `*`, `?`
and `[...]` match as in a shell, but no dot of a function's name and no slash of a program's: `shop.*:*` permits
`shop.tasks:send`, and not `shop.tasks:os.system`.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from jobrunner.errors import NotAllowed, UsageError
from jobrunner.models import Claimed
from jobrunner.policy import Policy

_PROGRAMS = ("command", "shell")


def check_pattern(pattern: str) -> None:
    """UsageError where it is none."""
    head, _, rest = pattern.partition(":")
    if not head or not rest:
        raise UsageError(
            f"--only {pattern!r} is no pattern: write MODULE:FUNCTION, as in 'shop.*:*', command:PROGRAM or 'shell:*'"
        )


def permit(claimed: Claimed, policy: Policy, patterns: Sequence[str]) -> None:
    """NotAllowed where there are patterns, and none permits this job; nothing is imported or started to tell."""
    if not patterns:
        return
    if not any(_matches(claimed, *pattern.split(":", 1)) for pattern in patterns):
        raise NotAllowed(f"{_name(claimed)} is not what this runner was told to do: --only {', '.join(patterns)}")
    if policy.env:
        # PATH, LD_PRELOAD, BASH_ENV, ...: no list of those that are dangerous would be whole.
        raise NotAllowed(
            f"it sets {', '.join(policy.env)}, and a variable can lead what is permitted to other code: "
            "a runner with --only takes no environment from a job"
        )


def _name(claimed: Claimed) -> str:
    if claimed.kind == "shell":
        return "this line for the shell"  # there may be secrets in it
    return claimed.task[:200] if claimed.kind == "function" else f"command:{claimed.task[:200]}"


def _matches(claimed: Claimed, head: str, rest: str) -> bool:
    if claimed.kind == "function":
        module, _, function = claimed.task.partition(":")
        return head not in _PROGRAMS and fnmatchcase(module, head) and _matches_parts(function, rest, ".")
    if head != claimed.kind:
        return False
    if claimed.kind == "shell":
        return fnmatchcase(claimed.task, rest)
    # A relative path begins in the folder that the job names: it could be any program.
    is_relative = "/" in claimed.task and not claimed.task.startswith("/")
    return not is_relative and _matches_parts(claimed.task, rest, "/")


def _matches_parts(name: str, pattern: str, separator: str) -> bool:
    parts, wanted = name.split(separator), pattern.split(separator)
    return len(parts) == len(wanted) and all(map(_matches_part, parts, wanted))


def _matches_part(part: str, wanted: str) -> bool:
    return part == wanted or (part not in (".", "..") and fnmatchcase(part, wanted))
