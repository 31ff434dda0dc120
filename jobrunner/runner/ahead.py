"""How many more jobs than threads the processes get while jobs are short, so that no thread waits for the next turn."""

import time

MOST = 256
SHORT_SECONDS = 0.005
"""Where a job takes longer than this, a thread that waits for a turn is no loss."""
_WORTH_SECONDS = 0.02
"""So long the threads are to have enough to do without us."""
_FORGOTTEN_SECONDS = 0.05
_GROWTH = 3


class Ahead:
    """It learns how long jobs take from what is delivered, by the workers' own clocks.

    How long a turn takes tells nothing: on a slow disk, or beside other busy programs, that is not the jobs' time.
    """

    def __init__(self) -> None:
        self._count = 0
        self._seconds = 0.0
        self._since = time.monotonic()
        self.most = 0
        """So many may be claimed beyond the free threads."""

    def delivered(self, count: int, seconds: float) -> None:
        """So many jobs of threads have ended, and took so long in all."""
        self._count += count
        self._seconds += seconds

    def none(self) -> None:
        """Not now: jobs take long, or wait for each other."""
        self.most = 0

    def turn(self, threads: int) -> None:
        """A turn begins; so many threads are there."""
        now = time.monotonic()
        if self._count:
            each = self._seconds / self._count
            enough = threads * _WORTH_SECONDS / max(each, 1e-6)
            grown = max(self.most, _GROWTH * self._count)
            self.most = int(min(MOST, enough, grown)) if each < SHORT_SECONDS else 0
            self._count, self._seconds, self._since = 0, 0.0, now
        elif now - self._since >= _FORGOTTEN_SECONDS:
            self.most = 0
