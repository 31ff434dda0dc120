"""How a connection is made, how it waits for others, and how it tells them of its commits."""

import contextlib
import os
import time
from array import array
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import apsw

from jobrunner.database_file import descriptors_of
from jobrunner.errors import (
    JobRunnerError,
    OtherLibrary,
)

OLDEST_SQLITE = (3, 51, 3)
"""Older libraries can lose commits when a WAL is reset."""
_LONGEST_SLEEP = 0.001
_RELAXED_REST = 0.001
_STATEMENTS = 512
"""How many uses back a statement is still prepared: apsw's most. Each row of `executemany` is a use, so that with its
default of 100 a turn that records more would have every statement of the next one prepared anew."""


class Patience:
    """A busy handler with short sleeps: SQLite's own sleeps up to 100 ms and starves writers."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """How long to wait for another's write transaction before giving up."""
        self._since = 0.0

    def __call__(self, calls: int) -> bool:
        """Wait a moment and say whether to try once more; `calls` counts from 0 at each lock."""
        now = monotonic()
        if calls == 0:
            self._since = now
        if now - self._since > self.seconds:
            return False
        time.sleep(min(0.0002 * (calls + 1), _LONGEST_SLEEP))
        return True


class Anchor:
    """Knows whether the file that a connection has open is the one of its path still.

    An answer is good for `rest` seconds: to ask takes half of what a stat of ours does, and a sixth of a small insert.
    """

    def __init__(self, connection: apsw.Connection, rest: float) -> None:
        self._ask = connection.file_control
        self._answer = array("i", [0])
        self._place = self._answer.buffer_info()[0]
        self._rest = rest
        self._good_until = 0.0

    def has_moved(self) -> bool:
        """Whether the file has another name by now, or none."""
        if monotonic() < self._good_until:
            return False
        self._ask("main", apsw.SQLITE_FCNTL_HAS_MOVED, self._place)
        self._good_until = monotonic() + self._rest
        return self._answer[0] != 0


class Opened(NamedTuple):
    """A connection with the cursor that all statements share, each of which is read to its end.

    To make one takes as long as a small statement.
    """

    connection: apsw.Connection
    cursor: apsw.Cursor
    anchor: Anchor


_TO_TOUCH = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Committed:
    """What is done after each commit of ours, when others can see it.

    Its write was seen before it; a watcher that would have to guess how long the disk takes is told by a touch of
    the log (`commit_watch`): it is opened to be read, and closed. (To set its time instead costs the next commit a
    fifth more, since the disk has to take that, too. No lock is lost: SQLite's are on the other two files.) Then the
    log is brought into the file, where it has so many pages: SQLite's own way to do that is a hook in the same place.
    """

    def __init__(self, path: Path, checkpoint_pages: int) -> None:
        self._log = f"{path}-wal"
        self._checkpoint_pages = checkpoint_pages

    def __call__(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """Called by SQLite."""
        with contextlib.suppress(OSError):  # it is gone, or not ours: who looks now and then sees the commit
            os.close(os.open(self._log, _TO_TOUCH))
        if pages >= self._checkpoint_pages:
            with contextlib.suppress(apsw.Error):  # it is done after a later commit
                connection.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK


def connect(
    path: Path, patience: Patience, *, relaxed: bool, checkpoint_pages: int, undo_in_memory: bool = False
) -> Opened:
    """Open the file with all the settings that jobrunner needs; it must exist.

    `undo_in_memory`: what undoes a statement or a part of a transaction that fails is kept in memory; SQLite puts more
    than 64 kB of it into a file, which each turn of a busy runner would make anew.
    """
    if tuple(map(int, apsw.sqlite_lib_version().split("."))) < OLDEST_SQLITE:
        raise JobRunnerError(
            f"SQLite {apsw.sqlite_lib_version()} is too old (it can lose commits): pip install -U apsw"
        )
    refuse_other_library(path)
    connection = apsw.Connection(
        itself(path),
        flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW,
        statementcachesize=_STATEMENTS,
    )
    connection.set_busy_handler(patience)
    # With it a prepared statement is not prepared again at each execution.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    connection.pragma("synchronous", 1 if relaxed else 2)
    connection.pragma("foreign_keys", 1)
    if relaxed:  # what is written can be seen at once
        connection.pragma("wal_autocheckpoint", checkpoint_pages)
    else:
        connection.set_wal_hook(Committed(path, checkpoint_pages))
    connection.pragma("journal_size_limit", 64 << 20)
    if undo_in_memory:
        connection.pragma("temp_store", 2)
    return Opened(connection, connection.cursor(), Anchor(connection, _RELAXED_REST if relaxed else 0.0))


def itself(path: Path) -> str:
    """The path without links in its folders: so SQLite can refuse one that was put in the place of the file."""
    return str(path.parent.resolve() / path.name)


def refuse_other_library(path: Path) -> None:
    """OtherLibrary where this process has the file open, and not through apsw.

    Two SQLite libraries in one process do not know of each other, and POSIX drops all locks that a process has on a
    file when any of its descriptors of it is closed: commits get lost. Asked before our own is opened, since closing
    that would do it. What is opened later by others cannot be seen from here.
    """
    try:
        facts = path.stat()
    except OSError:
        return  # opening it tells why
    if descriptors_of(facts) and not any(_is_on(connection, facts) for connection in apsw.connections()):
        raise OtherLibrary(path)


def _is_on(connection: apsw.Connection, facts: os.stat_result) -> bool:
    try:
        return os.path.samestat(Path(connection.filename).stat(), facts)
    except (OSError, apsw.Error):  # in memory, closed, or of a file that is gone
        return False


def make_wal(connection: apsw.Connection, script: str, seconds: float) -> None:
    """Run the script that puts a new file into WAL mode.

    Where another process does the same just now, SQLite says at once that it is locked, and asks no busy handler.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _is_done(connection, script):
            return
        time.sleep(0.002)
    connection.execute(script).fetchall()  # and say why not


def _is_done(connection: apsw.Connection, script: str) -> bool:
    try:
        connection.execute(script).fetchall()
    except apsw.BusyError:
        return False
    return True
