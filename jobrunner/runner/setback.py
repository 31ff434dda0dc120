"""What keeps a runner from writing: a full disk, or one that fails. Told once, and tried again with growing pauses."""

import contextlib
import logging
import time
from collections.abc import Iterator
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
        """When to try again, on the monotonic clock."""
        return self._again_at if self.is_on else None

    @contextlib.contextmanager
    def survived(self) -> Iterator[None]:
        """A block that may fail because of the disk, or of who keeps the write lock, and is done again then."""
        try:
            yield
        except NotBegun as error:
            log.warning("%s; trying again", error)
        except NotWritten as error:
            self._meet(error)

    def _meet(self, error: NotWritten) -> None:
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
