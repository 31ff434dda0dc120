"""The end that TERM or INT asks for: first no new claims, then nothing that runs."""

import time

from jobrunner.runner.stop_signals import StopSignals


class Shutdown:
    """Asked for by the first signal, over with the second or when the time is up."""

    def __init__(self, signals: StopSignals, seconds: float) -> None:
        self._signals = signals
        self.seconds = seconds
        """What running jobs get to finish."""
        self._deadline = float("inf")
        self._at: float | None = None

    def is_new(self) -> bool:
        """Whether it is asked for since the last time that this was asked."""
        if self._at is not None or not self._signals.count:
            return False
        self._at = self._deadline = time.monotonic() + self.seconds
        return True

    @property
    def is_out_of_time(self) -> bool:
        """Whether its time is up, or a second signal came."""
        return time.monotonic() >= self._deadline or self._signals.count > 1

    @property
    def is_asked_for(self) -> bool:
        """Whether nothing is to be claimed any more."""
        return self._at is not None

    @property
    def is_over(self) -> bool:
        """Whether what runs is to be stopped."""
        return self._at not in {None, float("inf")} and self.is_out_of_time

    @property
    def next_moment(self) -> float | None:
        """When its time is up, on the monotonic clock."""
        return self._at

    def end(self) -> None:
        """What runs has been told to stop."""
        self._at = float("inf")
