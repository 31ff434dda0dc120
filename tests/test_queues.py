"""Queues that are paused, or limited: over all runners, and changed while they run."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Invocation, Status, UsageError, broker, claims, orchestrator, queues, state_backend, times
from jobrunner.database import Database
from jobrunner.models import Exit, Outcome, Request, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.policy import Policy
from jobrunner.times import Clocks
from tests import tasks
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.trace import marks
from tests.helpers.waiting import until
from tests.helpers.wall import Wall, heeded

ONE, TWO = RunnerId(1), RunnerId(2)


@pytest.fixture
def wall() -> Iterator[Wall]:
    wall = Wall()
    with times.clocks(wall.clocks()):
        yield wall


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database(path, create=True, relaxed=True) as database:
        yield database


def fill(database: Database, queue: str, count: int, priority: int = 0) -> None:
    broker.enqueue(database, [Request("a:b", queue=queue, priority=priority)] * count)


def take(database: Database, limit: int, runner: RunnerId = ONE) -> claims.Taken:
    with database.transaction():
        return claims.take(database, runner, [], limit)


def end(database: Database, taken: claims.Taken) -> None:
    for one in taken.claimed:
        orchestrator.record(database, Ended(one, Policy(), Outcome(), Exit(1, 0)), ONE)


def test_a_limit_holds_over_all_runners_and_can_be_changed(database: Database) -> None:
    fill(database, "mail", 20)
    fill(database, "other", 3)
    queues.limit(database, "mail", concurrency=4, rate=None)
    first, second = take(database, 6), take(database, 6, TWO)
    assert sorted(one.queue for one in first.claimed) == ["mail"] * 4 + ["other"] * 2
    assert [one.queue for one in second.claimed] == ["other"]
    queues.limit(database, "mail", concurrency=6, rate=None)
    assert len(take(database, 9, TWO).claimed) == 2
    end(database, first)
    assert len(take(database, 9, TWO).claimed) == 4
    queues.limit(database, "mail", concurrency=None, rate=None)
    assert len(take(database, 99).claimed) == 10
    assert queues.settings(database) == []


def test_who_waits_for_others_takes_no_place_of_its_queue(database: Database) -> None:
    fill(database, "mail", 3)
    queues.limit(database, "mail", concurrency=1, rate=None)
    waiter = take(database, 5)
    assert take(database, 5).claimed == []
    with database.transaction():
        orchestrator.pause(database, waiter.claimed[0], [2])
    awaited = take(database, 5)
    assert [one.id for one in awaited.claimed] == [2]
    end(database, awaited)
    assert take(database, 5, TWO).claimed == [], "the next place is for who goes on"
    assert queues.places(database, ["mail", "other"]) == {"mail": 1}
    orchestrator.resume(database, waiter.claimed[0])
    assert take(database, 5, TWO).claimed == []
    end(database, waiter)
    assert [one.id for one in take(database, 5, TWO).claimed] == [3]


@pytest.mark.parametrize("mode", RUNNERS)
@pytest.mark.parametrize("timeout", [None, 0.1])
def test_who_has_waited_goes_on_with_the_next_place_of_its_queue_and_before_who_has_not_begun(
    app: App, runner: StartRunner, folder: Path, database: Database, mode: str, timeout: float | None
) -> None:
    def begun(job: Invocation[Any]) -> bool:
        return any(mark.id == job.id for mark in marks(folder))

    queues.limit(database, "narrow", concurrency=1, rate=None)
    awaited = app.enqueue("tests.tasks:wait_for_file", {"name": "awaited"}, queue="wide")
    waiter = app.enqueue("tests.together:wait_for_in_vain", {"ids": [awaited.id], "timeout": timeout}, queue="narrow")
    first = app.enqueue("tests.tasks:wait_for_file", {"name": "first"}, queue="narrow")
    runner(**slots(mode, 3))
    until(lambda: begun(first) and begun(awaited))
    second = app.enqueue("tests.tasks:wait_for_file", {"name": "second"}, queue="narrow")
    runner(jobs=2, queues=["narrow"]).until_ready()
    if timeout is None:
        (folder / "awaited").touch()
    until(lambda: waiter.details.reason == "waits for a place of its queue")
    assert (waiter.status, second.status) == (Status.PAUSED, Status.PENDING)
    (folder / "first").touch()
    assert ("WaitTimeout" in waiter.result(timeout=30)) == (timeout is not None)
    until(lambda: begun(second))
    (folder / "second").touch()
    (folder / "awaited").touch()
    app.wait([first, second, awaited], timeout=30)
    with Database(app.path) as eyes:
        moments = [(one.at, one.to_status) for one in state_backend.history(eyes, waiter.id)]
        began = next(one.at for one in state_backend.history(eyes, second.id) if one.to_status == "running")
    assert max(at for at, status in moments if status == "success") <= began


@pytest.mark.parametrize("rate", ["5/s", "5/1s", "5/1000ms", "5/sec"])
def test_no_more_begin_in_any_period_than_the_rate_says(database: Database, wall: Wall, path: Path, rate: str) -> None:
    fill(database, "mail", 200)
    queues.limit(database, "mail", concurrency=None, rate=rate)
    began: list[int] = []
    while len(began) < 100:
        taken = take(database, 3, ONE if len(began) % 2 else TWO)
        began += [wall.now] * len(taken.claimed)
        end(database, taken)
        if not taken.claimed:
            assert taken.next_at is not None
            assert taken.next_at > wall.now
            wall.now = taken.next_at
        else:
            wall.now += 37
    assert all(later - earlier >= 1000 for earlier, later in zip(began, began[5:], strict=False))
    assert began[-1] - began[0] <= 1100 * len(began) // 5, "and not many fewer"
    assert rows(path, "SELECT count(*) <= 8 FROM jr_start") == [(1,)]


@pytest.mark.parametrize("hours", [1, -1])
@pytest.mark.parametrize("restarted", [False, True], ids=["", "while the machine restarted"])
def test_a_rate_holds_and_is_reached_whoever_sets_the_clock(
    database: Database, wall: Wall, path: Path, hours: int, restarted: bool
) -> None:
    moved = 0
    with times.clocks(Clocks(lambda: wall.now + moved, lambda: wall.now)):
        clock = heeded(database)
        fill(database, "mail", 20)
        queues.limit(database, "mail", concurrency=None, rate="5/min")
        assert len(take(database, 9).claimed) == 5
        moved = 3_600_000 * hours
        if restarted:
            rows(path, "UPDATE jr_clock SET boot_id = 'before'")
        with database.transaction():
            assert clock.heed()
        if restarted and hours > 0:  # that much may have passed, for all that is known
            return
        wall.now += 59_000
        assert take(database, 9).claimed == []
        wall.now += 1001
        assert len(take(database, 9).claimed) == 5


def test_a_pause_ends_by_itself_or_by_hand(database: Database, wall: Wall) -> None:
    fill(database, "mail", 3)
    queues.pause(database, "mail")
    assert take(database, 5) == claims.Taken([])
    assert broker.is_drained(database, []), "a drain does not wait for a queue that is paused"
    queues.pause(database, "mail", until=wall.now + 5000)
    assert take(database, 5).next_at == wall.now + 5000
    wall.now += 5000
    assert len(take(database, 2).claimed) == 2
    queues.pause(database, "mail")
    queues.resume(database, "mail")
    assert len(take(database, 2).claimed) == 1
    assert queues.settings(database) == []


def test_a_paused_queue_holds_up_no_other_and_what_runs_goes_on(app: App, runner: StartRunner, folder: Path) -> None:
    cli = Cli(folder)
    long = app.enqueue("tests.tasks:wait_for_file", {"name": "go"}, queue="mail")
    running = runner(jobs=2)
    until(lambda: long.status is Status.RUNNING)
    cli.ok("queue", "pause", "mail")
    waits = app.enqueue("tests.tasks:square", {"n": 3}, queue="mail", priority=9)
    assert app.enqueue("tests.tasks:square", {"n": 4}).result(timeout=30) == 16
    (folder / "go").touch()
    assert long.result(timeout=30) == "go"
    assert waits.status is Status.PENDING
    assert "the queue 'mail' is paused" in cli.ok("show", str(waits.id))
    cli.ok("queue", "resume", "mail")
    assert waits.result(timeout=30) == 9
    assert running.is_running


def test_two_runners_keep_to_the_rate(app: App, runner: StartRunner, folder: Path, path: Path) -> None:
    Cli(folder).ok("queue", "limit", "mail", "--rate", "20/s")
    jobs = app.task(tasks.square).options(queue="mail").enqueue_many({"n": n} for n in range(70))
    runner(mode="thread", jobs=1)
    runner(jobs=2)
    app.wait(jobs, timeout=60)
    began = [row[0] for row in rows(path, "SELECT started_at FROM jr_invocation ORDER BY started_at")]
    assert all(later - earlier >= 1000 for earlier, later in zip(began, began[20:], strict=False))
    assert len(marks(folder)) == 70


def test_a_runner_that_waits_for_a_rate_does_not_spin(app: App, runner: StartRunner, folder: Path) -> None:
    Cli(folder).ok("queue", "limit", "mail", "--rate", "1/1h")
    for _ in range(3):
        app.enqueue("tests.tasks:square", {"n": 3}, queue="mail")
    running = runner(jobs=1)
    until(lambda: app.counts()[Status.SUCCESS] == 1)
    before = Path(f"/proc/{running.pid}/schedstat").read_text().split()[0]
    time.sleep(1.0)
    after = Path(f"/proc/{running.pid}/schedstat").read_text().split()[0]
    assert int(after) - int(before) < 300_000_000, "it spent a third of its time, and had nothing to do"


def test_the_command_line(folder: Path, path: Path) -> None:
    cli = Cli(folder)
    cli.ok("enqueue", "-Q", "mail", "--", "true")
    cli.ok("queue", "limit", "mail", "--concurrency", "4", "--rate", "100/min")
    cli.ok("queue", "pause", "video", "--until", "2030-01-07 08:00Z")
    assert [line.split("\t") for line in cli.ok("queue", "list").splitlines()] == [
        ["mail", "1", "0", "0", "0", "0", "on", "4", "100/60s"],
        ["video", "0", "0", "0", "0", "0", "paused until 2030-01-07T08:00:00.000Z", "", ""],
    ]
    assert cli.json("queue", "list")[0]["concurrency"] == 4
    assert "100/60s" in cli.at_terminal("queue", "list")
    for words, sentence in (
        (("limit", "mail", "--concurrency", "0"), "at least one job at a time"),
        (("limit", "mail", "--concurrency", "few"), "wants a whole number"),
        (("limit", "mail", "--rate", "fast"), "a rate is a number in a time"),
        (("limit", "mail", "--rate", "0/s"), "a rate is a number in a time"),
        (("limit", "mail", "--rate", "5/"), "a rate is a number in a time"),
        (("pause",), "with the name of one queue"),
        (("dance", "mail"), "type `jobrunner queue list`"),
        (("pause", ""), "a queue has a name"),
    ):
        done = cli("queue", *words)
        assert (done.returncode, sentence in done.stderr, "Traceback" in done.stderr) == (2, True, False), done
    with pytest.raises(UsageError):
        times.read_rate("10/0ms")
