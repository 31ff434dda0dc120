"""What keeps a runner from writing: a full disk, or one that fails. Told once, and tried again with growing pauses."""

import logging
import time
from pathlib import Path

from jobrunner.database_file import free_bytes
from jobrunner.errors import NotBegun, NotWritten
from jobrunner.times import words

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

log = logging.getLogger("jobrunner.runner")


class Setback:
    """It begins with a transaction that cannot be written, and is over with the next one that can."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since: float | None = None
        self._pause = _FIRST_PAUSE
        self._again_at = 0.0
        self._survival = _Survival(self)

    @property
    def is_on(self) -> bool:
        """Whether the last transaction could not be written."""
        return self._since is not None

    @property
    def is_resting(self) -> bool:
        """Whether it is too early to try again."""
        return self.is_on and time.monotonic() < self._again_at

    @property
    def next_moment(self) -> float | None:
        """When to try again, on the monotonic clock; None where it may be tried now, if there is something to write."""
        return self._again_at if self.is_resting else None

    def survived(self) -> "_Survival":
        """A block that may fail because of the disk, or of who keeps the write lock, and is done again then."""
        return self._survival

    def meet(self, error: NotWritten) -> None:
        """Something could not be written."""
        if self._since is None:
            self._since = time.monotonic()
            log.error(
                "%s; %s bytes are free there. What jobs deliver is kept, and no others are started until there is room",
                error,
                f"{free_bytes(self._path):,}",
            )
        self._again_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def end(self) -> None:
        """A transaction is written."""
        if self._since is not None:
            lasted = words(round(1000 * (time.monotonic() - self._since)))
            log.warning("%s can be written again, after %s", self._path, lasted)
            self._since, self._pause = None, _FIRST_PAUSE


class _Survival:
    # Not a generator: there are many such blocks in a turn, and nearly all do nothing.
    __slots__ = ("_setback",)

    def __init__(self, setback: Setback) -> None:
        self._setback = setback

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, NotBegun):
            log.warning("%s; trying again", error)
        elif isinstance(error, NotWritten):
            self._setback.meet(error)
        else:
            return False
        return True
