"""`jobrunner doctor`: what is wrong, and the mending of it."""

from typing import Annotated

import typer

from jobrunner import diagnosis
from jobrunner.cli import printing, session
from jobrunner.cli.session import Session
from jobrunner.diagnosis import Finding
from jobrunner.errors import JobRunnerError

FAULTY = 1
"""Exit code where there are faults; warnings are none."""


def doctor(
    context: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended, then look again.")] = False,
) -> int:
    r"""Look for what is wrong: the file, its modes, the schema, runners that died or hang, jobs without a runner.

    \b
    jobrunner doctor
    jobrunner doctor --fix
    jobrunner doctor --json

    A line a check: ok, warning or fault, and what to do. Exit code 1 where there is a fault. Only --fix writes.
    """
    called = session.of(context)
    found = diagnosis.examine(called.path)
    if fix:
        for one in found:
            _mend(called, one)
        found = diagnosis.examine(called.path)
    for one in found:
        if called.json:
            printing.write_json({"check": one.check, "level": one.level, "text": one.text})
    if not called.json:
        rows = [(one.level, one.check, one.text) for one in found]
        if called.for_people:
            printing.write_table(called, ("level", "check", "what"), rows)
        else:
            for row in rows:
                printing.write_tabs(row)
    return FAULTY if any(one.level == "fault" for one in found) else 0


def _mend(called: Session, found: Finding) -> None:
    """What cannot be mended is told, and the rest is mended all the same."""
    try:
        if found.mend is not None:
            found.mend()
    except (JobRunnerError, OSError) as error:
        called.notice(f"{found.check} could not be mended: {error}")
