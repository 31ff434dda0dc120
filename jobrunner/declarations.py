"""The schedules that task modules declare: noted when they are imported, told to a runner by its template."""

import os
from collections.abc import Callable
from typing import NamedTuple

from jobrunner.arrangements import Plan


class Declaration(NamedTuple):
    """A schedule that code declares: for which database, asked when it matters, and the plan."""

    path: Callable[[], os.PathLike[str]]
    plan: Plan


_noted: dict[tuple[str, str], Declaration] = {}


def note(declaration: Declaration) -> None:
    """Keep it; where the same function declares the same name again, the last word counts."""
    _noted[declaration.plan.name, declaration.plan.task] = declaration


def noted(path: os.PathLike[str] | None = None) -> list[Plan]:
    """Those for this database, else for the one that the command line means."""
    if not _noted:
        return []
    from jobrunner.location import find_database  # brings pathlib, which costs each fork

    path = path or find_database()
    return [one.plan for one in _noted.values() if one.path() == path]
