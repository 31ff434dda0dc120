"""Connections made for one errand: to copy a file, to ask it something, to work in one that need not be ours."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from jobrunner import sql
from jobrunner.connection import Patience, itself, refuse_other_library
from jobrunner.database_file import check_file
from jobrunner.errors import DatabaseBroken, UsageError
from jobrunner.sqlite_errors import told

_PAGES_AT_ONCE = 1000
_READ_ONLY = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW


def copy(path: Path, target: Path) -> None:
    """Copy the database as it is now into an empty file, while others go on; the copy is checked."""
    refuse_other_library(path)
    with (
        told(path),
        contextlib.closing(apsw.Connection(itself(path), flags=_READ_ONLY)) as source,
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


@contextmanager
def borrowing(path: Path) -> Iterator[apsw.Connection]:
    """A write transaction in a file that need not be ours, and is in WAL mode after it."""
    check_file(path)
    with told(path):
        refuse_other_library(path)
        with contextlib.closing(apsw.Connection(itself(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
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
    with told(path), contextlib.closing(apsw.Connection(itself(path), flags=flags)) as connection:
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
