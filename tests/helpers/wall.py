"""A clock on the wall that a test sets."""

from datetime import UTC, datetime

from jobrunner.database import Database
from jobrunner.times import Clocks
from jobrunner.wall_clock import WallClock

NOON = round(datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp() * 1000)


class Wall:
    """It stands at noon until the test moves `now`, in milliseconds since 1970; the time since boot goes with it."""

    def __init__(self) -> None:
        self.now = NOON

    def clocks(self) -> Clocks:
        """For `times.clocks`."""
        return Clocks(lambda: self.now, lambda: self.now)


def heeded(database: Database) -> WallClock:
    """A clock on the wall whose time is written down, as by a runner's first turn."""
    clock = WallClock(database)
    with database.transaction():
        clock.heed()
    clock.written()
    return clock
