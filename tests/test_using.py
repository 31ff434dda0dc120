"""Jobs that are enqueued on the caller's own connection: committed, or not, together with the caller's rows."""

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from jobrunner import App, Status, UniqueKeyTaken, UsageError
from jobrunner.errors import ForeignDatabase, InvocationNotFound, OtherLibrary
from tests import tasks
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows_elsewhere as rows
from tests.helpers.waiting import until

Open = Callable[[Path], Any]
SHOP = "CREATE TABLE shop_order(id INTEGER PRIMARY KEY, note TEXT); CREATE TABLE jobs(mine TEXT);"


class Kind:
    """A kind of connection: how it is opened, asked, and how its transactions end."""

    def __init__(self, open_: Open, execute: Callable[[Any, str], Any], commit: Any, rollback: Any) -> None:
        self.open, self.execute, self.commit, self.rollback = open_, execute, commit, rollback


def _apsw(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5000)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def _by_hand(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def _sqlalchemy(path: Path) -> sqlalchemy.Connection:
    return sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.NullPool).connect()


def _session(path: Path) -> Session:
    return Session(sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.NullPool))


def _plainly(connection: Any, text: str) -> Any:
    return connection.execute(text)


def _as_text(connection: Any, text: str) -> Any:
    return connection.execute(sqlalchemy.text(text))


KINDS = {
    "sqlite3": Kind(sqlite3.connect, _plainly, sqlite3.Connection.commit, sqlite3.Connection.rollback),
    "sqlite3 by hand": Kind(_by_hand, _plainly, lambda c: c.execute("COMMIT"), lambda c: c.execute("ROLLBACK")),
    "apsw": Kind(_apsw, _plainly, lambda c: c.execute("COMMIT"), lambda c: c.execute("ROLLBACK")),
    "SQLAlchemy": Kind(_sqlalchemy, _as_text, sqlalchemy.Connection.commit, sqlalchemy.Connection.rollback),
    "Session": Kind(_session, _as_text, Session.commit, Session.rollback),
}
if sys.version_info >= (3, 12):
    KINDS["sqlite3, autocommit off"] = Kind(
        lambda path: sqlite3.connect(path, autocommit=False),
        _plainly,
        sqlite3.Connection.commit,
        sqlite3.Connection.rollback,
    )


@pytest.fixture
def shop(path: Path) -> Path:
    """An application's database, with a table that has the name of one of our views."""
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SHOP + "PRAGMA application_id = 77; PRAGMA user_version = 12;")
    return path


@pytest.fixture
def ready(shop: Path) -> Path:
    """The same with our tables in it."""
    done = Cli(shop.parent)("init", shop.name)
    assert (done.returncode, done.stderr) == (0, "left out, since the application has these names: jobs, failures\n")
    return shop


def jobs_in(path: Path) -> list[str]:
    return [row[0] for row in rows(path, "SELECT status FROM jr_invocation ORDER BY id")]


@contextmanager
def opened(kind: Kind, path: Path) -> Iterator[Any]:
    connection = kind.open(path)
    try:
        yield connection
    finally:
        connection.close()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_rollback_leaves_nothing_and_a_commit_wakes_the_runner(
    app: App, runner: StartRunner, ready: Path, kind: Kind
) -> None:
    running = runner(jobs=1)
    running.until_ready()
    task = app.task(tasks.square)
    with opened(kind, ready) as connection:
        with app.using(connection):
            kind.execute(connection, "INSERT INTO shop_order(note) VALUES ('a')")
            task.enqueue(3)
            task.enqueue_many({"n": n} for n in range(5))
        kind.rollback(connection)
        assert (jobs_in(ready), rows(ready, "SELECT * FROM shop_order")) == ([], [])
        if kind in (KINDS["apsw"], KINDS["sqlite3 by hand"]):
            connection.execute("BEGIN IMMEDIATE")
        with app.using(connection):
            task.enqueue_many({"n": n} for n in range(5))  # before any statement of the caller's
            kind.execute(connection, "INSERT INTO shop_order(note) VALUES ('b')")
            job = task.enqueue(3)
            assert job.status is Status.PENDING
            assert jobs_in(ready) == [], "nobody sees it before the commit"
        kind.commit(connection)
    until(lambda: jobs_in(ready) == ["success"] * 6)
    assert rows(ready, "SELECT note FROM shop_order") == [("b",)]
    assert app.invocation(job.id).result() == 9
    assert rows(ready, "PRAGMA application_id") + rows(ready, "PRAGMA user_version") == [(77,), (12,)]


def test_what_happens_in_the_block_is_as_outside_of_it(app: App, ready: Path) -> None:
    with closing(sqlite3.connect(ready)) as connection:
        with app.using(connection):
            first = app.enqueue("a:b", unique="k")
            assert app.enqueue("a:b", unique="k").id == first.id
            with pytest.raises(UniqueKeyTaken):
                app.enqueue("a:b", unique="k", if_exists="error")
            second = app.enqueue("a:b", {"x": "y" * 5000}, after=first, batch="b")
            with pytest.raises(InvocationNotFound):
                app.enqueue("a:b", after=99)
            first.cancel()
            assert (first.status, second.status) == (Status.CANCELLED, Status.CANCELLED)
            assert second.details.args == '{"x":"' + "y" * 5000 + '"}'
            with pytest.raises(UsageError, match="cannot be waited for inside"):
                app.enqueue("a:b").result(timeout=1)
        connection.commit()
    assert jobs_in(ready) == ["cancelled", "cancelled", "pending"], "what was refused left nothing"


def test_a_part_that_fails_takes_nothing_of_the_callers_with_it(app: App, ready: Path) -> None:
    with closing(sqlite3.connect(ready)) as connection, app.using(connection):
        connection.execute("INSERT INTO shop_order(note) VALUES ('mine')")
        app.enqueue("a:b")
        with pytest.raises(InvocationNotFound):
            app.enqueue("a:b", after=99)
        connection.commit()
    assert (jobs_in(ready), rows(ready, "SELECT note FROM shop_order")) == (["pending"], [("mine",)])


def test_no_second_library_opens_the_file(app: App, ready: Path) -> None:
    with closing(sqlite3.connect(ready)) as connection:
        connection.execute("SELECT * FROM shop_order").fetchall()
        with pytest.raises(OtherLibrary, match=r"with app\.using\(conn\)"):
            app.enqueue("a:b")
        with app.using(connection):
            app.enqueue("a:b")
        connection.commit()
    assert app.enqueue("a:b").id == 2


@pytest.mark.parametrize("library", ["sqlite3", "apsw"])
def test_it_does_not_matter_how_the_caller_has_its_rows(app: App, ready: Path, library: str) -> None:
    connection: Any = sqlite3.connect(ready) if library == "sqlite3" else apsw.Connection(str(ready))
    name = "row_factory" if library == "sqlite3" else "row_trace"
    setattr(
        connection,
        name,
        lambda cursor, row: {one[0]: value for one, value in zip(cursor.description, row, strict=True)},
    )
    with closing(connection), connection, app.using(connection):
        first = app.enqueue("a:b", {"n": 1})
        assert app.enqueue("a:b", after=first).details.reason == f"waits for job {first.id}"
        assert connection.execute("SELECT count(*) AS n FROM jr_invocation").fetchone() == {"n": 2}
    assert app.counts()[Status.PENDING] == 1


def test_texts_that_come_as_bytes_are_refused_in_a_sentence(app: App, ready: Path) -> None:
    with closing(sqlite3.connect(ready)) as connection:
        connection.text_factory = bytes
        with pytest.raises(UsageError, match="text_factory"), app.using(connection):
            pass


def test_each_thread_and_task_has_its_own(app: App, ready: Path) -> None:
    seen: list[bool] = []

    async def enqueue() -> None:
        with closing(sqlite3.connect(ready)) as connection, app.using(connection):
            await asyncio.sleep(0.01)
            app.enqueue("a:b")
            connection.rollback()

    async def both() -> None:
        await asyncio.gather(enqueue(), enqueue())

    asyncio.run(both())
    with closing(sqlite3.connect(ready)) as connection, app.using(connection):

        def elsewhere() -> None:
            with pytest.raises(OtherLibrary):
                app.enqueue("a:b")
            seen.append(True)

        connection.execute("SELECT * FROM shop_order").fetchall()
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
    assert seen == [True]
    assert jobs_in(ready) == []


def test_the_tables_are_made_in_the_callers_transaction(app: App, shop: Path, runner: StartRunner) -> None:
    with closing(sqlite3.connect(shop)) as connection:
        assert app.install(connection) == ["jobs", "failures"]
        connection.rollback()
        assert rows(shop, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'jr_%'") == [(0,)]
        app.install(connection)
        with app.using(connection):
            app.enqueue("tests.tasks:square", {"n": 4})
        connection.commit()
        assert app.install(connection) == [], "they are there"
    runner(jobs=1, drain=True).wait()
    assert jobs_in(shop) == ["success"]
    assert "success\t1" in Cli(shop.parent).ok("status")


def test_an_applications_file_is_left_alone_unless_it_is_named(shop: Path) -> None:
    cli = Cli(shop.parent)
    before = shop.read_bytes()
    done = cli("--db", str(shop), "init")
    assert (done.returncode, "is a database of another program" in done.stderr) == (65, True)
    assert cli("--db", str(shop), "status").returncode == 65
    assert shop.read_bytes() == before
    assert cli.ok("init", shop.name) == f"{shop}\n"
    assert cli.ok("init", shop.name) == f"{shop}\n"
    cli.ok("--db", str(shop), "enqueue", "--", "true")
    assert cli("--db", str(shop), "doctor").returncode == 0


def test_what_cannot_be_used_is_told_in_a_sentence(app: App, shop: Path, folder: Path) -> None:
    def refused(connection: Any, sentence: str, error: type[Exception] = UsageError) -> None:
        with pytest.raises(error, match=sentence), app.using(connection):
            pass

    engine = sqlalchemy.create_engine(f"sqlite:///{shop}")
    refused(engine, "a Engine cannot be used")
    refused(None, "a NoneType is no connection")
    refused("jobs.db", "a str is no connection")
    with closing(sqlite3.connect(shop)) as connection:
        refused(connection, r"has no tables of jobrunner: make them with app\.install\(conn\)")
        app.install(connection)
        connection.commit()
        connection.execute("DROP VIEW jr_schema")
        connection.execute("CREATE VIEW jr_schema AS SELECT 999 AS version")
        connection.commit()
        refused(connection, "has schema version 999", ForeignDatabase)
    refused(connection, "this connection cannot be used: Cannot operate on a closed database")
    with closing(sqlite3.connect(folder / "other.db")) as other:
        other.execute("CREATE TABLE t(x)")
        refused(other, "this connection is to .*other.db, and the jobs are in")
    with closing(sqlite3.connect(":memory:")) as memory:
        refused(memory, "this connection is to no file")


def test_a_connection_that_only_reads_is_told_by_its_library(app: App, ready: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{ready}?mode=ro", uri=True)) as connection,
        app.using(connection),
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        app.enqueue("a:b")
    assert jobs_in(ready) == []
