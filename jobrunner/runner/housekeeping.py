"""The forgetting of old jobs while a runner has nothing better to do, where it is told for how long they stay."""

import time

from jobrunner.database import Database
from jobrunner.prune import Pace, prune_some

_BETWEEN_BATCHES = 0.02
_BETWEEN_LOOKS = 60.0
"""Seconds until it looks again after there was nothing more; a look writes nothing."""


class Housekeeping:
    """It looks from its making on; `keep` is how many seconds a finished job stays, None: for ever."""

    def __init__(self, database: Database, keep: float | None) -> None:
        self._database = database
        self._keep = keep
        self._not_before = time.monotonic() + 1.0
        self._pace = Pace()

    @property
    def next_moment(self) -> float | None:
        """When it will look again, on the monotonic clock."""
        return None if self._keep is None else self._not_before

    @property
    def is_due(self) -> bool:
        """Whether it is time to look."""
        return self._keep is not None and time.monotonic() >= self._not_before

    def tidy(self) -> None:
        """Forget a few, where it is time."""
        if self._keep is not None and self.is_due:
            may_be_more = prune_some(self._database, round(1000 * self._keep), self._pace)
            pause = max(_BETWEEN_BATCHES, self._pace.rest) if may_be_more else _BETWEEN_LOOKS
            self._not_before = time.monotonic() + pause
