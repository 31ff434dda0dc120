"""How many more jobs than threads the processes get while jobs are short, so that no thread waits for the next turn."""

import time

MOST = 192
SHORT_SECONDS = 0.005
"""Where a job takes longer than this, a thread that waits for a turn is no loss."""
_FORGOTTEN_SECONDS = 0.02
_GROWTH = 3


class Ahead:
    """It learns from what is delivered between two turns."""

    def __init__(self) -> None:
        self._delivered = 0
        self._since = time.monotonic()
        self.most = 0
        """So many may be claimed beyond the free threads."""

    def delivered(self) -> None:
        """A job of a thread has ended."""
        self._delivered += 1

    def none(self) -> None:
        """Not now: jobs take long, or wait for each other."""
        self.most = 0

    def turn(self, threads: int) -> None:
        """A turn begins; so many threads were there for what was delivered since the last one that counted."""
        now = time.monotonic()
        passed = now - self._since
        if self._delivered:
            is_short = threads * passed < SHORT_SECONDS * self._delivered
            self.most = min(MOST, _GROWTH * self._delivered) if is_short else 0
        elif passed < _FORGOTTEN_SECONDS:
            return
        else:
            self.most = 0
        self._delivered, self._since = 0, now
