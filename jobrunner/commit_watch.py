"""Noticing that somebody else has committed: the sqlite3 shell included, at once and almost for free."""

import select
import time
from pathlib import Path

from jobrunner.database import Database
from jobrunner.kernel import FileChanges, file_changes, stop_watching, watch_changes
from jobrunner.lifetime import Closing

POLL_SECONDS = 0.5
"""How often to look where nothing wakes us: the fallback behind inotify."""
POLL_SECONDS_UNWATCHED = 0.05
"""The same where the kernel cannot tell us that a file was written."""
_LOOKS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
"""The file is written before the commit can be seen, which is after the disk has taken it: look again, and again.
For those who do not touch it after their commit, as our own connections do (`connection.Committed`)."""
_AFTER_TOUCH = 5
"""Where the looks begin after a commit that can be seen already: of whoever touched the file, or our own."""


class CommitWatch(Closing):
    """A watch on a database's write-ahead log; it starts with the database open and ends with `close`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = database.version
        self._descriptor = watch_changes(Path(f"{database.path}-wal"))
        self._looks = len(_LOOKS)
        self._look_again_at: float | None = None
        self._asked_at = time.monotonic()
        self._was_touched = False

    def close(self) -> None:
        """Stop watching."""
        if self._descriptor is not None:
            stop_watching(self._descriptor)
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
        return self._interval

    @property
    def is_due(self) -> bool:
        """Whether `has_committed` would look even where the descriptor tells nothing."""
        at = self._asked_at + self._interval if self._look_again_at is None else self._look_again_at
        return time.monotonic() >= at

    def has_committed(self) -> bool:
        """Whether another connection has committed since the last time that this was asked."""
        now = time.monotonic()
        changes = self._changes()
        if changes.touched:
            self._begin_looks(_AFTER_TOUCH)
        elif changes.written:
            self._begin_looks(0)
        elif self._look_again_at is not None and now >= self._look_again_at:
            self._next_look()
        elif now < self._asked_at + self._interval:
            return False
        self._asked_at = now
        version = self._database.version
        changed = version != self._version
        self._version = version
        return changed

    def committed_ourselves(self) -> None:
        """What woke us was, as good as surely, our own commit."""
        if any(self._changes()):
            self._begin_looks(_AFTER_TOUCH)

    def _begin_looks(self, at: int) -> None:
        self._looks = at
        self._next_look()

    def _next_look(self) -> None:
        left = self._looks < len(_LOOKS)
        self._look_again_at = time.monotonic() + _LOOKS[self._looks] if left else None
        self._looks += 1

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody commits; False where nobody seems to have within `seconds` or the poll's interval."""
        poll = select.poll()  # not select(): a caller may have more than 1024 descriptors open
        if self._descriptor is not None:
            poll.register(self._descriptor, select.POLLIN)
        until = time.monotonic() + min(seconds, self._interval)
        while True:
            poll.poll(1000 * max(0.0, min(until - time.monotonic(), self.poll_seconds)))
            # The version does not tell of other threads, which share the connection: the touch does.
            if self.has_committed() or self._was_touched:
                return True
            if time.monotonic() >= until:
                return False

    def _changes(self) -> FileChanges:
        changes = FileChanges(False, False) if self._descriptor is None else file_changes(self._descriptor)
        # A relaxed connection touches nothing: what it has written, others can see.
        self._was_touched = changes.touched or (self._database.relaxed and changes.written)
        return changes

    @property
    def _interval(self) -> float:
        return POLL_SECONDS if self._descriptor is not None else POLL_SECONDS_UNWATCHED
