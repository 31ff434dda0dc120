"""Noticing that somebody else has committed: the sqlite3 shell included, at once and almost for free."""

import contextlib
import os
import select
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from jobrunner.database import Database
from jobrunner.kernel import watch_changes

POLL_SECONDS = 0.5
"""How often to look where nothing wakes us: the fallback behind inotify."""
POLL_SECONDS_UNWATCHED = 0.05
"""The same where the kernel cannot tell us that a file was written."""
_SECOND_LOOK_SECONDS = 0.003


class CommitWatch:
    """A watch on a database's write-ahead log; it starts with the database open and ends with `close`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = database.version
        self._descriptor = watch_changes(Path(f"{database.path}-wal"))
        self._look_again_at: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def descriptor(self) -> int | None:
        """Readable when the file was written, by anybody; None where the kernel cannot tell."""
        return self._descriptor

    @property
    def poll_seconds(self) -> float:
        """How long one may sleep before `has_committed` is to be asked, even when nothing woke us."""
        if self._look_again_at is not None:
            return max(0.0, self._look_again_at - time.monotonic())
        return POLL_SECONDS if self._descriptor is not None else POLL_SECONDS_UNWATCHED

    def has_committed(self) -> bool:
        """Whether another connection has committed since the last time that this was asked."""
        woken = self._drain()
        version = self._database.version
        if version != self._version:
            self._version = version
            self._look_again_at = None
            return True
        # The file is written a moment before the commit can be seen: look once more.
        self._look_again_at = time.monotonic() + _SECOND_LOOK_SECONDS if woken else None
        return False

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody commits; False where nobody did within `seconds` or the poll's interval."""
        poll = select.poll()  # not select(): a caller may have more than 1024 descriptors open
        if self._descriptor is not None:
            poll.register(self._descriptor, select.POLLIN)
        poll.poll(1000 * max(0.0, min(seconds, self.poll_seconds)))
        return self.has_committed()

    def _drain(self) -> bool:
        woken = False
        if self._descriptor is not None:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._descriptor, 4096):
                    woken = True
        return woken
