"""One connection to the database file: open, query by name, transact. The only module that knows apsw."""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw

from jobrunner import sql
from jobrunner.database_file import check_file, make_file
from jobrunner.errors import DatabaseBroken, DatabaseBusy, ForeignDatabase, JobRunnerError, NoDatabase, NotAllowed

APPLICATION_ID = 1785884274
SCHEMA_VERSION = 1
OLDEST_SQLITE = (3, 51, 3)
"""Older libraries can lose commits when a WAL is reset."""
BUSY_SECONDS = 30.0
"""How long to wait for another's write transaction before giving up."""

Row = tuple[Any, ...]
Value = None | int | float | str | bytes


class Database:
    """A connection that starts with `open` and ends with `close`; one process, any thread, one at a time.

    `relaxed` commits without waiting for the disk: a power cut may then forget the last moments.
    """

    def __init__(
        self, path: Path, *, create: bool = False, relaxed: bool = False, checkpoint_pages: int = 10_000
    ) -> None:
        self.path = path
        if not path.exists() and not create:
            raise NoDatabase(path)
        made = make_file(path) if create else False
        check_file(path)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._depth = 0
        with _told(path):
            self._connection = _connect(path, relaxed, checkpoint_pages)
            try:
                self._prepare_schema(made)
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; harmless when closed already."""
        if self._pid == os.getpid():
            self._connection.close()

    def query(self, name: str, **bindings: Value) -> list[Row]:
        """Run the named statement and give all its rows."""
        with self._lock, _told(self.path):
            return self._mine().execute(sql.queries()[name], bindings).fetchall()

    def one(self, name: str, **bindings: Value) -> Row | None:
        """The first row of the named statement."""
        rows = self.query(name, **bindings)
        return rows[0] if rows else None

    def change(self, name: str, **bindings: Value) -> int:
        """Run the named statement and tell how many rows it changed itself."""
        with self._lock:
            self.query(name, **bindings)
            return self._connection.changes()

    def change_many(self, name: str, rows: Iterable[tuple[Value, ...]]) -> None:
        """Run the named statement once for each row of values."""
        with self._lock, _told(self.path):
            self._mine().executemany(sql.queries()[name], rows)

    def script(self, text: str) -> None:
        """Run a whole script, for schemas and migrations."""
        with self._lock, _told(self.path):
            self._mine().execute(text).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE to COMMIT; inside another one a savepoint, so that a part can fail alone."""
        with self._lock:
            begin, end, undo = _BORDERS[self._depth > 0]
            with _told(self.path):
                self._mine().execute(begin)
            self._depth += 1
            try:
                yield
                with _told(self.path):
                    self._connection.execute(end)
            except BaseException:
                self._undo(undo)
                raise
            finally:
                self._depth -= 1

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let several queries see one and the same state; inside a transaction they do anyway."""
        with self._lock:
            if self._depth or self._mine().in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def _undo(self, undo: str) -> None:
        # A full disk or a damaged file has rolled everything back already.
        if self._connection.in_transaction:
            self._connection.execute(undo)

    @property
    def version(self) -> int:
        """A number that changes when another connection has committed (PRAGMA data_version)."""
        with self._lock, _told(self.path):
            # The method Connection.data_version() misses foreign commits while this connection is idle.
            return int(self._mine().pragma("data_version"))

    def _mine(self) -> apsw.Connection:
        # A connection carried over a fork takes no locks and loses commits.
        if self._pid != os.getpid():
            raise JobRunnerError(
                "this process was forked after the database was opened, and must not use the connection of its parent: "
                "open the App in the child"
            )
        return self._connection

    def _prepare_schema(self, made: bool) -> None:
        application_id, version, objects, journal = self.query("identity")[0]
        if application_id == APPLICATION_ID and version == SCHEMA_VERSION and journal == "wal":
            return
        if application_id == 0 and version == 0 and objects == 0:
            self._create_schema()
        elif application_id != APPLICATION_ID:
            raise ForeignDatabase(f"{self.path} is a database of another program, and is left as it is")
        elif version > SCHEMA_VERSION:
            raise ForeignDatabase(
                f"{self.path} has schema version {version}, made by a newer jobrunner (this one knows {SCHEMA_VERSION}): "
                "update with `pip install -U sqlite-jobrunner`"
            )
        else:
            migrate(self, version, SCHEMA_VERSION, sql.migrations())

    def _create_schema(self) -> None:
        text = sql.schema()
        before, _, rest = text.partition("BEGIN IMMEDIATE;")
        self._connection.execute(before).fetchall()
        with self.transaction():
            # Somebody else may have made it since we looked.
            if self.query("identity")[0][:3] == (0, 0, 0):
                self.script(rest.rpartition("COMMIT;")[0])


def migrate(database: Database, version: int, target: int, scripts: dict[int, str]) -> None:
    """Lead the schema from `version` to `target`, each step in a transaction of its own."""
    for step in range(version + 1, target + 1):
        with database.transaction():
            if database.query("identity")[0][1] < step:
                database.script(scripts[step])
                database.script(f"PRAGMA user_version = {step}")


_BORDERS = {
    False: ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"),
    True: ("SAVEPOINT part", "RELEASE part", "ROLLBACK TO part; RELEASE part"),
}


def _connect(path: Path, relaxed: bool, checkpoint_pages: int) -> apsw.Connection:
    if _library() < OLDEST_SQLITE:
        raise JobRunnerError(f"SQLite {apsw.sqlite_lib_version()} is too old (a WAL bug): pip install -U apsw")
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_handler(_wait_briefly())
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    connection.pragma("synchronous", 1 if relaxed else 2)
    connection.pragma("foreign_keys", 1)
    connection.pragma("wal_autocheckpoint", checkpoint_pages)
    connection.pragma("journal_size_limit", 64 << 20)
    return connection


def _library() -> tuple[int, ...]:
    return tuple(int(part) for part in apsw.sqlite_lib_version().split("."))


class _wait_briefly:
    """A busy handler with short sleeps: SQLite's own sleeps up to 100 ms and starves writers."""

    def __init__(self) -> None:
        self._since = 0.0

    def __call__(self, calls: int) -> bool:
        now = time.monotonic()
        if calls == 0:
            self._since = now
        if now - self._since > BUSY_SECONDS:
            return False
        time.sleep(min(0.0002 * (calls + 1), 0.001))
        return True


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say SQLite's errors in sentences."""
    try:
        yield
    except apsw.BusyError as error:
        raise DatabaseBusy(f"{path}: another process held the write lock for {BUSY_SECONDS:g} s") from error
    except apsw.NotADBError as error:
        raise ForeignDatabase(f"{path} is not a SQLite database, and is left as it is") from error
    except (apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError) as error:
        raise NotAllowed(f"{path} cannot be written: {error}") from error
    except (apsw.CorruptError, apsw.IOError, apsw.FullError, apsw.CantOpenError) as error:
        raise DatabaseBroken(f"{path}: {error}") from error
