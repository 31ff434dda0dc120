"""The forgetting of old jobs while a runner has nothing better to do, where it is told for how long they stay."""

import time

from jobrunner.database import Database
from jobrunner.prune import AT_ONCE, prune_some

_BETWEEN_BATCHES = 1.0
_BETWEEN_LOOKS = 60.0
"""Seconds until it looks again after there was nothing more; a look writes nothing."""


class Housekeeping:
    """It looks from its making on; `keep` is how many seconds a finished job stays, None: for ever."""

    def __init__(self, database: Database, keep: float | None) -> None:
        self._database = database
        self._keep = keep
        self._not_before = time.monotonic() + _BETWEEN_BATCHES

    def tidy(self) -> None:
        """Forget a few, where it is time."""
        if self._keep is not None and time.monotonic() >= self._not_before:
            forgotten = prune_some(self._database, round(1000 * self._keep))
            pause = _BETWEEN_BATCHES if forgotten == AT_ONCE else _BETWEEN_LOOKS
            self._not_before = time.monotonic() + pause
