"""A runner's look at its own database, once a second: whether it is still the file that it was, and has room.

Nothing is written, and no file is opened: closing it again would drop the locks that SQLite holds for this process.
"""

import logging
import os
import sys
import time
from pathlib import Path

from jobrunner.database import Database
from jobrunner.database_file import descriptors_of, free_bytes
from jobrunner.errors import DatabaseBroken, NotAllowed, NotWritten
from jobrunner.runner.log_readers import Reader, readers
from jobrunner.runner.settings import RunSettings

LOOK_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.25
_TELL_AGAIN_SECONDS = 60.0
_HEADER_BYTES = 100
_INDEX_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_PARTS = {
    "": "the database",
    "-wal": "its write-ahead log",
    "-shm": "the index of its write-ahead log",
    "-runners": "the locks that tell who is alive",
}

log = logging.getLogger("jobrunner.runner")


class SelfCheck:
    """From the moment at which the database and the runner's lock file are open."""

    def __init__(self, database: Database, settings: RunSettings) -> None:
        self._database = database
        self._path = database.path
        self._min_free = settings.min_free
        self._max_wal = settings.max_wal
        self._files = {part: self._file(part).stat() for part in _PARTS}
        self._descriptors = {part: next(iter(descriptors_of(facts)), None) for part, facts in self._files.items()}
        self._look_at = 0.0
        self._looked_short = False
        self._largest = 0
        self._read: set[Reader] = set()
        self._tell_at = 0.0
        self.is_short_of_room = False
        """Whether less is free than the settings say: what is left is for outcomes."""

    def look(self) -> None:
        """Where it is time: DatabaseBroken, NotAllowed or ForeignDatabase when the file is not what it was."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        try:
            self._check_files()
            self._check_access()
            self._check_content()
            self._database.check_schema()
        except NotWritten:
            raise  # it can be tried again
        except (DatabaseBroken, NotAllowed):
            self._spare_files()
            raise
        self._look_for_room()
        self._look_at_log()

    def _file(self, part: str) -> Path:
        return Path(f"{self._path}{part}")

    def _check_files(self) -> None:
        for part, what in _PARTS.items():
            file = self._file(part)
            try:
                facts = file.stat()
            except FileNotFoundError:
                raise DatabaseBroken(f"{file} was deleted or moved away under this runner: it was {what}") from None
            except OSError as error:
                raise DatabaseBroken(f"{file} cannot be looked at any more: {error.strerror}") from error
            if not os.path.samestat(facts, self._files[part]):
                raise DatabaseBroken(f"{file} was replaced by another file under this runner: it is {what}")
        if self._database.has_moved:
            raise DatabaseBroken(f"{self._path} was replaced by another file under this runner: it is the database")

    def _spare_files(self) -> None:
        """Closing must not write into a file, or delete a log, that others have put there."""
        try:
            gone = {part for part in _PARTS if not self._file(part).exists()}
        except OSError:
            gone = set()
        if gone != {"-wal"}:  # what is in a deleted log is known to us alone, and closing brings it into the database
            self._database.leave_log()

    def _check_access(self) -> None:
        for file in (self._path, self._file("-wal"), self._path.parent):
            if not os.access(file, os.W_OK):
                raise NotAllowed(f"{file} may not be written any more")

    def _check_content(self) -> None:
        database, index = self._descriptors[""], self._descriptors["-shm"]
        if database is None or index is None:
            return
        header = os.pread(database, _HEADER_BYTES, 0)
        if len(header) == _HEADER_BYTES and not header.startswith(_MAGIC):
            raise DatabaseBroken(f"{self._path} was overwritten under this runner: `jobrunner doctor` tells more")
        size = os.fstat(database).st_size
        # Who was killed while it copied the log into the file has left it shorter than its first page says; the rest
        # is in the log still. So it is cut only where it was larger before.
        is_short = size < min(_size(header), self._largest)
        self._largest = max(self._largest, size)
        is_short |= self._file("-wal").stat().st_size < _log_size(os.pread(index, _INDEX_BYTES, 0))
        if is_short and self._looked_short:
            raise DatabaseBroken(
                f"{self._path} or its write-ahead log was truncated under this runner: `jobrunner doctor` tells more"
            )
        if is_short:  # while a checkpoint writes, the first page may come before the last: look again
            self._look_at = time.monotonic() + _LOOK_AGAIN_SECONDS
        self._looked_short = is_short

    def _look_for_room(self) -> None:
        free = free_bytes(self._path)
        is_short = free < self._min_free
        if is_short and not self.is_short_of_room:
            log.error(
                "only %s bytes are free for %s: no job is started until there are %s (--min-free)",
                f"{free:,}",
                self._path,
                f"{self._min_free:,}",
            )
        elif self.is_short_of_room and not is_short:
            log.warning("%s bytes are free for %s: jobs are started again", f"{free:,}", self._path)
        self.is_short_of_room = is_short

    def _look_at_log(self) -> None:
        """Tell who reads an old state for so long that the log only grows; claims go on."""
        size = self._file("-wal").stat().st_size
        before, self._read = self._read, readers(self._path) if size > self._max_wal else set()
        stuck = sorted(before & self._read)
        if stuck and time.monotonic() >= self._tell_at:
            self._tell_at = time.monotonic() + _TELL_AGAIN_SECONDS
            log.warning(
                "%s has grown to %s bytes, and grows on until %s ends its read transaction",
                self._file("-wal"),
                f"{size:,}",
                ", ".join(map(str, stuck)),
            )


def _size(header: bytes) -> int:
    """The least that a database file with this header has; in WAL mode its last pages may be in the log alone."""
    if len(header) < _HEADER_BYTES:
        return _HEADER_BYTES
    page = int.from_bytes(header[16:18], "big")
    return (1 << 16 if page == 1 else page) * int.from_bytes(header[28:32], "big")


def _log_size(index: bytes) -> int:
    """The least that the log has by its index, where the database lacks something of it; 0 while that changes."""
    # SQLite's wal-index format: a header of 48 bytes, twice, and then how many frames are in the database already.
    if len(index) < _INDEX_BYTES or index[:48] != index[48:96]:
        return 0
    page, frames, copied = (int.from_bytes(index[at:end], sys.byteorder) for at, end in ((14, 16), (16, 20), (96, 100)))
    return 32 + frames * ((1 << 16 if page == 1 else page) + 24) if copied < frames else 0
