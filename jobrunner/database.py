"""One connection to the database file: open, query by name, transact. With its neighbours, all that knows apsw."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from jobrunner import forks, sql
from jobrunner.connection import Opened, Patience, connect, make_wal
from jobrunner.database_file import check_file, make_file
from jobrunner.errors import DatabaseBroken, DatabaseBusy, ForeignDatabase, JobRunnerError, NotBegun
from jobrunner.identity import SCHEMA_VERSION, Identity
from jobrunner.lifetime import Closing
from jobrunner.sqlite_errors import TOLD, told

Row = tuple[Any, ...]
Value = None | int | float | str | bytes


class Database(Closing):
    """A connection that starts here and ends with `close`; any thread, one at a time.

    `relaxed` commits without waiting for the disk: a power cut may then forget the last moments.
    NoDatabase where there is no file and `create` is not set.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = False,
        relaxed: bool = False,
        checkpoint_pages: int = 10_000,
        undo_in_memory: bool = False,
    ) -> None:
        self.path = path
        self.patience = Patience(30.0)
        self.relaxed = relaxed
        self._checkpoint_pages = checkpoint_pages
        self._undo_in_memory = undo_in_memory
        self._lock = threading.RLock()
        self._depth = 0
        self._opened: Opened | None = None
        self._closed = False
        self._sql = sql.queries()
        if create:
            make_file(path)
        check_file(path)
        try:
            self._prepare_schema()
        except BaseException:
            self.close()
            raise
        forks.heed(self)

    def close(self) -> None:
        """Close the connection; harmless when closed already."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def query(self, name: str, **bindings: Value) -> list[Row]:
        """Run the named statement and give all its rows."""
        with self._lock:
            try:
                return self._mine().cursor.execute(self._sql[name], bindings).fetchall()
            except TOLD:
                with told(self.path):
                    raise

    def one(self, name: str, **bindings: Value) -> Row | None:
        """The first row of the named statement."""
        rows = self.query(name, **bindings)
        return rows[0] if rows else None

    def change(self, name: str, **bindings: Value) -> int:
        """Run the named statement and tell how many rows it changed itself."""
        with self._lock:
            self.query(name, **bindings)
            return self._mine().connection.changes()

    def change_many(self, name: str, rows: Iterable[tuple[Value, ...]]) -> list[Row]:
        """Run the named statement once for each row of values; gives all rows that it returns."""
        with self._lock, told(self.path):
            return self._mine().connection.executemany(self._sql[name], rows).fetchall()

    def insert(self, name: str, row: tuple[Value, ...]) -> Any:
        """Run the named INSERT with a row of values; gives the row's number."""
        with self._lock:  # not acquire and release: a signal handler that raises between the two would leave it locked
            try:
                opened = self._opened or self._mine()
                if self._depth == 0 and opened.anchor.has_moved():
                    raise self._gone()
                opened.cursor.execute(self._sql[name], row)
                return opened.connection.last_insert_rowid()
            except TOLD:
                with told(self.path):
                    raise

    def script(self, text: str) -> None:
        """Run a whole script, for schemas and migrations."""
        with self._lock, told(self.path):
            self._mine().connection.execute(text).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE to COMMIT; inside another one a savepoint, so that a part can fail alone."""
        with self._lock:
            begin, end, undo = _BORDERS[self._depth > 0]
            self._begin(begin)
            self._depth += 1
            try:
                yield
                with told(self.path):
                    self._mine().cursor.execute(end)
            except BaseException:
                self._undo(undo)
                raise
            finally:
                self._depth -= 1

    def _begin(self, begin: str) -> None:
        try:
            with told(self.path):
                mine = self._mine()
                if self._depth == 0 and mine.anchor.has_moved():
                    raise self._gone()
                mine.cursor.execute(begin)
        except DatabaseBusy as error:
            raise NotBegun(str(error)) from error

    def _gone(self) -> DatabaseBroken:
        # SQLite goes on writing into a file that was deleted, and what it says is done would be lost.
        return DatabaseBroken(f"{self.path} was deleted or replaced since this process opened it: open it anew")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let several queries see one and the same state; inside a transaction they do anyway."""
        with self._lock:
            if self._depth:
                yield
                return
            self._mine().cursor.execute("BEGIN")
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                self._mine().cursor.execute("ROLLBACK")

    def _undo(self, undo: str) -> None:
        # A full disk or a damaged file has rolled everything back already.
        if self._mine().connection.in_transaction:
            with told(self.path):
                self._mine().connection.execute(undo)

    @property
    def version(self) -> int:
        """A number that changes when another connection has committed (PRAGMA data_version)."""
        with self._lock, told(self.path):
            # The method Connection.data_version() misses foreign commits while this connection is idle.
            return int(self._mine().connection.pragma("data_version"))

    @property
    def has_moved(self) -> bool:
        """Whether the file that is open is not the one of this path any more."""
        with self._lock, told(self.path):
            return self._mine().anchor.has_moved()

    def leave_log(self) -> None:
        """From now on closing touches neither the file nor its log: they may be somebody else's by now."""
        with self._lock:
            self._mine().connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)

    def check_schema(self) -> None:
        """ForeignDatabase where the file is not one that this jobrunner can work with as it is."""
        identity = self.identity
        self._refuse_foreign(identity)
        if identity.version != SCHEMA_VERSION:
            raise ForeignDatabase(f"{self.path} has schema version {identity.version}, and had {SCHEMA_VERSION}")

    def _mine(self) -> Opened:
        if self._opened is None:
            if self._closed:
                raise JobRunnerError(f"{self.path} was closed: open it anew")
            self._opened = connect(
                self.path,
                self.patience,
                relaxed=self.relaxed,
                checkpoint_pages=self._checkpoint_pages,
                undo_in_memory=self._undo_in_memory,
            )
        return self._opened

    def _disconnect(self) -> None:
        if self._opened is not None:
            self._opened.connection.close()
            self._opened = None

    # A connection that is open across a fork takes no locks in the child, nor does any other that the child
    # opens on the file: commits get lost. So it is closed before, and opened anew where it is next used.

    def before_fork(self) -> None:
        """Let go of the file, once no other thread is in the middle of something."""
        self._lock.acquire()
        if self._depth == 0:
            self._disconnect()

    def after_fork(self) -> None:
        """In the parent: go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """In the child: go on, unless the fork was made in the middle of a transaction, which stays the parent's."""
        if self._opened is not None:
            import ctypes  # 2 ms that no other use of a database needs

            # Never to be closed here, not even by the garbage collector: that would roll the parent's work back.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._opened))
            self._closed, self._opened, self._depth = True, None, 0
        self._lock.release()

    def _prepare_schema(self) -> None:
        identity = self.identity
        if identity.is_ours and identity.version == SCHEMA_VERSION and identity.journal == "wal":
            return
        if identity.is_empty:
            self._create_schema()
            return
        self._refuse_foreign(identity)
        migrate(self, identity.version, SCHEMA_VERSION, sql.migrations())
        self._insist_on_wal()

    @property
    def identity(self) -> Identity:
        """Whose database it is, and of which version."""
        return Identity(*self.query("identity")[0])

    def _refuse_foreign(self, identity: Identity) -> None:
        if not identity.is_ours:
            raise ForeignDatabase(
                f"{self.path} is a database of another program, and is left as it is: `jobrunner init FILE` makes the "
                "tables of jobrunner in an application's own"
            )
        if identity.version > SCHEMA_VERSION:
            raise ForeignDatabase(
                f"{self.path} has schema version {identity.version}, and this jobrunner knows {SCHEMA_VERSION}: "
                "update with `pip install -U sqlite-jobrunner`"
            )

    def _insist_on_wal(self) -> None:
        # A copy made by VACUUM INTO, say, is none; in another mode a commit may be refused after all was done.
        with told(self.path):
            mode = self._mine().connection.pragma("journal_mode", "wal")
        if mode != "wal":
            raise DatabaseBroken(f"{self.path} cannot be put into WAL mode: is it on a network share?")

    def _create_schema(self) -> None:
        text = sql.schema()
        before, _, rest = text.partition("BEGIN IMMEDIATE;")
        with told(self.path):
            # Whatever was chosen for jobs: a file that is made is to survive a power cut right after it.
            self._mine().connection.pragma("synchronous", 2)
            make_wal(self._mine().connection, before, self.patience.seconds)
        with self.transaction():
            # Somebody else may have made it since we looked.
            if self.identity.is_empty:
                self.script(rest.rpartition("COMMIT;")[0])
        with told(self.path):
            self._mine().connection.pragma("synchronous", 1 if self.relaxed else 2)


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
