"""How many more jobs than there are places are claimed while jobs are short, so that none waits for the next turn."""

import time

from jobrunner.runner.attempts import Attempts

_FORGOTTEN_SECONDS = 0.05
_GROWTH = 3
_REST_SECONDS = 1.0


class Ahead:
    """It learns how long jobs take from what is delivered: in threads by their clocks, else from fork to end as heard.

    How long a turn takes tells nothing: on a slow disk, or beside other busy programs, that is not the jobs' time.
    """

    def __init__(self, most: int, short_seconds: float, enough_seconds: float) -> None:
        """Never more than `most`, or than is done in `enough_seconds`.

        And none where a job takes longer than `short_seconds`: a turn is no loss there.
        """
        self._limit = most
        self._short_seconds = short_seconds
        self._enough_seconds = enough_seconds
        self._count = 0
        self._seconds = 0.0
        self._since = time.monotonic()
        self._rests_until = 0.0
        self.most = 0
        """So many may be claimed beyond the free places."""

    def delivered(self, count: int, seconds: float) -> None:
        """So many jobs have ended, and took so long in all."""
        self._count += count
        self._seconds += seconds

    def fewer_than(self, count: int) -> None:
        """So many were too many for the descriptors that this process may have."""
        self._limit = max(0, min(self._limit, count - 1))

    def none(self) -> None:
        """Not now: jobs take long, or wait for each other."""
        self.most = 0

    def rest(self) -> None:
        """Not for a second: what was claimed could not be lined up."""
        self.none()
        self._rests_until = time.monotonic() + _REST_SECONDS

    def heed(self, attempts: Attempts) -> None:
        """None while those that are in hand forbid it."""
        if attempts.some_wait:
            self.none()  # a place that gets free is for those that have waited
        if attempts.are_delicate:
            self.none()  # the death of this runner would cost what has not begun dear

    def turn(self, places: int) -> None:
        """A turn begins; so many jobs can be done at a time."""
        now = time.monotonic()
        if now < self._rests_until:
            self._count, self._seconds = 0, 0.0
        elif self._count:
            each = self._seconds / self._count
            enough = places * self._enough_seconds / max(each, 1e-6)
            grown = max(self.most, _GROWTH * self._count)
            self.most = int(min(self._limit, enough, grown)) if each < self._short_seconds else 0
            self._count, self._seconds, self._since = 0, 0.0, now
        elif now - self._since >= _FORGOTTEN_SECONDS:
            self.most = 0
