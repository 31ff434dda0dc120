"""Secrets among the arguments of jobs, hidden from who looks over a shoulder or reads a log; the file has them whole.

What is secret is told by its name: `token`, `secret`, `password`, `passwd`, `api_key` anywhere in it, in any case.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping

from jobrunner.models import Json

MASK = "***"
"""What stands in the place of a secret."""
_SECRET = r"(?i:token|secret|passw|api[_-]?key)"  # compiled where it is first used, and then kept by re
# A word is looked at once, from its beginning: else a hostile line of a megabyte would take hours.
_WORD = rf"(?<![\w.-])(?=[\w.-]*?{_SECRET})"
_VALUE = r"""(?:'[^']*'|"(?:[^"\\]|\\.)*"|[^\s'";&|]+)"""
_SECRET_IN_LINE = rf"{_WORD}(?:([\w.-]++)(=|\s*:\s*)|(-[\w.-]++)(\s+)(?!-)){_VALUE}"


def is_secret(name: str) -> bool:
    """Whether what has this name is not to be shown."""
    return re.search(_SECRET, name) is not None


def masked(value: Json) -> Json:
    """The value with what stands under a secret's name in any of its objects replaced."""
    if isinstance(value, Mapping):
        return {name: MASK if is_secret(name) else masked(one) for name, one in value.items()}
    return [masked(one) for one in value] if isinstance(value, list) else value


def masked_words(words: Iterable[Json]) -> list[Json]:
    """The words of a command: the value in `--password=x`, and the word behind `--token`."""
    shown: list[Json] = []
    hide_next = False
    for word in words:
        text = word if isinstance(word, str) else ""
        name, equals, _ = text.partition("=")
        is_option = text.startswith("-")
        if hide_next and not is_option:
            shown.append(MASK)
        else:
            shown.append(f"{name}={MASK}" if equals and is_secret(name) else word)
        hide_next = is_option and not equals and is_secret(text)
    return shown


def masked_line(line: str) -> str:
    """A line for the shell, in the same way; it is read by eye, not by the shell's own grammar."""
    return line if not is_secret(line) else re.sub(_SECRET_IN_LINE, rf"\1\2\3\4{MASK}", line)


def hide_call(kind: str, task: str, args: str | None, policy: str | None) -> tuple[str, str | None, str | None]:
    """Task, arguments and policy as they may be shown; what has no secrets comes back as it is."""
    shown = masked_line(task) if kind == "shell" else task
    return shown, _rewritten(args, masked_words if kind == "command" else masked), _rewritten(policy, masked)


def _rewritten(text: str | None, hide: Callable[[Json], Json]) -> str | None:
    if text is None or not (is_secret(text) or "\\" in text):
        return text  # no name in it is one, as it is written or behind an escape
    try:
        value = json.loads(text)
        hidden = hide(value)
    except (ValueError, TypeError, RecursionError):
        return text  # written by hand
    return text if hidden == value else json.dumps(hidden, ensure_ascii=False)
