"""A crontab, read: what each of its lines is as a schedule, or why it is none."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jobrunner.arrangements import Plan
from jobrunner.errors import UsageError
from jobrunner.instants import local_zone
from jobrunner.options import Options
from jobrunner.plans import plan_of
from jobrunner.timing import read

_SHELLS = ("/bin/sh", "/usr/bin/sh", "sh")
_NOT_HANDED_ON = ("HOME", "LOGNAME", "USER")


class Line(NamedTuple):
    """A line: its number, the schedule that it is, and what is to be said of it."""

    number: int
    plan: Plan | None
    remark: str | None


@dataclass
class _Setting:
    """What the lines above have set."""

    zone: str
    environment: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def lines(text: str, user: str, *, has_users: bool = False, zone: str | None = None) -> Iterator[Line]:
    """The lines that are no comments. As cron does it, runs may overlap, and what was missed is not made up for.

    `user` is who the jobs will run as; with `has_users`, as in /etc/crontab, lines of others are refused.
    """
    setting = _Setting(zone or local_zone())
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            yield Line(number, *_read(stripped, setting, user if has_users else None))
        except UsageError as error:
            yield Line(number, None, f"not converted: {error}")


def _read(line: str, setting: _Setting, user: str | None) -> tuple[Plan | None, str | None]:
    name, equals, value = line.partition("=")
    if equals and name.strip().isidentifier():
        return None, _set(setting, name.strip(), value.strip().strip("'\""))
    parts = 1 if line.startswith("@") else 5
    fields = line.split(None, parts + (user is not None))
    if len(fields) <= parts + (user is not None):
        raise UsageError("there is no command on the line")
    when, command = " ".join(fields[:parts]), fields[-1]
    if when == "@reboot":
        raise UsageError("@reboot has no time; have the runner's service enqueue it")
    if user is not None and fields[parts] != user:
        raise UsageError(f"it is for the user {fields[parts]!r}: a runner of that user must do it")
    options = Options(cwd=str(Path.home()), env=setting.environment)
    request = options.request(_shell_line(command), "[]", [], "shell")
    timing = read(when, setting.zone)
    return plan_of(_name(command, setting.names), timing, request, overlap="allow", missed="none"), None


def _set(setting: _Setting, name: str, value: str) -> str | None:
    if name in ("CRON_TZ", "TZ"):
        setting.zone = value
    elif name == "SHELL":
        return None if value in _SHELLS else f"ignored: lines are done by /bin/sh, not by {value}"
    elif name in ("MAILTO", "MAILFROM"):
        return "ignored: no mail is sent; `jobrunner log` and `jobrunner errors` tell what happened"
    elif name in _NOT_HANDED_ON:
        return f"ignored: {name} is that of the runner"
    else:
        setting.environment = {**setting.environment, name: value}
    return None


def _shell_line(command: str) -> str:
    """Cron's `%`: the first ends the command; what follows is its standard input, in which each other ends a line."""
    pieces = [""]
    escaped = False
    for character in command:
        if escaped:
            pieces[-1] += character if character == "%" else f"\\{character}"
        elif character == "%":
            pieces.append("")
        elif character != "\\":
            pieces[-1] += character
        escaped = character == "\\" and not escaped
    line = pieces[0].strip() + ("\\" if escaped else "")
    if len(pieces) == 1:
        return line
    end = "\n}" if "#" in line else "; }"  # not into a comment
    return f"printf '%s\\n' {' '.join(map(shlex.quote, pieces[1:]))} | {{ {line}{end}"


def _name(command: str, taken: set[str]) -> str:
    """The program's name, with a number where there is one of it already."""
    first = command.split(maxsplit=1)[0]
    stem = Path(first).name or first
    name = next(one for n in range(1, len(taken) + 2) if (one := stem if n == 1 else f"{stem}-{n}") not in taken)
    taken.add(name)
    return name
