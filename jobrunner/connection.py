"""How a connection is made, how it waits for others, and what SQLite's errors are called.

This module and `database` are all that knows apsw.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from jobrunner import sql
from jobrunner.database_file import check_file, descriptors_of
from jobrunner.errors import (
    DatabaseBroken,
    DatabaseBusy,
    ForeignDatabase,
    JobRunnerError,
    NotAllowed,
    NotSerializable,
    NotWritten,
    OtherLibrary,
    UsageError,
)

OLDEST_SQLITE = (3, 51, 3)
"""Older libraries can lose commits when a WAL is reset."""
_LONGEST_SLEEP = 0.001
_PAGES_AT_ONCE = 1000
_STATEMENTS = 512
"""How many uses back a statement is still prepared: apsw's most. Each row of `executemany` is a use, so that with its
default of 100 a turn that records more would have every statement of the next one prepared anew."""
_READ_ONLY = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW
_DAMAGES = (apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_DATA)
"""I/O errors that no second try mends."""


class Patience:
    """A busy handler with short sleeps: SQLite's own sleeps up to 100 ms and starves writers."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        """How long to wait for another's write transaction before giving up."""
        self._since = 0.0

    def __call__(self, calls: int) -> bool:
        """Wait a moment and say whether to try once more; `calls` counts from 0 at each lock."""
        now = time.monotonic()
        if calls == 0:
            self._since = now
        if now - self._since > self.seconds:
            return False
        time.sleep(min(0.0002 * (calls + 1), _LONGEST_SLEEP))
        return True


class Committed:
    """What is done after each commit of ours, when others can see it.

    Its write was seen before it; a watcher that would have to guess how long the disk takes is told by a touch of
    the log (`commit_watch`), which costs 2 microseconds. Then the log is brought into the file, where it has so many
    pages: SQLite's own way to do that is a hook in the same place.
    """

    def __init__(self, path: Path, checkpoint_pages: int) -> None:
        self._log = f"{path}-wal"
        self._checkpoint_pages = checkpoint_pages

    def __call__(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """Called by SQLite."""
        with contextlib.suppress(OSError):  # it is gone, or not ours: who looks now and then sees the commit
            os.utime(self._log)
        if pages >= self._checkpoint_pages:
            with contextlib.suppress(apsw.Error):  # it is done after a later commit
                connection.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
        return apsw.SQLITE_OK


def connect(path: Path, patience: Patience, *, relaxed: bool, checkpoint_pages: int) -> apsw.Connection:
    """Open the file with all the settings that jobrunner needs; it must exist."""
    if tuple(map(int, apsw.sqlite_lib_version().split("."))) < OLDEST_SQLITE:
        raise JobRunnerError(
            f"SQLite {apsw.sqlite_lib_version()} is too old (it can lose commits): pip install -U apsw"
        )
    refuse_other_library(path)
    connection = apsw.Connection(
        _itself(path),
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
    connection.set_wal_hook(Committed(path, checkpoint_pages))
    connection.pragma("journal_size_limit", 64 << 20)
    return connection


def _itself(path: Path) -> str:
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


def has_moved(connection: apsw.Connection) -> bool:
    """Whether the file that is open has another name by now, or none."""
    import ctypes  # 2 ms that no other use of a database needs

    answer = ctypes.c_int(0)
    connection.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, ctypes.addressof(answer))
    return bool(answer.value)


TOLD = (apsw.Error, UnicodeError, OverflowError)
"""What `told` has sentences for."""


def told(path: Path) -> "_Telling":
    """Say SQLite's errors in sentences, for a `with` block."""
    return _Telling(path)


class _Telling:
    # Not a generator: it stands around many a statement, and would cost what a small one does.
    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and (known := _known(self._path, error)) is not None:
            raise known from error


def _known(path: Path, error: BaseException) -> JobRunnerError | None:
    if isinstance(error, apsw.Error):
        return _of_sqlite(path, error)
    if isinstance(error, UnicodeEncodeError):
        return NotSerializable("a text contains a lone surrogate, which cannot be kept")
    if isinstance(error, UnicodeDecodeError):
        return DatabaseBroken(f"{path}: a text in it is not UTF-8, and cannot be read: {error}")
    return (
        UsageError("a number is larger than 64 bits, and cannot be kept") if isinstance(error, OverflowError) else None
    )


def _of_sqlite(path: Path, error: apsw.Error) -> JobRunnerError | None:
    match error:
        case apsw.BusyError():
            return DatabaseBusy(f"{path}: another process holds the write lock")
        case apsw.NotADBError():
            return ForeignDatabase(f"{path} is not a SQLite database, and is left as it is")
        case apsw.ReadOnlyError() | apsw.PermissionsError() | apsw.AuthError():
            return NotAllowed(f"{path} cannot be written: {error}")
        case apsw.FullError() | apsw.IOError() if getattr(error, "extendedresult", 0) not in _DAMAGES:
            return NotWritten(f"{path} cannot be read or written: {error}")
        case apsw.ConstraintError() | apsw.MismatchError():
            return UsageError(str(error))
    sentence = _BROKEN.get(type(error))
    return None if sentence is None else DatabaseBroken(f"{path}{sentence.format(error)}")


_SEE_DOCTOR = ": `jobrunner doctor` tells more"
_BROKEN = {
    apsw.CorruptError: " is damaged ({})" + _SEE_DOCTOR,
    apsw.IOError: " is damaged ({})" + _SEE_DOCTOR,
    apsw.CantOpenError: ": {}",
    apsw.SQLError: ": its schema was changed ({})" + _SEE_DOCTOR,
}


def copy(path: Path, target: Path) -> None:
    """Copy the database as it is now into an empty file, while others go on; the copy is checked."""
    refuse_other_library(path)
    with (
        told(path),
        contextlib.closing(apsw.Connection(_itself(path), flags=_READ_ONLY)) as source,
        contextlib.closing(apsw.Connection(str(target))) as made,
    ):
        source.set_busy_handler(Patience(30.0))
        # One read transaction: the WAL keeps what it needs, writers go on, and the copy never has to begin anew.
        source.execute("BEGIN")
        source.pragma("schema_version")
        with told(target), made.backup("main", source, "main") as work:
            while not work.done:
                work.step(_PAGES_AT_ONCE)
        source.execute("ROLLBACK")
        if made.pragma("quick_check") != "ok":
            raise DatabaseBroken(f"{path} is damaged, and so is its copy: `jobrunner doctor` tells more")


def objects_of(script: str) -> dict[str, str]:
    """What a schema makes, by name: the text of each as SQLite keeps it."""
    with contextlib.closing(apsw.Connection(":memory:")) as connection:
        connection.execute(script).fetchall()
        return {str(name): str(text) for name, text in connection.execute(sql.queries()["objects"])}


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


@contextmanager
def borrowing(path: Path) -> Iterator[apsw.Connection]:
    """A write transaction in a file that need not be ours, and is in WAL mode after it."""
    check_file(path)
    with told(path):
        refuse_other_library(path)
        with contextlib.closing(apsw.Connection(_itself(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            connection.set_busy_handler(Patience(30.0))
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", 2)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise


def statements_of(script: str) -> list[str]:
    """The statements of a script, one by one."""
    found, text = [], ""
    for line in script.splitlines(keepends=True):
        text += "" if not text.strip() and line.lstrip().startswith("--") else line
        if line.rstrip().split("--")[0].rstrip().endswith(";") and apsw.complete(text):
            found.append(text.strip())
            text = ""
    return found


class Found(NamedTuple):
    """A row that a script gave: the number of its statement, from 1 on, the names of its columns, and its values."""

    statement: int
    columns: tuple[str, ...]
    row: tuple[Any, ...]


def ask(path: Path, script: str, *, write: bool = False) -> Iterator[Found]:
    """The rows that a person's SQL gives, on a connection of its own, which cannot change anything unless `write`."""
    check_file(path)
    refuse_other_library(path)
    flags = apsw.SQLITE_OPEN_READWRITE if write else apsw.SQLITE_OPEN_READONLY
    flags |= apsw.SQLITE_OPEN_NOFOLLOW
    with told(path), contextlib.closing(apsw.Connection(_itself(path), flags=flags)) as connection:
        connection.set_busy_handler(Patience(30.0))
        connection.pragma("foreign_keys", 1)
        cursor = connection.cursor()
        begun: list[tuple[str, ...]] = []
        cursor.exec_trace = partial(_begin, begun)
        try:
            for row in cursor.execute(script):
                yield Found(len(begun), begun[-1], row)
        except apsw.ReadOnlyError as error:
            raise UsageError("this SQL changes the database: to allow that, add --write") from error
        except apsw.SQLError as error:
            raise UsageError(f"SQL: {error}") from error


def _begin(begun: list[tuple[str, ...]], cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
    begun.append(tuple(column[0] for column in cursor.get_description()))
    return True
