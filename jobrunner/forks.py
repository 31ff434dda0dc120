"""What must not be open while this process forks: told before, and on both sides after it."""

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that has to know of forks."""

    def before_fork(self) -> None:
        """The process is about to fork."""

    def after_fork(self) -> None:
        """It has forked, and this is the parent."""

    def after_fork_in_child(self) -> None:
        """It has forked, and this is the child."""


_heeded: "weakref.WeakSet[Forkable]" = weakref.WeakSet()
_told: list[Forkable] = []


def heed(one: Forkable) -> None:
    """Tell it of every fork, for as long as it lives."""
    _heeded.add(one)


def _before_fork() -> None:
    _told[:] = _heeded
    for one in _told:
        one.before_fork()


def _after_fork() -> None:
    while _told:
        _told.pop().after_fork()


def _after_fork_in_child() -> None:
    while _told:
        _told.pop().after_fork_in_child()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
