"""What was claimed ahead and waits where it is to be done; where nothing moves there for long, it is asked back."""

import time

PATIENCE_SECONDS = 0.1
"""Where nothing ends for so long, what waits behind it is given back, for others to begin."""


class Backlog:
    """Of one process of threads, or of the template: it is asked back once, until something moves again."""

    def __init__(self) -> None:
        self._answers_due = 0
        self._expected_until = 0.0
        self.moved()

    def moved(self) -> None:
        """Something has ended there, or nothing waits."""
        self._moved_at = time.monotonic()
        self.is_asked_back = False
        """Whether it was told since then to give back what waits."""

    def asked_back(self) -> None:
        """It was told to give back what waits, since nothing moves."""
        self.is_asked_back = True

    def expect(self) -> None:
        """It was told to, and answers."""
        self._answers_due += 1
        self._expected_until = time.monotonic() + PATIENCE_SECONDS

    def came_back(self) -> None:
        """It has answered, and has given back what waited."""
        self._answers_due = max(0, self._answers_due - 1)  # a job may have said so in its place

    @property
    def is_coming_back(self) -> bool:
        """Whether what waited is on its way back; where a job lets nobody else run, that is expected for a moment."""
        return self._answers_due > 0 and time.monotonic() < self._expected_until

    @property
    def next_moment(self) -> float | None:
        """When it is to be asked back, or is expected no more, on the monotonic clock."""
        moments = [] if self.is_asked_back else [self._moved_at + PATIENCE_SECONDS]
        moments += [self._expected_until] if self.is_coming_back else []
        return min(moments, default=None)

    @property
    def is_stuck(self) -> bool:
        """Whether nothing has moved for too long, and it has not been asked back."""
        return not self.is_asked_back and time.monotonic() >= self._moved_at + PATIENCE_SECONDS
