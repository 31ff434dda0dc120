"""Jobs that begin when others have ended: let go, called off, and never too early."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner import (
    App,
    Invocation,
    InvocationFailed,
    InvocationNotFound,
    Status,
    UsageError,
    broker,
    claims,
    dependencies,
    orchestrator,
    sql,
)
from jobrunner.database import Database
from jobrunner.models import Claimed, Exit, Outcome, Request, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.policy import Policy
from tests import tasks
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows, sqlite_shell
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.trace import marks
from tests.helpers.turns import BAD, GOOD, RUNNER, finish
from tests.helpers.waiting import until

Job = Invocation[Any]


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database(path, create=True, relaxed=True) as database:
        yield database


def statuses(path: Path) -> list[str]:
    return [row[0] for row in rows(path, "SELECT status FROM jr_invocation ORDER BY id")]


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_diamond_is_done_in_its_order(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    top = app.enqueue("tests.tasks:touch")
    sides = [app.enqueue("tests.tasks:touch", after=top) for _ in range(3)]
    bottom = app.enqueue("tests.tasks:touch", after=sides)
    last = app.enqueue("tests.tasks:touch", after_any=[bottom], after_failure=app.enqueue("tests.tasks:fail_later"))
    assert [one.status for one in (*sides, bottom, last)] == [Status.BLOCKED] * 5
    assert (bottom.details.reason, sides[0].details.reason) == (
        f"waits for job {sides[0].id} and 2 more",
        "waits for job 1",
    )
    runner(**slots(mode, 2), drain=True).wait()
    order = [mark.id for mark in marks(folder)]
    assert (order[0], set(order[1:4]), order[4:]) == (top.id, {one.id for one in sides}, [bottom.id, last.id])
    assert {one.status for one in (top, *sides, bottom, last)} == {Status.SUCCESS}


def test_the_failure_of_one_calls_off_all_that_hang_on_it_once(app: App, database: Database, path: Path) -> None:
    first = app.enqueue("a:b")
    second = app.enqueue("a:b", after=first)
    third = app.enqueue("a:b", after=[second])
    anyway = app.enqueue("a:b", after_any=third)
    comfort = app.enqueue("a:b", after_failure=first)
    useless = app.enqueue("a:b", after=[comfort, second])
    finish(database, BAD)
    assert statuses(path) == ["failed", "cancelled", "cancelled", "pending", "pending", "cancelled"]
    assert {one.details.reason for one in (second, third, useless)} == {"after job 1, which failed"}
    assert rows(path, "SELECT job, count(*) FROM history WHERE to_status = 'cancelled' GROUP BY job") == [
        (2, 1),
        (3, 1),
        (6, 1),
    ]
    assert (anyway.status, comfort.status) == (Status.PENDING, Status.PENDING)


@pytest.mark.parametrize(
    ("option", "outcome", "status"),
    [
        ("after", GOOD, "pending"),
        ("after", BAD, "cancelled"),
        ("after_any", GOOD, "pending"),
        ("after_any", BAD, "pending"),
        ("after_failure", GOOD, "cancelled"),
        ("after_failure", BAD, "pending"),
    ],
)
def test_what_has_ended_already_is_decided_at_once(
    app: App, database: Database, option: str, outcome: Outcome, status: str
) -> None:
    first = app.enqueue("a:b")
    finish(database, outcome)
    assert app.enqueue("a:b", **{option: first}).status == status  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["cancel", "by hand", "expire"])
def test_whoever_ends_it_and_however_its_dependents_hear_of_it(
    app: App, database: Database, path: Path, how: str
) -> None:
    first = app.enqueue("a:b", expires="1ms" if how == "expire" else None, delay="1h" if how == "expire" else None)
    second = app.enqueue("a:b", after=first)
    comfort = app.enqueue("a:b", after_failure=first)
    if how == "cancel":
        first.cancel()
        assert second.status is Status.CANCELLED, "at once, without a runner"
    elif how == "by hand":
        assert sqlite_shell(path, "UPDATE jobs SET status = 'cancelled' WHERE id = 1").stderr == ""
    time.sleep(0.01)
    with database.transaction():
        broker.promote_and_expire(database)
        dependencies.settle(database)
    assert (second.status, comfort.status) == (Status.CANCELLED, Status.PENDING)
    ends = {"expire": "expired"}.get(how, "was cancelled")
    assert second.details.reason == f"after job 1, which {ends}"


def test_an_idle_runner_hears_of_what_was_ended_by_hand(app: App, runner: StartRunner, path: Path) -> None:
    first = app.enqueue("tests.tasks:touch", hold=True)
    second = app.enqueue("tests.tasks:square", {"n": 3}, after_any=first)
    runner(jobs=1).until_ready()
    assert sqlite_shell(path, "UPDATE jobs SET status = 'cancelled' WHERE id = 1").stderr == ""
    assert second.result(timeout=30) == 9


def test_a_delay_and_a_dependency_both_hold(app: App, database: Database, path: Path) -> None:
    first = app.enqueue("a:b")
    early = app.enqueue("a:b", after=first, delay="1h")
    late = app.enqueue("a:b", after=first, delay="1h")
    assert statuses(path)[1] == "scheduled"
    rows(path, "UPDATE jr_invocation SET run_at = 1 WHERE id = ?", early.id)
    with database.transaction():
        broker.promote_and_expire(database)
    assert statuses(path)[1] == "blocked"
    finish(database)
    assert (early.status, late.status) == (Status.PENDING, Status.SCHEDULED)
    rows(path, "UPDATE jr_invocation SET run_at = 1 WHERE id = ?", late.id)
    with database.transaction():
        broker.promote_and_expire(database)
    assert late.status is Status.PENDING


def test_a_limit_and_a_dependency_both_hold(app: App, database: Database) -> None:
    first = app.enqueue("a:b", priority=9)
    limited = [app.enqueue("a:b", concurrency=1, concurrency_key="one", after=first) for _ in range(3)]
    free = app.enqueue("a:b", concurrency=1, concurrency_key="one")
    assert finish(database) == [first.id]
    assert {one.status for one in limited} == {Status.PENDING}
    claimed = claims.claim(database, RunnerId(1), [], 10)
    assert [one.id for one in claimed] == [limited[0].id]
    assert free.status is Status.BLOCKED
    orchestrator.record(database, Ended(claimed[0], Policy(), GOOD, Exit(1, 0)), RunnerId(1))
    assert len(claims.claim(database, RunnerId(1), [], 10)) == 1


def test_a_place_of_a_limit_is_not_given_to_who_waits_for_others(app: App, database: Database) -> None:
    held = app.enqueue("a:b", hold=True)
    waits = app.enqueue("a:b", concurrency=1, concurrency_key="one", after=held)
    runs = app.enqueue("a:b", concurrency=1, concurrency_key="one")
    assert finish(database) == [runs.id]
    assert waits.status is Status.BLOCKED


def test_a_retry_waits_anew_for_what_is_not_finished(app: App, database: Database, path: Path) -> None:
    first = app.enqueue("a:b")
    second = app.enqueue("a:b", after=first)
    third = app.enqueue("a:b", after=second)
    assert not second.retry(), "it waits, and nothing is to be retried"
    finish(database, BAD)
    assert statuses(path) == ["failed", "cancelled", "cancelled"]
    for one in (first, second, third):
        one.retry()
    assert statuses(path) == ["pending", "blocked", "blocked"]
    assert [finish(database)[0] for _ in range(3)] == [1, 2, 3]
    finish(database, BAD)
    second.retry()
    assert second.status is Status.PENDING, "what it depends on has ended: who retries it alone means it"


def test_a_retry_by_hand_waits_anew_too(app: App, database: Database, path: Path) -> None:
    first = app.enqueue("a:b")
    second = app.enqueue("a:b", after=first)
    third = app.enqueue("a:b", after=[first, second])
    finish(database, BAD)
    assert {one.status for one in (second, third)} == {Status.CANCELLED}
    sqlite_shell(path, "UPDATE jobs SET status = 'pending' WHERE status IN ('failed', 'cancelled')")
    assert [one.status for one in (first, second, third)] == [Status.PENDING, Status.BLOCKED, Status.BLOCKED]
    assert third.details.reason == f"waits for job {first.id}"
    assert [finish(database), finish(database), finish(database)] == [[first.id], [second.id], [third.id]]
    sqlite_shell(path, f"UPDATE jobs SET status = 'pending' WHERE id = {third.id}")
    assert finish(database) == [third.id]


def pause(database: Database, waiter: Job, awaited: Job) -> Claimed:
    """Claim the one, which is all that is pending, and have it wait for the other."""
    (claimed,) = claims.claim(database, RUNNER, [], 1)
    assert claimed.id == waiter.id
    orchestrator.pause(database, claimed, [awaited.id])
    return claimed


def retry(path: Path, *jobs: Job, by_hand: bool) -> None:
    ids = [job.id for job in jobs]
    if by_hand:
        each = "".join(f"UPDATE jobs SET status = 'pending' WHERE id = {one};" for one in ids)
        assert sqlite_shell(path, f"BEGIN IMMEDIATE; {each} COMMIT;").returncode == 0
    else:
        with Database(path) as database:
            broker.retry(database, ids, reason="once more")


@pytest.mark.parametrize("by_hand", [False, True])
def test_those_that_are_retried_together_wait_for_each_other_and_not_for_who_waits_for_them(
    app: App, database: Database, path: Path, by_hand: bool
) -> None:
    waiter = app.enqueue("a:b")
    middle = app.enqueue("a:b", after=waiter)
    end = app.enqueue("a:b", after=middle)
    assert [finish(database)[0] for _ in range(3)] == [waiter.id, middle.id, end.id]
    end.retry(), waiter.retry()
    waits = pause(database, waiter, end)
    assert finish(database) == [end.id]
    retry(path, middle, end, by_hand=by_hand)
    ways = ([Status.PENDING, Status.BLOCKED], [Status.BLOCKED, Status.PENDING])
    assert [middle.status, end.status] == ways[by_hand], "by hand, they are retried one after the other"
    finish(database)
    if by_hand:
        orchestrator.resume(database, waits)
        orchestrator.record(database, Ended(waits, Policy(), GOOD, Exit(1, 0)), RUNNER)
        dependencies.settle(database)
    assert finish(database) == [[end.id], [middle.id]][by_hand]


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("size", [1, 2])
def test_nobody_waits_anew_for_one_that_needs_the_place_of_who_waits_for_it(
    app: App, database: Database, path: Path, size: int, by_hand: bool
) -> None:
    place: dict[str, Any] = {"concurrency": size, "concurrency_key": "place"}
    first = app.enqueue("a:b", **place)
    second = app.enqueue("a:b", after=first)
    assert [finish(database)[0] for _ in range(2)] == [first.id, second.id]
    waiter = app.enqueue("a:b", **place)
    (claimed,) = claims.claim(database, RUNNER, [], 1)
    second.retry()
    orchestrator.pause(database, claimed, [second.id])
    assert finish(database) == [second.id]
    first.retry()
    retry(path, second, by_hand=by_hand)
    assert (second.status is Status.PENDING) == (size == 1)
    assert waiter.status is Status.PAUSED


@pytest.mark.parametrize("limit", [None, 1])
def test_who_waits_inside_a_job_for_what_waits_for_that_job_is_refused(
    app: App, runner: StartRunner, limit: int | None
) -> None:
    job = app.enqueue("tests.together:enqueue_after_itself_and_wait", [limit])
    runner(jobs=2)
    with pytest.raises(InvocationFailed, match="WaitCycle"):
        job.result(timeout=30)


def test_what_cannot_be_waited_for_is_refused_and_nothing_is_queued(app: App, path: Path) -> None:
    first = app.enqueue("a:b")
    for wrong in ("7", [None], [1.5], [True], [-1], [2**70]):
        with pytest.raises(UsageError, match="a job waits for jobs"):
            app.enqueue("a:b", after=wrong)
    with pytest.raises(InvocationNotFound, match="99"):
        app.enqueue("a:b", after=[first, 99])
    with pytest.raises(InvocationNotFound, match=str(first.id + 1)):
        app.enqueue("a:b", after=first.id + 1)  # the number that it would have itself
    with pytest.raises(UsageError, match="in one way"):
        app.enqueue("a:b", after=first, after_any=first)
    assert rows(path, "SELECT count(*) FROM jr_invocation") == [(1,)]


def test_a_job_enqueues_one_that_begins_after_itself(app: App, runner: StartRunner, folder: Path) -> None:
    app.enqueue("tests.together:enqueue_after_itself")
    runner(jobs=2, drain=True).wait()
    until(lambda: len(marks(folder)) == 1)
    assert app.counts()[Status.SUCCESS] == 2


@pytest.mark.parametrize(
    "width",
    [
        pytest.param(2000, id="short"),
        pytest.param(10_000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
)
def test_a_wide_fan_in_and_a_wide_fan_out(app: App, database: Database, path: Path, width: int) -> None:
    many = app.task(tasks.square).enqueue_many({"n": n} for n in range(width))
    joined = app.enqueue("a:b", after=many)
    out = app.task(tasks.square).options(after=joined).enqueue_many({"n": n} for n in range(width))
    while joined.status is Status.BLOCKED:
        finish(database, limit=100)
    assert rows(path, "SELECT count(*) FROM jr_invocation WHERE status = 'success'") == [(width,)]
    assert finish(database, BAD) == [joined.id]
    assert rows(path, "SELECT count(*) FROM jr_invocation WHERE status = 'cancelled' AND finished_at > 0") == [(width,)]
    assert {out[0].details.reason, out[-1].details.reason} == {f"after job {joined.id}, which failed"}
    assert rows(path, "SELECT count(*) FROM jr_invocation WHERE dependents") == [(0,)]


def test_a_transaction_settles_a_bounded_number(app: App, database: Database) -> None:
    first = app.enqueue("a:b")
    app.task(tasks.square).options(after=first).enqueue_many({"n": n} for n in range(2500))
    claimed = claims.claim(database, RunnerId(1), [], 1)
    orchestrator.record(database, Ended(claimed[0], Policy(), GOOD, Exit(1, 0)), RunnerId(1))
    turns: list[dependencies.Settled] = []
    while not turns or turns[-1].more:
        with database.transaction():
            turns.append(dependencies.settle(database))
    assert [turn.released for turn in turns] == [1000, 1000, 500]


def test_a_chain_of_1000_and_its_end(app: App, database: Database, path: Path) -> None:
    job = app.enqueue("a:b")
    for _ in range(999):
        job = app.enqueue("a:b", after=job)
    for number in range(1, 11):
        assert finish(database) == [number]
    finish(database, BAD)
    assert statuses(path) == ["success"] * 10 + ["failed"] + ["cancelled"] * 989
    assert job.details.reason == "after job 11, which failed"


def test_any_graph_ends_and_nobody_begins_too_early(app: App, database: Database, path: Path) -> None:
    dice = random.Random(5)
    jobs: list[Job] = []
    kinds = ("after", "after_any", "after_failure")
    wanted: dict[int, list[tuple[str, int]]] = {}
    for _ in range(300):
        by_kind: dict[str, Any] = {}
        for chosen in dice.sample(jobs, min(len(jobs), dice.randrange(3))):
            by_kind.setdefault(dice.choice(kinds), []).append(chosen)
        jobs.append(app.enqueue("a:b", priority=dice.randrange(3), **by_kind))
        wanted[jobs[-1].id] = [(kind, other.id) for kind, others in by_kind.items() for other in others]
    ended: dict[int, str] = {}
    while done := finish(database, dice.choice((GOOD, GOOD, BAD)), dice.randrange(1, 4)):
        before = dict(ended)
        ended = dict(rows(path, "SELECT id, status FROM jr_invocation WHERE finished_at IS NOT NULL"))
        for one in done:
            for kind, other in wanted[one]:
                assert other in before, f"job {one} began before job {other} had ended"
                assert kind == "after_any" or (kind == "after") == (before[other] == "success")
    assert len(ended) == 300


def test_nothing_is_forgotten_that_others_still_wait_for(app: App, database: Database, path: Path) -> None:
    first = app.enqueue("a:b")
    second = app.enqueue("a:b", after=first)
    claimed = claims.claim(database, RunnerId(1), [], 1)
    orchestrator.record(database, Ended(claimed[0], Policy(), GOOD, Exit(1, 0)), RunnerId(1))
    app.enqueue("a:b", hold=True)
    rows(path, "UPDATE jr_invocation SET finished_at = 1 WHERE id = ?", first.id)
    cli = Cli(path.parent)
    assert cli.ok("prune", "--older-than", "1d") == "0\n"
    with database.transaction():
        dependencies.settle(database)
    assert second.status is Status.PENDING
    assert cli.ok("prune", "--older-than", "1d") == "1\n"


def test_the_command_line_says_what_waits_for_what(folder: Path, path: Path) -> None:
    cli = Cli(folder)
    first, second = cli.enqueue("--", "true"), cli.enqueue("--", "false")
    both = cli.enqueue("--after", str(first), "--after-any", str(second), "--", "true")
    comfort = cli.enqueue("--after-failure", f"{second}", "--", "true")
    called_off = cli.enqueue("--after", f"{first},{second}", "--", "true")
    assert cli.json("show", str(both))["after"] == [
        {"job": first, "kind": "success", "status": "pending"},
        {"job": second, "kind": "any", "status": "pending"},
    ]
    assert "waits for job 1 and 1 more" in cli.ok("show", str(both))
    line = f'{{"command": ["true"], "after": [{comfort}]}}\n'
    last = cli.enqueue("--jsonl", "-", stdin=line)
    assert cli("run", "--drain", "-q", "-j", "2").returncode == 1, "one of them failed"
    assert statuses(path) == ["success", "failed", "success", "success", "cancelled", "success"]
    assert (
        f"after job {second}, which failed" in cli.ok("show", str(called_off))
        or cli("show", str(called_off)).returncode
    )
    assert last == 6
    for words in (("--after", "x"), ("--after", "0"), ("--after", "")):
        done = cli("enqueue", *words, "--", "true")
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done
    assert cli("enqueue", "--after", "77", "--", "true").returncode == 4


def test_queries_of_dependents_use_their_index(database: Database, path: Path) -> None:
    text = "EXPLAIN QUERY PLAN " + sql.queries()["settling"].replace(":limit", "9")
    plan = [row[3] for row in rows(path, text)]
    assert any("jr_settling" in step for step in plan), plan
    assert any("jr_unsettled" in step for step in plan), plan
    assert broker.enqueue(database, [Request("a:b")])
