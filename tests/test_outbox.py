"""Outboxes: what an application commits in its own database becomes jobs in another, each row once."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from jobrunner import App, Retry, Status, UsageError
from jobrunner.database import Database
from jobrunner.errors import OutboxTrouble
from jobrunner.outbox import Outbox
from tests import tasks, together
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows, rows_elsewhere, sqlite_shell
from tests.helpers.processes import environment
from tests.helpers.waiting import until
from tests.test_using import KINDS, Kind, opened

SQUARE = '{"task": "tests.tasks:square", "args": {"n": %d}}'
PUT = "INSERT INTO jr_outbox(job) VALUES (?)"


@pytest.fixture
def shop(folder: Path) -> Path:
    """The database of an application, with an outbox."""
    shop = folder / "shop.db"
    with closing(sqlite3.connect(shop)) as connection:
        connection.executescript(
            "CREATE TABLE shop_order(id INTEGER PRIMARY KEY, note TEXT); PRAGMA user_version = 12;"
        )
    shop.chmod(0o600)
    assert Cli(folder).ok("init", "shop.db", "--outbox") == f"{shop}\n"
    return shop


@pytest.fixture
def outbox(database: Database, shop: Path) -> Iterator[Outbox]:
    with Outbox(database, shop) as found:
        yield found


def put(shop: Path, *jobs: str) -> None:
    with closing(apsw.Connection(str(shop))) as connection:
        connection.set_busy_timeout(10_000)
        with connection:
            connection.executemany(PUT, [(job,) for job in jobs])


def drain(folder: Path) -> int:
    """In another process: here Python's sqlite3 may have the file open."""
    return int(Cli(folder).ok("outbox", "drain", "shop.db"))


def left(shop: Path) -> list[int]:
    return [row[0] for row in rows(shop, "SELECT id FROM jr_outbox ORDER BY id")]


def numbers(path: Path) -> list[int]:
    """The arguments n of all jobs."""
    return [json.loads(row[0])["n"] for row in rows(path, "SELECT args FROM jr_invocation ORDER BY id")]


# What goes in ------------------------------------------------------------------------------------------


def test_a_row_written_by_hand_becomes_a_job(app: App, folder: Path, shop: Path, path: Path) -> None:
    cli = Cli(folder)
    line = '{"task": "tests.tasks:square", "args": {"n": 7}, "queue": "mail", "retries": 2, "label": "x"}'
    done = sqlite_shell(shop, f"INSERT INTO jr_outbox(job) VALUES ('{line}');")
    assert done.stderr == ""
    put(shop, '{"command": ["echo", "hello"], "in": "1h"}', '{"sh": "true", "key": "k"}', '{"sh": "true", "key": "k"}')
    assert cli.ok("outbox", "drain", "shop.db") == "4\n"
    assert left(shop) == []
    found = rows(path, "SELECT kind, task, args, queue, label, status FROM jr_invocation ORDER BY id")
    assert found == [
        ("function", "tests.tasks:square", '{"n":7}', "mail", "x", "pending"),
        ("command", "echo", '["hello"]', "default", None, "scheduled"),
        ("shell", "true", "[]", "default", None, "pending"),
    ]
    cli.drain()
    assert app.invocation(1).result() == 49
    assert rows(shop, "PRAGMA user_version") == [(12,)]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_is_enqueued_in_the_callers_transaction_comes_with_it_or_not_at_all(
    app: App, folder: Path, shop: Path, path: Path, kind: Kind
) -> None:
    task = app.task(tasks.square)
    with opened(kind, shop) as connection:
        with app.using(connection, outbox=True):
            kind.execute(connection, "INSERT INTO shop_order(note) VALUES ('a')")
            task.enqueue(1)
        kind.rollback(connection)
        for table in ("jr_outbox", "shop_order"):
            assert rows_elsewhere(shop, f"SELECT * FROM {table}") == []
        if kind in (KINDS["apsw"], KINDS["sqlite3 by hand"]):
            connection.execute("BEGIN IMMEDIATE")
        with app.using(connection, outbox=True):
            task.enqueue_many({"n": n} for n in range(3))
            kind.execute(connection, "INSERT INTO shop_order(note) VALUES ('b')")
            careful = task.options(
                retry=Retry(attempts=4, on=(ConnectionError,)),
                concurrency=2,
                concurrency_key="k {n}",
                rate="5/s",
                unique="u{n}",
                throttle="1h",
                priority=3,
                delay="1h",
                timeout="5s",
                env={"A": "b"},
                queue="mail",
            )
            assert careful.enqueue(9).id < 0
            assert rows_elsewhere(shop, "SELECT * FROM jr_outbox") == [], "nobody sees it before the commit"
            assert drain(folder) == 0
        kind.commit(connection)
    assert drain(folder) == 4
    assert (left(shop), numbers(path)) == ([], [0, 1, 2, 9])
    directly = careful.enqueue(10)
    facts = "SELECT limit_key, limit_size, limit_rate, limit_period, priority, policy, queue, status FROM jr_invocation"
    there, here = rows(path, facts + " WHERE id >= 4 ORDER BY id")
    assert there[1:] == here[1:]
    assert (there[0], here[0]) == ("tests.tasks:square k 9", "tests.tasks:square k 10")
    assert app.invocation(4).details.unique_key == "u9"
    assert directly.id == 5


def test_of_what_is_in_an_outbox_nothing_can_be_asked(app: App, shop: Path) -> None:
    with closing(sqlite3.connect(shop)) as connection, app.using(connection, outbox=True):
        job = app.enqueue("tests.tasks:square", {"n": 3})
        for ask in (lambda: job.status, job.result, job.cancel, app.counts, lambda: app.wait([job])):
            with pytest.raises(UsageError, match="is no job yet"):
                ask()
        with pytest.raises(UsageError, match="a job waits for jobs"):
            app.enqueue("tests.tasks:square", {"n": 3}, after=job)


def test_an_application_makes_it_itself(app: App, folder: Path, path: Path) -> None:
    file = folder / "other.db"
    file.touch(mode=0o600)
    with closing(sqlite3.connect(file)) as connection:
        with pytest.raises(UsageError, match="has no outbox"), app.using(connection, outbox=True):
            pass
        assert app.install(connection, outbox=True) == []
        with app.using(connection, outbox=True):
            app.enqueue("tests.tasks:square", {"n": 3})
        connection.commit()
    assert Cli(folder).ok("outbox", "drain", "other.db") == "1\n"
    assert numbers(path) == [3]


def test_the_file_of_the_jobs_has_no_outbox_of_its_own(folder: Path, database: Database, path: Path) -> None:
    with pytest.raises(UsageError, match=r"app.using\(conn\)"):
        Outbox(database, path)
    cli = Cli(folder)
    for words, code, sentence in (
        (("init", "jobs.db", "--outbox"), 2, "leave --outbox out"),
        (("init", "--outbox"), 2, "whose outbox?"),
        (("outbox", "drain", "nothing.db"), 2, "no database at"),
        (("outbox", "drain"), 2, "type `jobrunner outbox drain FILE`"),
        (("outbox", "dance", "shop.db"), 2, "type `jobrunner outbox drain FILE`"),
        (("run", "--drain", "--outbox", "nothing.db"), 2, "no database at"),
    ):
        done = cli(*words)
        assert (done.returncode, sentence in done.stderr, "Traceback" in done.stderr) == (code, True, False), done


# What is no job ----------------------------------------------------------------------------------------

BAD = {
    "no json": "not valid JSON",
    '["a"]': "each line is an object",
    "{}": 'a job needs "task"',
    '{"task": "send"}': "is MODULE:FUNCTION",
    '{"task": "a:b", "args": 7}': '"args" is an object or a list',
    '{"task": "a:b", "args": {"n": NaN}}': "NaN is not JSON",
    '{"task": "a:b", "colour": "red"}': "there is no field 'colour'",
    '{"task": "a:b", "rate": "fast"}': "a rate is a number in a time",
    '{"task": "a:b", "after": [99]}': "there is no job 99",
    '{"task": "a:b", "key": "taken", "if_exists": "error"}': "is not finished",
    '{"task": "a:b", "args": [' + "[" * 200 + "]" * 200 + "]}": "nested deeper than 100",
    '{"request": {"task": "a:b", "colour": "red"}}': "this is no request",
    '{"request": {"task": "a:b", "kind": "dance"}}': "a kind is one of",
    '{"request": {"task": "a:b", "if_exists": "dance", "unique_key": "x"}}': "if_exists is one of",
    '{"request": {"task": "a:b", "priority": "high"}}': "cannot store TEXT value in INTEGER column",
    '{"request": {"task": "a:b", "unique_key": "x", "if_exists": "debounce", "window": "long"}}': "",
    '{"request": 7}': "",
    '{"task": "a:b", "args": {"x": "\\ud800"}}': "surrogate",
    '{"task": "a:b", "args": {"x": "' + "y" * 2_000_000 + '"}}': "the limit is",
}


def test_rows_that_are_no_job_are_set_aside_with_a_sentence_and_hold_up_no_others(
    app: App, folder: Path, shop: Path, path: Path
) -> None:
    cli = Cli(folder)
    cli.ok("enqueue", "--key", "taken", "--hold", "a:b", "n:=0")
    for number, bad in enumerate(BAD):
        put(shop, SQUARE % number, bad)
    done = cli("outbox", "drain", "shop.db")
    assert (done.returncode, done.stdout) == (0, f"{len(BAD)}\n")
    assert done.stderr.count("is set aside: ") == len(BAD)
    assert numbers(path) == [0, *range(len(BAD))]
    assert left(shop) == []
    refused = rows(shop, "SELECT job, error FROM jr_outbox_refused ORDER BY id")
    assert [job for job, _ in refused] == list(BAD)
    for (_, error), sentence in zip(refused, BAD.values(), strict=True):
        assert sentence in error
    listed = cli.json("outbox", "list", "shop.db")
    assert [one["error"] for one in listed] == [error for _, error in refused]
    assert cli.ok("outbox", "drain", "shop.db") == "0\n"


def test_what_was_set_aside_is_put_back(folder: Path, shop: Path, path: Path) -> None:
    cli = Cli(folder)
    cli.ok("enqueue", "--key", "taken", "--hold", "a:b", "n:=9")
    put(shop, '{"task": "a:b", "args": {"n": 1}, "key": "taken", "if_exists": "error"}', "never", SQUARE % 0)
    assert drain(folder) == 1
    cli.ok("cancel", "1")
    assert cli.ok("outbox", "retry", "shop.db", "1") == "1\n"
    assert left(shop) == [4]
    assert cli.ok("outbox", "list", "shop.db").splitlines()[1].startswith("4\t")
    assert drain(folder) == 1
    assert numbers(path) == [9, 0, 1]
    assert cli.ok("outbox", "retry", "shop.db") == "1\n"
    assert rows(shop, "SELECT count(*) FROM jr_outbox_refused") == [(0,)]


# Once --------------------------------------------------------------------------------------------------


def test_a_number_is_never_used_again(shop: Path, outbox: Outbox, path: Path) -> None:
    put(shop, *(SQUARE % n for n in range(3)))
    assert outbox.drain().rows == 3
    with closing(apsw.Connection(str(shop))) as connection:
        connection.execute("BEGIN")
        connection.execute(PUT, (SQUARE % 77,))
        connection.execute("ROLLBACK; BEGIN")
        connection.execute(PUT, (SQUARE % 3,))
        connection.execute("DELETE FROM jr_outbox")
        connection.execute(PUT, (SQUARE % 4,))
        connection.execute("COMMIT")
        with pytest.raises(apsw.ConstraintError, match="given by the database"):
            connection.execute("INSERT INTO jr_outbox(id, job) VALUES (2, 'x')")
        with pytest.raises(apsw.ConstraintError, match="stays as it is"):
            connection.execute("UPDATE jr_outbox SET id = 2")
    assert outbox.drain().rows == 1
    assert numbers(path) == [0, 1, 2, 4]


def test_rows_that_could_not_be_taken_away_are_no_jobs_a_second_time(shop: Path, outbox: Outbox, path: Path) -> None:
    put(shop, *(SQUARE % n for n in range(3)))
    with closing(apsw.Connection(str(shop))) as connection:
        connection.execute("BEGIN IMMEDIATE")  # as if the one who drains died after its commit
        assert outbox.drain().rows == 3
        connection.execute("ROLLBACK")
    assert left(shop) == [1, 2, 3]
    put(shop, SQUARE % 3)
    assert outbox.drain().rows == 1
    assert (left(shop), numbers(path)) == ([], [0, 1, 2, 3])


def test_where_a_row_cannot_be_set_aside_none_is_taken(shop: Path, outbox: Outbox, path: Path) -> None:
    put(shop, SQUARE % 0, "no job", SQUARE % 1)
    with closing(apsw.Connection(str(shop))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutboxTrouble, match="another process holds the write lock"):
            outbox.drain()
        connection.execute("ROLLBACK")
    assert numbers(path) == []
    assert outbox.drain().rows == 2
    assert numbers(path) == [0, 1]


def test_a_file_that_was_put_back_to_an_earlier_state_is_not_taken_for_new(
    shop: Path, database: Database, path: Path, folder: Path
) -> None:
    put(shop, SQUARE % 0)
    copy = folder / "copy.db"
    rows(shop, "VACUUM INTO ?", str(copy))
    copy.chmod(0o600)
    put(shop, SQUARE % 1)
    with Outbox(database, shop) as outbox:
        assert outbox.drain().rows == 2
    with Outbox(database, copy) as outbox:
        with pytest.raises(OutboxTrouble, match="up to row 2 all were taken already"):
            outbox.drain()
        assert left(copy) == [1]
        rows(copy, "UPDATE jr_outbox_name SET name = 'another'")
        assert outbox.drain().rows == 1
    assert numbers(path) == [0, 1, 0]


DRAINS = """
import sys
from pathlib import Path
from jobrunner.database import Database
from jobrunner.outbox import Outbox
with Database(Path(sys.argv[1]), create=True) as database, Outbox(database, Path(sys.argv[2])) as outbox:
    print("ready", flush=True)
    while True:
        outbox.drain()
"""
WRITES = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=30)
for n in range(int(sys.argv[2])):
    with connection:
        text = '{"task": "tests.tasks:square", "args": {"n": %d}}' % n
        connection.execute("INSERT INTO jr_outbox(job) VALUES (?)", (text if n % 50 else "no job",))
        connection.execute("INSERT INTO shop_order(note) VALUES (?)", (n,))
        if n % 7 == 0:
            connection.rollback()
    time.sleep(0.0005)
"""


def start(folder: Path, code: str, *words: object) -> "subprocess.Popen[str]":
    program = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(program, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True)


def survives_kills(folder: Path, shop: Path, path: Path, count: int, kills: int) -> None:
    """Two drain the outbox, and are killed again and again, while an application writes."""
    dice = random.Random(count)
    writer = start(folder, WRITES, shop, count)
    drainers = [start(folder, DRAINS, path, shop) for _ in range(2)]
    for n in range(kills):
        victim = drainers[n % 2]
        assert victim.stdout is not None
        victim.stdout.readline()
        time.sleep(dice.uniform(0, 0.03))
        victim.kill()
        victim.communicate()
        drainers[n % 2] = start(folder, DRAINS, path, shop)
    assert writer.wait(100) == 0
    writer.communicate()
    until(lambda: left(shop) == [])
    for one in drainers:
        one.kill()
        one.communicate()
    meant = [n for n in range(count) if n % 7 and n % 50]
    assert sorted(numbers(path)) == meant
    assert len(rows(shop, "SELECT id FROM jr_outbox_refused")) == sum(1 for n in range(0, count, 50) if n % 7)


def test_each_row_becomes_one_job_however_often_who_drains_is_killed(folder: Path, shop: Path, path: Path) -> None:
    survives_kills(folder, shop, path, 1500, 12)


@pytest.mark.long
def test_it_does_so_at_300_kills(folder: Path, shop: Path, path: Path) -> None:
    survives_kills(folder, shop, path, 30_000, 300)


# By runners --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_runners_do_at_once_what_an_application_commits(
    app: App, runner: StartRunner, folder: Path, shop: Path, path: Path, journal: str
) -> None:
    assert rows(shop, f"PRAGMA journal_mode = {journal}") == [(journal,)]
    for _ in range(2):
        runner(jobs=2, outboxes=[str(shop)]).until_ready()
    for n in range(30):
        put(shop, SQUARE % n)
    until(lambda: app.counts()[Status.SUCCESS] == 30)
    assert (sorted(numbers(path)), left(shop)) == (list(range(30)), [])
    with closing(sqlite3.connect(shop)) as connection, app.using(connection, outbox=True):
        together.alone.enqueue_many({"n": n} for n in range(5))
        connection.commit()
    until(lambda: app.counts()[Status.SUCCESS] == 35)


def test_a_drain_does_all_that_is_in_the_outbox(app: App, folder: Path, shop: Path, path: Path) -> None:
    put(
        shop, *['{"sh": "true"}'] * 3, "no job", *[f'{{"task": "tests.tasks:square", "args": [{n}]}}' for n in range(3)]
    )
    done = Cli(folder)("run", "--drain", "-j", "2", "--outbox", "shop.db")
    assert done.returncode == 0
    assert "row 4 of the outbox in" in done.stderr
    assert app.counts()[Status.SUCCESS] == 6


def test_trouble_with_an_outbox_does_not_hold_up_jobs(
    app: App, runner: StartRunner, folder: Path, shop: Path, path: Path
) -> None:
    running = runner(jobs=1, outboxes=[str(shop)])
    running.until_ready()
    with closing(apsw.Connection(str(shop))) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute(PUT, ("no job",))
        assert app.enqueue("tests.tasks:square", {"n": 5}).result(timeout=60) == 25
        connection.execute("COMMIT")
    until(lambda: rows(shop, "SELECT count(*) FROM jr_outbox_refused") == [(1,)])
    shutil.move(shop, folder / "away.db")
    for ending in ("-wal", "-shm"):
        (folder / f"shop.db{ending}").unlink(missing_ok=True)
    until(lambda: "was deleted or replaced" in running.stderr)
    assert app.enqueue("tests.tasks:square", {"n": 6}).result(timeout=60) == 36
    assert Cli(folder).ok("init", "shop.db", "--outbox")
    put(shop, SQUARE % 7)
    until(lambda: 7 in numbers(path))
    assert running.is_running


def test_others_who_may_write_the_outbox_are_refused(folder: Path, shop: Path) -> None:
    shop.chmod(0o666)
    done = Cli(folder)("run", "--drain", "--outbox", "shop.db")
    assert (done.returncode, "chmod" in done.stderr) == (77, True), done


def test_the_texts_of_ours_are_what_the_database_says(app: App, folder: Path, shop: Path, path: Path) -> None:
    large: dict[str, Any] = {"x": "é" * 200_000, "quotes": '"' * 1000}
    with closing(sqlite3.connect(shop)) as connection, app.using(connection, outbox=True):
        app.enqueue("a:b", large)
        app.enqueue_command("echo", "a b", cwd="/tmp")
        app.enqueue_shell("true | false", label="{x}")
        connection.commit()
    assert drain(folder) == 3
    assert json.loads(rows(path, "SELECT value FROM jr_argument")[0][0]) == large
    assert rows(path, "SELECT task, args, label FROM jr_invocation WHERE id > 1") == [
        ("echo", '["a b"]', None),
        ("true | false", "[]", "{x}"),
    ]
