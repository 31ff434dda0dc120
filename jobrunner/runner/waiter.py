"""A job that waits for others."""

import time
from collections.abc import Callable

from jobrunner.models import InvocationId
from jobrunner.runner.running import Running

SOON_SECONDS = 0.005
"""So long a job is not paused yet that waits for what is being done here already: to pause and to resume it takes a
commit each, and most short jobs are over by then."""

Reply = Callable[..., None]


class Waiter:
    """From its question to the answer. Moments are of the monotonic clock, in seconds."""

    __slots__ = ("asked_at", "deadline", "for_result", "ids", "pause_at", "reply", "running", "timeout", "unfinished")

    def __init__(
        self,
        running: Running,
        reply: Reply,
        ids: list[InvocationId],
        timeout: float | None,
        for_result: bool,
        patience: float,
    ) -> None:
        """`patience`: so long it is not paused yet, nor longer than it would wait at all."""
        self.asked_at = now = time.monotonic()
        self.running = running
        self.reply = reply
        """How to answer it."""
        self.ids = ids
        self.unfinished: set[InvocationId] = set()
        """Those of them that were not final at the last look."""
        self.timeout = timeout
        self.deadline = None if timeout is None else now + timeout
        self.pause_at = now + (patience if timeout is None else min(patience, timeout))
        self.for_result = for_result
        """Whether the answer is the result of the one, instead of where all stand."""

    @property
    def has_patience(self) -> bool:
        """Whether it may wait a while without being paused."""
        return self.pause_at > self.asked_at

    @property
    def is_to_be_paused(self) -> bool:
        """Whether that is to be now, if it has to wait still: who is paused turned away from what it waits for."""
        return self.running.paused_at is None and time.monotonic() >= self.pause_at

    @property
    def is_overdue(self) -> bool:
        """Whether it has waited as long as it wanted to."""
        return self.deadline is not None and time.monotonic() >= self.deadline
