"""The kinds of runner, and what makes a runner of each kind have so many slots."""

from importlib.metadata import entry_points
from typing import Any

from jobrunner.runner.registry import OURS

RUNNERS = sorted({*OURS, *(one.name for one in entry_points(group="jobrunner.runners"))})
"""Every runner that can be started here: ours, and those of packages that are installed beside it."""


def slots(mode: str, count: int, **settings: Any) -> dict[str, Any]:
    """Settings of a runner that does `count` invocations at a time; with threads: all in one process."""
    places = {"jobs": 1, "threads": count} if mode == "thread" else {"jobs": count}
    return {"mode": mode, **places, **settings}
