"""Our tables in an application's own database: made there, and written to on its connection, in its transaction."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from jobrunner import sql
from jobrunner.database import Database, Row, Value
from jobrunner.database_file import make_file
from jobrunner.errands import borrowing, statements_of
from jobrunner.errors import ForeignDatabase, UsageError
from jobrunner.identity import SCHEMA_VERSION, Identity

Execute = Callable[[str, Any], list[Row]]
"""Run a statement with its values, a tuple or a mapping, and give all rows."""


class Caller(NamedTuple):
    """A connection of a caller's: how to run a statement on it, and its transaction."""

    execute: Execute
    begin: Callable[[], None]
    """Begin a transaction, where its library would do that by itself before an INSERT."""
    is_in_transaction: Callable[[], bool]


_VIEW = re.compile(r"CREATE VIEW (\w+)")
_TRIGGER = re.compile(r"CREATE TRIGGER \w+ .*? ON (\w+)", re.DOTALL)


def install(execute: Execute) -> list[str]:
    """Make our tables where they are not; gives the views that were left out, since the application has the names."""
    if Identity(*execute(sql.queries()["identity"], ())[0]).is_ours:
        return []
    taken = {row[0] for row in execute(sql.queries()["objects"], ())}
    left_out: list[str] = []
    for statement in statements_of(sql.schema()):
        if statement.startswith(("PRAGMA", "BEGIN", "COMMIT")):
            continue
        view, trigger = _VIEW.match(statement), _TRIGGER.match(statement)
        if view is not None and _is_hindered(view[1], statement, taken, left_out):
            left_out.append(view[1])
        elif trigger is None or trigger[1] not in left_out:
            execute(statement, ())
    execute(sql.queries()["make_guest"], ())
    return left_out


def install_outbox(execute: Execute) -> None:
    """Make an outbox where there is none."""
    for statement in statements_of(sql.outbox()):
        execute(statement, ())


def install_outbox_into(path: Path) -> None:
    """Make an outbox in a file of an application, which is made where it is not there."""
    make_file(path)
    with borrowing(path) as connection:
        install_outbox(lambda text, values: connection.execute(text, values).fetchall())


def install_into(path: Path) -> list[str]:
    """Make our tables in a file of an application, in one transaction; gives the views that were left out."""
    with borrowing(path) as connection:
        return install(lambda text, values: connection.execute(text, values).fetchall())


@contextmanager
def savepoint(execute: Execute) -> Iterator[None]:
    """A part of the caller's transaction: all of it is there, or nothing."""
    execute("SAVEPOINT jobrunner", ())
    try:
        yield
    except BaseException:
        execute("ROLLBACK TO jobrunner", ())
        execute("RELEASE jobrunner", ())
        raise
    execute("RELEASE jobrunner", ())


def _is_hindered(name: str, statement: str, taken: set[str], left_out: list[str]) -> bool:
    reads = set(re.findall(r"(?:FROM|JOIN) (\w+)", statement))
    return name in taken or bool(reads & set(left_out))


class BorrowedDatabase(Database):
    """The queries on a connection of the caller's, whose transactions are the caller's: none is begun or ended here."""

    def __init__(self, caller: Caller, path: Path) -> None:
        # Nothing of an own connection: there is none.
        self._execute, self._begin_as_caller = caller.execute, caller.begin
        self._nested = 0
        self.path = path
        with contextlib.suppress(Exception):  # where that cannot be, what follows tells why
            if caller.is_in_transaction():
                self.query("take_write_lock")
        self._check(path)

    def _check(self, path: Path) -> None:
        try:
            identity, files = self.identity, self.query("main_file")
        except Exception as error:  # whatever the caller's library raises
            raise UsageError(f"this connection cannot be used: {error}") from error
        file = Path(files[0][0]) if files and files[0][0] else None
        if file is None or not file.exists() or not path.exists() or not file.samefile(path):
            raise UsageError(f"this connection is to {file or 'no file'}, and the jobs are in {path}")
        if not identity.is_ours:
            raise UsageError(
                f"{path} has no tables of jobrunner: make them with app.install(conn), or `jobrunner init {path}`"
            )
        if identity.version != SCHEMA_VERSION:
            raise ForeignDatabase(f"{path} has schema version {identity.version}, and this jobrunner {SCHEMA_VERSION}")

    def close(self) -> None:
        """Nothing: the connection is the caller's."""

    def query(self, name: str, **bindings: Value) -> list[Row]:
        """Run the named statement and give all its rows."""
        return self._execute(sql.queries()[name], bindings)

    def change(self, name: str, **bindings: Value) -> int:
        """Run the named statement and tell how many rows it changed itself."""
        self.query(name, **bindings)
        return int(self.query("changes")[0][0])

    def change_many(self, name: str, rows: Iterable[tuple[Value, ...]]) -> list[Row]:
        """Run the named statement once for each row of values; gives all rows that it returns."""
        return [found for row in rows for found in self._execute(sql.queries()[name], row)]

    def insert(self, name: str, row: tuple[Value, ...]) -> Any:
        """Run the named INSERT with a row of values; gives the row's number."""
        self._execute(sql.queries()[name], row)
        return self.query("inserted")[0][0]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A savepoint in the caller's transaction: all of it is there, or nothing."""
        if self._nested == 0:
            self._begin_as_caller()
        self._nested += 1
        try:
            with savepoint(self._execute):
                yield
        finally:
            self._nested -= 1

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """The caller's transaction is one, or there is none."""
        yield
