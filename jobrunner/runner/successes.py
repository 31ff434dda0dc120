"""What has succeeded in a process of threads, on its way to the runner."""

import contextlib
import queue
import threading
from collections.abc import Callable

from jobrunner.errors import ChannelClosed
from jobrunner.models import Json
from jobrunner.worker_end import WorkerEnd

TOGETHER = 32
"""Outcomes in a message."""
SHORT = 1 << 12
"""Characters of a result that may wait for others."""


class Successes:
    """They are sent together while there is more to do, at once where there is not.

    Each message wakes the runner, and to make and read it takes longer than a short job.
    """

    def __init__(self, channel: WorkerEnd, is_more_to_do: Callable[[], bool]) -> None:
        self._channel = channel
        self._is_more_to_do = is_more_to_do
        self._rows: list[list[Json]] = []
        self._took_us = 0
        self._changing = threading.Lock()
        self._alarm: queue.SimpleQueue[None] = queue.SimpleQueue()

    def add(self, row: list[Json], took_us: int) -> None:
        """Of a job: `invocation, claim, result, CPU milliseconds`; and how many microseconds it took."""
        with self._changing:
            self._rows.append(row)
            self._took_us += took_us
            count = len(self._rows)
        if count >= TOGETHER or not self._is_more_to_do():
            self.send()
        elif count == 1:
            self._alarm.put(None)  # what this thread does next may take long

    def send(self) -> None:
        """Send what is there."""
        with self._changing:
            rows, self._rows = self._rows, []
            took_us, self._took_us = self._took_us, 0
        if rows:
            self._channel.send("done", took_us, *rows)

    def send_late_ones(self) -> None:
        """The life of a thread: it sends what others have left as soon as they let it."""
        with contextlib.suppress(ChannelClosed):
            while True:
                self._alarm.get()
                self.send()
