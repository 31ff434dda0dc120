"""Tasks that a runner's code does not have: at a deploy, an old runner meets new jobs. They stay, and are told of."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import App, Status, broker, claims, orchestrator, times, unknown_tasks
from jobrunner.database import Database
from jobrunner.models import Claimed, Exit, Failure, Outcome, Request, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.policy import Policy, Retry
from jobrunner.times import Clocks
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import RunnerProcess
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.waiting import until
from tests.helpers.wall import NOON, Wall, heeded

NEW = """
from jobrunner import App
app = App()

@app.task(aliases=["shop:send", "long_gone:send"])
def dispatch(user: int = 0) -> str:
    return f"new {user}"
"""


def release(folder: Path, text: str) -> None:
    (folder / "shop.py").write_text(text)


def until_put_off(app: App, job: int) -> None:
    until(lambda: app.invocation(job).status is Status.SCHEDULED)


@pytest.mark.parametrize("mode", RUNNERS)
@pytest.mark.parametrize("task", ["shop:dispatch", "no_such_module:send", "shop:Class.method"])
def test_it_stays_and_spends_nothing(
    app: App, runner: StartRunner, folder: Path, path: Path, mode: str, task: str
) -> None:
    release(folder, "def send(): ...")
    job = app.enqueue(task)
    running = runner(**slots(mode, 1), app_dir=str(folder))
    until_put_off(app, job.id)
    details = job.details
    assert (details.attempts, details.crashes) == (0, 0)
    assert details.reason is not None
    assert details.reason.startswith("no runner knows its task: ")
    assert app.enqueue("shop:send").result(timeout=30) is None, "others are done"
    assert rows(path, "SELECT outcome FROM jr_attempt WHERE invocation = 1") == [("unknown",)]
    assert running.is_running


@pytest.mark.parametrize("mode", RUNNERS)
def test_the_next_runner_does_it(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    release(folder, "def send(): ...")
    job = app.enqueue("shop:dispatch", {"user": 7})
    first = runner(**slots(mode, 1), app_dir=str(folder))
    until_put_off(app, job.id)
    first.stop()
    release(folder, NEW)
    runner(**slots(mode, 1), app_dir=str(folder))
    assert job.result(timeout=30) == "new 7"
    assert job.details.attempts == 1


@pytest.mark.parametrize("name", ["shop:send", "long_gone:send"])
def test_a_task_answers_to_the_names_that_it_had(app: App, runner: StartRunner, folder: Path, name: str) -> None:
    release(folder, NEW)
    job = app.enqueue(name, {"user": 3})
    runner(jobs=1, app_dir=str(folder), imports=("shop",))
    assert job.result(timeout=30) == "new 3"


def test_a_drain_does_not_wait_for_it_and_it_is_told_of(folder: Path) -> None:
    cli = Cli(folder)
    job = cli.enqueue("no_such_module:send")
    assert cli("run", "--drain", "-q").returncode == 0
    assert "no runner knows its task: there is no module 'no_such_module'" in cli.ok("show", str(job))
    assert "unknown tasks\tno_such_module:send\t1" in cli.ok("status")
    assert "1 jobs of no_such_module:send wait" in cli("doctor").stdout
    assert cli.json("status")["unknown_tasks"] == {"no_such_module:send": 1}
    assert "no runner knows no_such_module:send (1 jobs)" in cli.at_terminal("status")
    assert cli.ok("retry", str(job)) == f"{job}\n"
    assert cli("run", "--drain", "-q").returncode == 0
    cli.ok("cancel", str(job))
    assert "unknown tasks" not in cli.ok("status")


def test_it_is_tried_later_and_later(app: App, runner: StartRunner, path: Path) -> None:
    job = app.enqueue("no_such_module:send")
    running: RunnerProcess = runner(jobs=1)
    waits = []
    for _ in range(3):
        until(lambda: rows(path, "SELECT status FROM jr_invocation") == [("scheduled",)])
        waits.append(rows(path, "SELECT run_at - changed_at FROM jr_invocation")[0][0])
        rows(path, "UPDATE jr_unknown SET next_at = 1")
        until(lambda: job.details.claim > len(waits))
    assert waits == [5000, 10_000, 20_000]
    assert running.is_running


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_drain_does_all_of_them_when_the_task_is_known(folder: Path, mode: str) -> None:
    release(folder, "def send(): ...")
    cli = Cli(folder)
    cli.ok("enqueue", "--jsonl", "-", stdin='{"task": "shop:dispatch"}\n' * 20)
    run = ("run", "--drain", "-q", "--mode", mode, "--app-dir", str(folder))
    assert cli(*run).returncode == 0
    assert cli.json("status")["unknown_tasks"] == {"shop:dispatch": 20}
    assert cli(*run).returncode == 0, "still nobody knows it, and nobody waits"
    release(folder, NEW)
    assert cli(*run).returncode == 0
    assert cli.json("status")["unknown_tasks"] == {}


# One is tried for all ------------------------------------------------------------------------------------------------

ME = RunnerId(1)


@pytest.fixture
def wall() -> Iterator[Wall]:
    wall = Wall()
    with times.clocks(wall.clocks()):
        yield wall


def claim(database: Database, queues: tuple[str, ...] = ()) -> list[Claimed]:
    """What the clock lets in is claimed."""
    with database.transaction():
        while broker.promote_and_expire(database):
            pass
        return claims.claim(database, ME, queues, 100_000)


def put_off(database: Database, claimed: list[Claimed]) -> None:
    """The runner's code has none of these tasks."""
    for one in claimed:
        orchestrator.record(database, Ended(one, Policy(), orchestrator.unknown("no such"), Exit(1, 0), "unknown"), ME)


def succeed(database: Database, claimed: list[Claimed]) -> None:
    orchestrator.record_all(database, [Ended(one, Policy(), Outcome(), Exit(1, 0)) for one in claimed], ME)


def test_while_nobody_knows_a_task_one_of_its_jobs_is_tried_at_a_time(database: Database, wall: Wall) -> None:
    broker.enqueue(database, [Request("a:b")] * 1000)
    put_off(database, claim(database))
    tried = []
    for wait in (5, 10, 20, 40, 80, 160, 320, 600, 600):
        wall.now += 1000 * wait - 1
        assert claim(database) == []
        wall.now += 1
        probe = claim(database)
        tried.append([one.id for one in probe])
        put_off(database, probe)
    assert tried == [[1]] * 9


def test_when_one_turns_out_to_be_known_all_go(database: Database, wall: Wall) -> None:
    broker.enqueue(database, [Request("a:b")] * (2 * unknown_tasks.JOBS_AT_ONCE) + [Request("c:d")])
    put_off(database, claim(database))
    wall.now += unknown_tasks.FIRST_MS
    first, other = claim(database)
    assert (first.task, other.task) == ("a:b", "c:d")
    succeed(database, [first])
    put_off(database, [other])
    wall.now += unknown_tasks.SOON_MS
    with database.transaction():
        assert broker.promote_and_expire(database) == unknown_tasks.JOBS_AT_ONCE, "not all in one transaction"
        assert broker.next_due(database) == wall.now, "and it goes on at once"
    rest = claim(database)
    assert len(rest) == 2 * unknown_tasks.JOBS_AT_ONCE - 1
    assert {one.attempt for one in rest} == {1}
    assert database.query("unknown_tasks")[0][:2] == ("c:d", 1)


def test_one_that_runs_for_long_is_known(database: Database, wall: Wall) -> None:
    broker.enqueue(database, [Request("a:b")] * 3)
    put_off(database, claim(database))
    wall.now += unknown_tasks.FIRST_MS
    assert len(claim(database)) == 1
    claimed: list[Claimed] = []
    while not claimed:
        wall.now = broker.next_due(database) or 0
        claimed = claim(database)
    assert len(claimed) == 2
    assert wall.now < NOON + 60_000


@pytest.mark.parametrize("ends", ["cancelled", "retry", "another queue"])
def test_where_the_one_that_is_tried_tells_nothing_the_others_do_not_wait_for_it(
    database: Database, path: Path, wall: Wall, ends: str
) -> None:
    requests = [Request("a:b", queue="x" if ends == "another queue" else "y"), *[Request("a:b", queue="y")] * 2]
    broker.enqueue(database, requests)
    put_off(database, claim(database))
    wall.now += unknown_tasks.FIRST_MS
    if ends == "another queue":  # which nobody does any more
        assert [one.id for one in claim(database, ("y",))] == [2]
        return
    (first,) = claim(database)
    if ends == "cancelled":
        put_off(database, [first])
        broker.cancel(database, [first.id], reason="test")
        wall.now += 2 * unknown_tasks.FIRST_MS
        assert [one.id for one in claim(database)] == [2]
    else:
        retry = Policy(retry=Retry(attempts=3, base="1h"))
        orchestrator.record(database, Ended(first, retry, Outcome(failure=Failure("E", "e")), Exit(1, 0)), ME)
        wall.now += unknown_tasks.SOON_MS
        assert [one.id for one in claim(database)] == [2, 3], "it was found, and failed"


def test_a_runner_that_starts_tries_one_of_each_task(database: Database, path: Path, wall: Wall) -> None:
    broker.enqueue(database, [Request(f"a:{n}") for n in range(2 * unknown_tasks.TASKS_AT_ONCE + 1)] * 2)
    put_off(database, claim(database))
    wall.now += 1
    unknown_tasks.try_now(database)
    assert len(claim(database)) == 2 * unknown_tasks.TASKS_AT_ONCE + 1


def test_it_expires_like_any_that_was_never_begun(database: Database, path: Path, wall: Wall) -> None:
    broker.enqueue(database, [Request("a:b", expires_at=NOON + 60_000)] * 4)
    unknown, returned, interrupted, retried = claim(database)
    put_off(database, [unknown])
    for one, stopped, exit in ((returned, "returned", None), (interrupted, "shutdown", Exit(1, 0))):
        orchestrator.record(database, Ended(one, Policy(), None, exit, stopped), ME)  # type: ignore[arg-type]
    retry = Policy(retry=Retry(attempts=3, base="1s"))
    orchestrator.record(database, Ended(retried, retry, Outcome(failure=Failure("E", "e")), Exit(1, 0)), ME)
    wall.now += 10_000
    put_off(database, [one for one in claim(database) if one.id != interrupted.id])
    wall.now += 50_000
    claim(database)
    expired = rows(path, "SELECT id FROM jr_invocation WHERE status = 'expired' ORDER BY id")
    assert expired == [(unknown.id,), (returned.id,)], "what has begun once is to be ended"


def test_a_drain_does_not_wait_for_one_that_had_failed_before(database: Database, wall: Wall) -> None:
    broker.enqueue(database, [Request("a:b")])
    retry = Policy(retry=Retry(attempts=3, base="1s", jitter=0))
    orchestrator.record(database, Ended(claim(database)[0], retry, Outcome(failure=Failure("E", "e")), Exit(1, 0)), ME)
    assert not broker.is_drained(database, [])
    wall.now += 1000
    put_off(database, claim(database))
    assert broker.is_drained(database, [])


def test_only_what_was_tried_in_vain_makes_it_later(database: Database, path: Path, wall: Wall) -> None:
    broker.enqueue(database, [Request("a:b")])
    for _ in range(6):
        orchestrator.record(database, Ended(claim(database)[0], Policy(), None, None, "returned"), ME)
    put_off(database, claim(database))
    assert rows(path, "SELECT run_at - changed_at FROM jr_invocation") == [(unknown_tasks.FIRST_MS,)]


@pytest.mark.parametrize("hours", [1, -1])
def test_it_is_tried_when_it_was_to_be_tried_whoever_sets_the_clock(database: Database, wall: Wall, hours: int) -> None:
    moved = 0
    with times.clocks(Clocks(lambda: wall.now + moved, lambda: wall.now)):
        clock = heeded(database)
        broker.enqueue(database, [Request("a:b")])
        put_off(database, claim(database))
        moved = 3_600_000 * hours
        with database.transaction():
            assert clock.heed()
        wall.now += unknown_tasks.FIRST_MS - 1
        assert claim(database) == []
        wall.now += 1
        assert len(claim(database)) == 1
