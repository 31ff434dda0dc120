"""Batches: counted as their members end, complete once, followed once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import App, Status, UsageError, batches, broker
from jobrunner.batches import Callbacks
from jobrunner.database import Database
from jobrunner.errors import BatchNotFound, WaitTimeout
from jobrunner.models import Request
from tests import tasks
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows, sqlite_shell
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.trace import marks
from tests.helpers.turns import BAD, finish
from tests.helpers.waiting import until

COUNTS = "SELECT total, done, failed, status FROM batches"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database(path, create=True, relaxed=True) as database:
        yield database


def followers(path: Path) -> list[str]:
    return [row[0] for row in rows(path, "SELECT task FROM jr_invocation WHERE batch IS NULL ORDER BY id")]


CALLBACKS = Callbacks(Request("on:success"), Request("on:failure"), Request("on:complete"))


def members(database: Database, count: int, callbacks: Callbacks = CALLBACKS) -> int:
    """A batch with so many members, closed; gives its number."""
    number = batches.make(database, "b", callbacks, is_open=True)
    broker.enqueue(database, [Request("a:b", batch="b")] * count)
    batches.close(database, number)
    return number


def test_it_is_complete_when_all_have_ended_and_is_followed_once(database: Database, path: Path) -> None:
    members(database, 3)
    assert rows(path, COUNTS) == [(3, 0, 0, "running")]
    finish(database, limit=2)
    assert (rows(path, COUNTS), followers(path)) == ([(3, 2, 0, "running")], [])
    finish(database)
    assert (rows(path, COUNTS), followers(path)) == ([(3, 3, 0, "success")], ["on:complete", "on:success"])
    for _ in range(3):
        finish(database, limit=0)
    assert len(followers(path)) == 2


def test_one_that_does_not_succeed_makes_it_fail(database: Database, path: Path) -> None:
    members(database, 3)
    finish(database, BAD)
    broker.cancel(database, [2], reason="no")
    finish(database)
    assert (rows(path, COUNTS), followers(path)) == ([(3, 1, 2, "failed")], ["on:complete", "on:failure"])


def test_an_empty_one_is_complete_at_once_and_an_open_one_is_not(database: Database, path: Path) -> None:
    number = batches.make(database, "b", CALLBACKS, is_open=True)
    finish(database, limit=0)
    assert (rows(path, COUNTS), followers(path)) == ([(0, 0, 0, "open")], [])
    batches.close(database, number)
    assert (rows(path, COUNTS), followers(path)) == ([(0, 0, 0, "success")], ["on:complete", "on:success"])


def test_whoever_ends_a_member_it_is_counted(database: Database, app: App, path: Path) -> None:
    members(database, 2)
    assert sqlite_shell(path, "UPDATE jobs SET status = 'cancelled' WHERE batch = 'b'").stderr == ""
    finish(database, limit=0)
    assert rows(path, COUNTS) == [(2, 0, 2, "failed")]


def test_a_retry_opens_it_again_and_it_is_complete_again(database: Database, path: Path) -> None:
    number = members(database, 3)
    finish(database, BAD, limit=2)
    finish(database)
    assert rows(path, COUNTS) == [(3, 1, 2, "failed")]
    assert batches.retry(database, number) == [1, 2]
    assert rows(path, COUNTS) == [(3, 1, 0, "running")]
    finish(database, limit=5)
    assert rows(path, COUNTS) == [(3, 3, 0, "success")]
    assert followers(path) == ["on:complete", "on:failure", "on:complete", "on:success"]


def test_one_that_is_opened_again_is_found_before_a_newer_one(database: Database, path: Path) -> None:
    first = members(database, 1)
    finish(database, BAD)
    second = members(database, 1, Callbacks())
    finish(database, limit=9)
    assert [batches.find(database, "b").id, *batches.retry(database, first)] == [second, 1]
    assert batches.find(database, "b").id == first
    assert batches.make(database, "b", Callbacks(), is_open=True) == first
    batches.close(database, first)
    finish(database)
    assert rows(path, COUNTS) == [(1, 1, 0, "success"), (1, 1, 0, "success")]


def test_one_that_cannot_be_opened_again_stays_as_it_was(database: Database, path: Path) -> None:
    first = members(database, 2)
    finish(database, BAD, limit=2)
    second = members(database, 1, Callbacks())
    assert broker.retry(database, [1], reason="again") == [1]
    assert sqlite_shell(path, "UPDATE jobs SET status = 'pending' WHERE id = 2").stderr == ""
    assert rows(path, COUNTS) == [(2, 0, 2, "failed"), (1, 0, 0, "running")]
    finish(database, limit=9)
    batches.close(database, second)
    assert broker.retry(database, [1], reason="again") == [1]
    finish(database, limit=9)
    assert rows(path, COUNTS) == [(2, 0, 2, "failed"), (1, 1, 0, "success")]
    assert batches.by_number(database, first).finished_at is not None


def test_a_retry_by_hand_opens_it_again_too(database: Database, path: Path) -> None:
    members(database, 3)
    finish(database, BAD, limit=2)
    finish(database)
    assert rows(path, COUNTS) == [(3, 1, 2, "failed")]
    sqlite_shell(path, "UPDATE jobs SET status = 'pending' WHERE id IN (2, 3)")
    assert rows(path, COUNTS) == [(3, 0, 1, "running")]
    finish(database, limit=5)
    assert rows(path, COUNTS) == [(3, 2, 1, "failed")]
    assert followers(path) == ["on:complete", "on:failure"] * 2
    members(database, 1)
    sqlite_shell(path, "UPDATE jobs SET status = 'pending' WHERE id = 1")
    assert rows(path, COUNTS) == [(3, 2, 1, "failed"), (1, 0, 0, "running")], "its name is another's by now"


def test_the_next_batch_of_the_name_is_another(database: Database, path: Path) -> None:
    members(database, 1)
    finish(database, BAD)
    broker.enqueue(database, [Request("a:b", batch="b")])
    assert rows(path, COUNTS) == [(1, 0, 1, "failed"), (1, 0, 0, "running")]
    broker.retry(database, [1], reason="again")
    assert rows(path, COUNTS)[0] == (1, 0, 1, "failed"), "its name is another's by now: it stays as it was"
    finish(database, limit=9)
    assert rows(path, COUNTS) == [(1, 0, 1, "failed"), (1, 1, 0, "success")]


@pytest.mark.parametrize("mode", RUNNERS)
def test_members_add_members_and_a_task_follows(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    with app.batch("nightly", on_complete=app.task(tasks.touch)) as batch:
        app.enqueue("tests.together:add_to_batch", {"name": "nightly", "depth": 4})
        app.task(tasks.square).enqueue(3)
    runner(**slots(mode, 2))
    found = batch.wait(timeout=30)
    assert (found.total, found.done, found.failed, found.status) == (2 + 2 + 4 + 8 + 16, 32, 0, "success")
    until(lambda: len(marks(folder)) == 2)
    assert len(batch.ids) == 32
    assert app.invocation(batch.ids[0]).details.batch == "nightly"


@pytest.mark.parametrize(
    ("following", "why"),
    [
        (Request("on:complete", unique_key="k", if_exists="error"), "job 1 with the key 'k' is not finished"),
        (Request("on:complete", after='[[99, "success"]]'), "there is no job 99"),
        (Request("on:complete", args="5"), "args must be a JSON object or array"),
    ],
)
def test_what_cannot_follow_any_more_keeps_nobody_from_work(
    app: App, database: Database, runner: StartRunner, folder: Path, path: Path, following: Request, why: str
) -> None:
    broker.enqueue(database, [Request("on:complete", unique_key="k", hold=True)])
    number = batches.make(database, "b", Callbacks(Request("tests.tasks:touch"), None, following), is_open=True)
    broker.enqueue(database, [Request("tests.tasks:touch", batch="b")])
    batches.close(database, number)
    running = runner(jobs=1)
    assert app.enqueue("tests.tasks:square", {"n": 3}).result(timeout=30) == 9
    until(lambda: len(marks(folder)) == 3)  # the member, the other that follows, and the square
    assert why in running.stderr
    assert why in str(rows(path, "SELECT remark FROM batches")[0][0])
    assert why in Cli(folder)("batch", "show", "b").stderr


def test_after_a_batch(app: App, database: Database, path: Path) -> None:
    with app.batch("b") as batch:
        first, second = app.enqueue("a:b"), app.enqueue("a:b")
    last = app.enqueue("a:b", after=batch)
    assert last.details.reason == f"waits for job {first.id} and 1 more"
    assert second.details.batch == "b"
    assert last.details.batch is None
    with pytest.raises(WaitTimeout):
        batch.wait(timeout=0.05)
    assert batch.cancel() == [first.id, second.id]
    assert last.status is Status.CANCELLED


def test_what_cannot_be_meant_is_refused(app: App, database: Database) -> None:
    for wrong in ("", 7):
        with pytest.raises(UsageError, match="a batch has a name"):
            app.enqueue("a:b", batch=wrong)  # type: ignore[arg-type]
    with pytest.raises(BatchNotFound, match="there is no batch 'b'"):
        batches.find(database, "b")
    with pytest.raises(TypeError):
        app.batch("b", on_complete=app.task(tasks.square))
    for when in ({"delay": "1h"}, {"expires": "1h"}):
        with pytest.raises(UsageError, match="comes when the batch is complete"):
            app.batch("b", on_complete=tasks.touch.options(**when))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(1500, id="short"),
        pytest.param(100_000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
def test_a_large_batch_is_followed_once_whatever_is_killed(
    app: App, runner: StartRunner, path: Path, folder: Path, size: int
) -> None:
    with app.batch("large", on_complete=app.task(tasks.touch)) as batch:
        app.task(tasks.length).enqueue_many({"text": "x"} for _ in range(size))
    for number in range(4):
        running = runner(mode="thread", jobs=2, max_jobs=None)
        until(lambda goal=size * (number + 1) // 5: batch.facts.done >= goal, 300)  # type: ignore[misc]
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    runner(mode="thread", jobs=2)
    found = batch.wait(timeout=300)
    counted = rows(path, "SELECT count(*), sum(status = 'success') FROM jr_invocation WHERE batch = ?", batch.id)
    assert counted == [(found.total, found.done)] == [(size, size - found.failed)]
    until(lambda: len(marks(folder)) >= 1)
    assert rows(path, "SELECT count(*) FROM jr_invocation WHERE task = 'tests.tasks:touch'") == [(1,)]


def test_the_command_line(folder: Path, path: Path) -> None:
    cli = Cli(folder)
    cli.ok("enqueue", "--batch", "b", "--each", "--", "sh", "-c", stdin="true\nfalse\ntrue\n")
    assert cli.ok("batch", "list").split("\t")[:5] == ["b", "3", "0", "0", "running"]
    cli.drain()
    done = cli("batch", "wait", "b")
    assert done.returncode == 1
    assert done.stdout.split("\t")[:5] == ["b", "3", "2", "1", "failed"]
    assert "3/3, 1 failed" in done.stderr
    facts = cli.json("batch", "show", "b")
    assert (facts["total"], facts["done"], facts["status"]) == (3, 2, "failed")
    assert cli.ok("list", "batch:b", "status:failed").split("\t")[0] == "2"
    assert cli.ok("batch", "retry", "b") == "2\n"
    assert cli("batch", "wait", "b", "--timeout", "100ms").returncode == 124
    assert cli.ok("batch", "cancel", "b") == "2\n"
    assert cli("wait", "@b").returncode == 1
    assert "[##" in cli.at_terminal("batch", "wait", "b")
    assert cli.ok("enqueue", "--jsonl", "-", stdin='{"command": ["true"], "batch": "c"}\n') == "4\n"
    cli.drain()
    assert cli("wait", "@c").returncode == 0
    for words, code in ((("wait", "no"), 4), (("wait",), 2), (("dance", "b"), 2), (("cancel", "no"), 4)):
        told = cli("batch", *words)
        assert (told.returncode, "Traceback" in told.stderr) == (code, False), told
