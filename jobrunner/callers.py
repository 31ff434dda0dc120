"""Connections of callers: sqlite3, apsw and SQLAlchemy, told apart by what they can do; none of them is imported."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobrunner import guest, sql
from jobrunner.database import Row
from jobrunner.direct_client import DirectClient
from jobrunner.errors import UsageError
from jobrunner.guest import BorrowedDatabase, Caller
from jobrunner.models import InvocationId, Json, Request, State
from jobrunner.outbox import text_of

_UNFIT = ("AsyncSession", "AsyncConnection", "AsyncEngine", "Engine", "sessionmaker", "scoped_session")
_LIBRARIES = ("sqlite3", "apsw")
_BEGINNINGS = {
    "": "BEGIN",
    "DEFERRED": "BEGIN DEFERRED",
    "IMMEDIATE": "BEGIN IMMEDIATE",
    "EXCLUSIVE": "BEGIN EXCLUSIVE",
}


def caller(connection: Any) -> Caller:
    """UsageError where this is no connection that can be used."""
    kind = type(connection).__name__
    if kind in _UNFIT:
        raise UsageError(f"a {kind} cannot be used: give the sqlite3, apsw or SQLAlchemy connection, or a Session")
    if hasattr(connection, "get_bind") and hasattr(connection, "connection"):  # a Session of SQLAlchemy
        connection = connection.connection()
    if hasattr(connection, "exec_driver_sql"):
        return _of_sqlalchemy(connection)
    if hasattr(connection, "execute") and hasattr(
        type(connection), "in_transaction"
    ):  # a closed one would tell nothing
        return _of_driver(connection)
    raise UsageError(f"a {kind} is no connection of sqlite3, apsw or SQLAlchemy")


def _of_driver(connection: Any) -> Caller:
    if getattr(connection, "text_factory", str) in (bytes, bytearray):
        raise UsageError("a connection with a text_factory that gives bytes cannot be used: set it to str meanwhile")

    def execute(text: str, values: Any) -> list[Row]:
        cursor = connection.cursor()
        for factory in ("row_factory", "row_trace"):  # of sqlite3, of apsw: rows must come as they are
            if hasattr(cursor, factory):
                setattr(cursor, factory, None)
        return [tuple(row) for row in cursor.execute(*_bound(text, values)).fetchall()]

    return Caller(execute, _beginner(connection, connection.execute), lambda: bool(connection.in_transaction))


def _of_sqlalchemy(connection: Any) -> Caller:
    driver = connection.connection.driver_connection
    library = type(driver).__module__.partition(".")[0]
    if library not in _LIBRARIES:
        raise UsageError(f"a connection of SQLAlchemy over {library} cannot be used: it must be sqlite3's or apsw's")

    def execute(text: str, values: Any) -> list[Row]:
        text, values = _bound(text, values)
        found = connection.exec_driver_sql(text, values or None)
        return [tuple(row) for row in found.fetchall()] if found.returns_rows else []

    return Caller(execute, _beginner(driver, connection.exec_driver_sql), lambda: bool(driver.in_transaction))


def _bound(text: str, values: Any) -> tuple[str, Any]:
    """Numbered parameters as named ones: some versions of Python's sqlite3 warn of the former."""
    if isinstance(values, tuple) and "?1" in text:
        return _named(text), {f"p{number}": value for number, value in enumerate(values, 1)}
    return text, values


@functools.cache
def _named(text: str) -> str:
    return re.sub(r"\?(\d+)", r":p\1", text)


def _beginner(driver: Any, execute: Callable[[str], Any]) -> Callable[[], None]:
    """Python's sqlite3 begins a transaction before an INSERT, and not before a SAVEPOINT: then do it in its place."""

    def begin() -> None:
        # autocommit is a number (LEGACY_TRANSACTION_CONTROL), or not there, where isolation_level says what happens.
        if isinstance(getattr(driver, "autocommit", None), bool) or driver.in_transaction:
            return
        level = getattr(driver, "isolation_level", None)
        if level in _BEGINNINGS:
            execute(_BEGINNINGS[level])

    return begin


class UsingClient(DirectClient):
    """What an app does in a block of `app.using(conn)`: on the caller's connection, and in its transaction."""

    @classmethod
    def on(cls, connection: Any, path: Path) -> "UsingClient":
        """A client on it; UsageError where it cannot be used."""
        return cls(BorrowedDatabase(caller(connection), path))

    def wait(self, ids: Sequence[int], timeout: float | None) -> list[State]:
        """Only for what has ended: the rest cannot, as long as the caller's transaction lasts."""
        states = self.states(ids)
        if not all(state.status.is_final for state in states):
            raise UsageError("a job cannot be waited for inside of app.using(conn): a runner sees it after the commit")
        return states

    def await_result(self, invocation_id: int, timeout: float | None) -> Json:
        """The same."""
        self.wait([invocation_id], timeout)
        return self.result(invocation_id)

    async def wait_async(self, ids: Sequence[int], timeout: float | None) -> None:
        """The same."""
        self.wait(ids, timeout)


class OutboxClient:
    """What an app does in a block of `app.using(conn, outbox=True)`: it writes rows, in the caller's transaction."""

    def __init__(self, connection: Any) -> None:
        self._caller = caller(connection)
        try:
            is_there = self._ask("has_outbox")[0][0]
        except Exception as error:  # whatever the caller's library raises
            raise UsageError(f"this connection cannot be used: {error}") from error
        if not is_there:
            raise UsageError(
                "the database of this connection has no outbox: `jobrunner init FILE --outbox` makes one, or "
                "app.install(conn, outbox=True)"
            )

    def enqueue(self, requests: Sequence[Request]) -> list[InvocationId]:
        """Put all in, or none; gives the numbers of the rows, negative, since they are no jobs yet."""
        self._caller.begin()
        with guest.savepoint(self._caller.execute):
            texts = [text_of(request) for request in requests]
            return [InvocationId(-self._ask("put_in_outbox", (text,))[0][0]) for text in texts]

    def enqueue_one(self, request: Request) -> InvocationId:
        """The same for one alone."""
        return self.enqueue([request])[0]

    def _ask(self, name: str, values: Any = ()) -> list[Row]:
        return self._caller.execute(sql.queries()[name], values)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise UsageError(
            "what is in an outbox is no job yet, and inside of app.using(conn, outbox=True) none can be asked"
        )

    job = states = result = cancel = retry = log = progress = counts = wait = await_result = wait_async = _refuse


def install(connection: Any, *, outbox: bool = False) -> list[str]:
    """Make our tables, or an outbox, on the caller's connection; gives the names of views that were left out."""
    found = caller(connection)
    found.begin()
    if outbox:
        guest.install_outbox(found.execute)
        return []
    return guest.install(found.execute)
