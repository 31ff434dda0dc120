"""Names that tasks had before: what was enqueued under one of them is done by the task that has taken it over."""

from typing import Any

_tasks: dict[str, Any] = {}


def take_over(names: tuple[str, ...], task: Any) -> None:
    """The task answers to these names, too."""
    _tasks.update(dict.fromkeys(names, task))


def find(name: str) -> Any:
    """The task that has taken the name over, if its module was imported; else None."""
    return _tasks.get(name)
