"""What happens when somebody sets the wall clock: what waits or was counted by it is moved along, once."""

from jobrunner.database import Database
from jobrunner.kernel import boot_id
from jobrunner.times import now_ms, steady_ms

TOLERANCE_MS = 2000
"""Less is how a clock is kept right, not set; what so adds up is heeded when it reaches this."""


class WallClock:
    """As one process saw it at its last commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._boot_id = boot_id()
        self._known: int | None = None
        self._seen = 0

    @property
    def is_set_anew(self) -> bool:
        """Whether it shows another time than at the last commit plus what has passed."""
        return self._known is None or abs(_ahead() - self._known) >= TOLERANCE_MS

    def heed(self) -> bool:
        """Inside a transaction: move what waits, if nobody has yet; tells whether the clock was set."""
        if not self.is_set_anew:
            return False
        self._seen = _ahead()
        row = self._database.one("clock")
        if row is None or row[0] != self._boot_id:
            self._database.query("clock_is", boot_id=self._boot_id, ahead=self._seen)
            self._database.query("no_start_to_come", now=now_ms())
            self._database.query("no_begun_to_come", now=now_ms())
            self._database.query("no_rate_to_come", now=now_ms())
            return True
        by = self._seen - row[1]
        if abs(by) >= TOLERANCE_MS:
            self._database.query("clock_jumped", by=by)
            self._database.query("move_retries", by=by)
            self._database.query("move_unknown", by=by)
            self._database.query("move_starts", by=by)
            self._database.query("move_begun", by=by)
            self._database.query("move_rates", by=by)
        return True

    def written(self) -> None:
        """The commit is certain."""
        self._known = self._seen


def _ahead() -> int:
    return now_ms() - steady_ms()
