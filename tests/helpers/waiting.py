"""Waiting for facts. A deadline here is no promise of ours: it only ends a test that would wait for ever."""

import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 150.0
_BETWEEN_LOOKS = 0.01


def until(fact: Callable[[], T], seconds: float = SECONDS) -> T:
    """The first truthy value that `fact` gives; AssertionError where there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {getattr(fact, '__name__', fact)}: {found!r}"
        threading.Event().wait(_BETWEEN_LOOKS)
    return found


def until_gone(pids: Iterable[int], seconds: float = SECONDS) -> None:
    """Return when none of these processes lives any more."""
    deadline = time.monotonic() + seconds
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"process {pid} still lives after {seconds:g} s"
        finally:
            os.close(descriptor)
