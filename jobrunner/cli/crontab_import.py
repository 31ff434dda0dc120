"""`jobrunner schedule import`: the schedules of a crontab."""

import getpass
import sys
from pathlib import Path

from jobrunner import schedules
from jobrunner.cli import printing
from jobrunner.cli.session import Session
from jobrunner.crontab import Line, lines
from jobrunner.database import Database
from jobrunner.errors import UsageError

_NOT_ALL = 1


def take(called: Session, source: str, *, system: bool, rehearse: bool, tz: str | None) -> int:
    """Make them, in one transaction; gives the exit code: 1 where a line could not be converted."""
    found = list(lines(_text(source), getpass.getuser(), has_users=system, zone=tz))
    if not rehearse:
        _write(called, found)
    for line in found:
        if line.plan is not None:
            plan = line.plan
            facts = {"line": line.number, "name": plan.name, "spec": plan.spec, "zone": plan.zone, "task": plan.task}
            printing.write_json(facts) if called.json else printing.write_tabs(facts.values())
    for line in found:
        if line.remark is not None:
            called.notice(f"line {line.number}: {line.remark}")
    return _NOT_ALL if any(line.plan is None and (line.remark or "").startswith("not") for line in found) else 0


def _write(called: Session, found: list[Line]) -> None:
    plans = [line.plan for line in found if line.plan is not None]
    with Database(called.path, create=True) as database, database.transaction():
        there = {one.plan.name for one in schedules.schedules(database)}
        if taken := [plan.name for plan in plans if plan.name in there]:
            raise UsageError(
                f"there is a schedule {taken[0]!r} already: remove it, or rename one; nothing was imported"
            )
        for plan in plans:
            schedules.put(database, plan, "command")


def _text(source: str) -> str:
    if source == "-":
        return sys.stdin.read()
    try:
        return Path(source).read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not UTF-8 text") from error
