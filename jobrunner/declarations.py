"""The schedules that task modules declare: noted when they are imported, told to a runner by its template."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jobrunner.arrangements import Plan


class Declaration(NamedTuple):
    """A schedule that code declares: for which database, asked when it matters, and the plan."""

    path: Callable[[], Path]
    plan: Plan


_noted: dict[tuple[str, str], Declaration] = {}


def note(declaration: Declaration) -> None:
    """Keep it; where the same function declares the same name again, the last word counts."""
    _noted[declaration.plan.name, declaration.plan.task] = declaration


def noted(path: Path) -> list[Plan]:
    """Those for this database."""
    return [one.plan for one in _noted.values() if one.path() == path]
