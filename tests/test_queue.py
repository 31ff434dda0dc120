"""The queue: what goes in, in which order it comes out, and who may change what a runner holds."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobrunner import (
    App,
    NotSerializable,
    Status,
    UniqueKeyTaken,
    UsageError,
    broker,
    claims,
    orchestrator,
    state_backend,
)
from jobrunner.database import Database
from jobrunner.errors import JobRunnerError
from jobrunner.models import Claimed, Exit, Failure, InvocationId, Outcome, Request, RunnerId, StopReason
from jobrunner.orchestrator import Ended
from jobrunner.policy import Policy, Retry
from jobrunner.times import now_ms
from tests import tasks
from tests.helpers.files import rows
from tests.helpers.trace import starts
from tests.helpers.waiting import until

ONE, OTHER = RunnerId(1), RunnerId(2)
HOUR = 3_600_000


def put(database: Database, *requests: Request) -> list[InvocationId]:
    return broker.enqueue(database, requests)


def take(database: Database, *queues: str, limit: int = 10, runner: RunnerId = ONE) -> list[InvocationId]:
    return [one.id for one in claims.claim(database, runner, queues, limit)]


def status(database: Database, invocation_id: int) -> Status:
    return state_backend.states(database, [invocation_id])[0].status


# Order -----------------------------------------------------------------------------------------------


def test_the_ids_come_in_order_and_nothing_is_claimed_twice(database: Database) -> None:
    ids = put(database, *[Request("a:b")] * 5)
    assert ids == [1, 2, 3, 4, 5]
    assert take(database, limit=3) == [1, 2, 3]
    assert take(database, runner=OTHER) == [4, 5]
    assert take(database) == []


def test_priority_goes_before_age(database: Database) -> None:
    put(database, *[Request("a:b", priority=priority) for priority in (0, 5, -1, 5, 0)])
    assert take(database) == [2, 4, 1, 5, 3]


def test_the_order_holds_over_all_queues(database: Database) -> None:
    put(database, *[Request("a:b", queue=queue, priority=p) for queue, p in (("b", 0), ("a", 0), ("c", 1), ("a", 1))])
    assert take(database, limit=3) == [3, 4, 1]
    assert take(database) == [2]


def test_a_runner_of_named_queues_takes_from_no_other(database: Database) -> None:
    put(database, *[Request("a:b", queue=queue) for queue in ("mail", "video", "mail", "sound")])
    assert take(database, "nothing") == []
    assert take(database, "sound", "mail") == [1, 3, 4]
    assert take(database, "video") == [2]


def test_a_queue_may_have_any_name(database: Database) -> None:
    names = ["default", "'; DROP TABLE jr_invocation; --", "Zoë 🐟", '["a"]', " ", "-", "a\nb", "%"]
    put(database, *[Request("a:b", queue=name) for name in names])
    for number, name in enumerate(names, 1):
        assert take(database, name) == [number]


def test_what_is_claimed_tells_all_that_a_worker_needs(database: Database) -> None:
    policy = Policy(Retry(attempts=2)).to_json()
    put(database, Request("a:b", args='{"n":1}', queue="mail", priority=3, policy=policy))
    (claimed,) = claims.claim(database, ONE, [], 1)
    assert claimed[:7] == (1, 1, 1, 1, "function", "a:b", '{"n":1}')
    assert (claimed.policy, claimed.queue, claimed.priority) == (policy, "mail", 3)
    assert abs(claimed.started_at - now_ms()) < HOUR


def test_an_id_is_not_given_again_to_another_job(database: Database, path: Path) -> None:
    put(database, Request("a:b"), Request("a:b"))
    rows(path, "DELETE FROM jr_invocation WHERE id = 1")
    assert put(database, Request("a:b")) == [3]


# The fence -------------------------------------------------------------------------------------------


def claim_twice(database: Database) -> tuple[Claimed, Claimed]:
    """One invocation as its first runner holds it, which is taken for dead, and as the second one does."""
    put(database, Request("a:b", policy=Policy(Retry(attempts=9, base="1h")).to_json()))
    (old,) = claims.claim(database, ONE, [], 1)
    assert orchestrator.record(database, ended(old), ONE)
    (new,) = claims.claim(database, OTHER, [], 1)
    assert (old.id, old.claim, new.claim) == (new.id, 1, 2)
    return old, new


def ended(
    claimed: Claimed, outcome: Outcome | None = None, exit: Exit | None = None, stopped: StopReason | None = None
) -> Ended:
    return Ended(claimed, Policy.from_json(claimed.policy), outcome, exit, stopped)


FAILURE = Outcome(failure=Failure("ValueError", "no"))
LATE: dict[str, tuple[Outcome | None, Exit | None, StopReason | None]] = {
    "success": (Outcome("1"), Exit(7, 0), None),
    "a failure to be retried": (FAILURE, Exit(7, 0), None),
    "a crash": (None, Exit(7, signal=9), None),
    "an interruption": (None, Exit(7, signal=15), "shutdown"),
    "a cancellation": (None, Exit(7, signal=15), "cancel"),
    "a timeout": (None, Exit(7, signal=9), "timeout"),
    "a process that could not be started": (None, None, "not_started"),
}


def all_but_attempts(path: Path) -> list[Any]:
    return [rows(path, f"SELECT * FROM {table}") for table in ("jr_invocation", "jr_result", "jr_history")]


@pytest.mark.parametrize("late", LATE)
def test_what_comes_from_an_old_claim_changes_nothing(database: Database, path: Path, late: str) -> None:
    old, new = claim_twice(database)
    before = all_but_attempts(path)
    assert orchestrator.record(database, ended(old, *LATE[late]), ONE) is None
    assert all_but_attempts(path) == before
    assert [attempt.claim for attempt in state_backend.attempts(database, old.id)] == [1]
    assert orchestrator.record(database, ended(new, Outcome("2"), Exit(8, 0)), OTHER)
    assert state_backend.result(database, new.id) == 2


@pytest.mark.parametrize("late", LATE)
def test_an_outcome_is_recorded_once(database: Database, path: Path, late: str) -> None:
    put(database, Request("a:b"))
    (claimed,) = claims.claim(database, ONE, [], 1)
    assert orchestrator.record(database, ended(claimed, Outcome("1"), Exit(7, 0)), ONE)
    before = all_but_attempts(path)
    assert orchestrator.record(database, ended(claimed, *LATE[late]), ONE) is None
    assert all_but_attempts(path) == before


def test_outcomes_that_are_recorded_together_keep_the_fence(database: Database, path: Path) -> None:
    old, new = claim_twice(database)
    put(database, Request("c:d"))
    (other,) = claims.claim(database, OTHER, [], 1)
    before = all_but_attempts(path)
    late = [ended(old, *LATE[name]) for name in LATE]
    assert orchestrator.record_all(database, late, ONE) == [None] * len(late)
    assert all_but_attempts(path) == before
    both = [ended(old, Outcome("0")), ended(new, Outcome("2")), ended(other, Outcome("null"))]
    verdicts = orchestrator.record_all(database, both, OTHER)
    assert [verdict and verdict.status for verdict in verdicts] == [None, Status.SUCCESS, Status.SUCCESS]
    assert (state_backend.result(database, new.id), state_backend.result(database, other.id)) == (2, None)


def test_an_operators_retry_does_not_open_the_fence(database: Database) -> None:
    old, new = claim_twice(database)
    orchestrator.record(database, ended(new, Outcome("2"), Exit(8, 0)), OTHER)
    broker.retry(database, [new.id], reason="again")
    (newest,) = claims.claim(database, ONE, [], 1)
    assert (newest.claim, newest.attempt, newest.crashes) == (3, 1, 1)
    for stale in (old, new):
        assert orchestrator.record(database, ended(stale, Outcome("0"), Exit(8, 0)), OTHER) is None
    assert status(database, newest.id) is Status.RUNNING


def test_progress_of_an_old_claim_is_not_kept(database: Database) -> None:
    old, new = claim_twice(database)
    assert not state_backend.put_progress(database, old.id, old.claim, 0.9, "old")
    assert state_backend.put_progress(database, new.id, new.claim, 0.1, "new")
    found = state_backend.progress(database, new.id)
    assert found
    assert (found.fraction, found.message) == (0.1, "new")


# Budgets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late", "attempt", "crashes", "becomes"),
    [
        ("a failure to be retried", 1, 0, Status.SCHEDULED),
        ("a crash", 0, 1, Status.PENDING),
        ("an interruption", 0, 0, Status.PENDING),
        ("a process that could not be started", 0, 0, Status.PENDING),
        ("success", 1, 0, Status.SUCCESS),
        ("a cancellation", 1, 0, Status.CANCELLED),
    ],
)
def test_each_end_spends_its_own_budget(
    database: Database, late: str, attempt: int, crashes: int, becomes: Status
) -> None:
    put(database, Request("a:b", policy=Policy(Retry(attempts=9, base="1h")).to_json()))
    (claimed,) = claims.claim(database, ONE, [], 1)
    orchestrator.record(database, ended(claimed, *LATE[late]), ONE)
    job = state_backend.job(database, claimed.id)
    assert (job.attempts, job.crashes, job.status, job.claim) == (attempt, crashes, becomes, 1)


# Unique keys -----------------------------------------------------------------------------------------


def test_a_key_that_is_held_gives_the_holder(app: App) -> None:
    first = app.enqueue("a:b", unique="k")
    assert app.enqueue("a:b", unique="k") == first
    assert app.enqueue("a:b", unique="other") != first
    assert app.enqueue("a:b") != app.enqueue("a:b"), "without a key nothing is held"


def test_a_key_that_is_held_may_be_an_error(app: App) -> None:
    first = app.enqueue("a:b", unique="k")
    with pytest.raises(UniqueKeyTaken, match=f"job {first.id} with the key 'k' is not finished") as caught:
        app.enqueue("a:b", unique="k", if_exists="error")
    assert (caught.value.key, caught.value.holder) == ("k", first.id)


def test_a_newer_job_may_replace_one_that_has_not_started(app: App) -> None:
    first = app.enqueue("a:b", unique="k", delay="1h")
    second = app.enqueue("a:b", unique="k", if_exists="replace")
    assert second != first
    assert (first.status, first.details.reason) == (
        Status.CANCELLED,
        "replaced by a newer job with the same key",
    )
    assert second.status is Status.PENDING


def test_one_that_has_started_is_not_replaced(app: App, database: Database) -> None:
    first = app.enqueue("a:b", unique="k")
    assert take(database) == [first.id]
    with pytest.raises(UniqueKeyTaken, match="it has started, so it cannot be replaced"):
        app.enqueue("a:b", unique="k", if_exists="replace")
    assert app.enqueue("a:b", unique="k") == first
    assert first.status is Status.RUNNING


def test_a_key_is_free_again_when_its_holder_is_finished(app: App) -> None:
    first = app.enqueue("a:b", unique="k")
    first.cancel()
    second = app.enqueue("a:b", unique="k", if_exists="error")
    assert second != first
    with pytest.raises(UniqueKeyTaken):
        first.retry()
    second.cancel()
    assert first.retry()


def test_in_one_batch_the_first_of_a_key_holds_it(app: App, database: Database) -> None:
    assert put(database, *[Request("a:b", unique_key=key) for key in "abab"]) == [1, 2, 1, 2]


def test_the_key_is_made_of_the_arguments(app: App) -> None:
    first = app.enqueue("a:b", {"user": 7, "other": 1}, unique="welcome:{user}")
    assert app.enqueue("a:b", {"user": 7, "other": 2}, unique="welcome:{user}") == first
    assert app.enqueue("a:b", {"user": 8}, unique="welcome:{user}") != first
    assert first.details.unique_key == "welcome:7"


# Time ------------------------------------------------------------------------------------------------


def test_a_delayed_job_waits(app: App, database: Database) -> None:
    job = app.enqueue("a:b", delay="1h")
    broker.promote_and_expire(database)
    assert (job.status, take(database)) == (Status.SCHEDULED, [])
    run_at = job.details.run_at
    assert run_at
    assert HOUR * 0.9 < run_at - now_ms() <= HOUR
    assert broker.next_due(database) == run_at


def test_what_is_due_is_promoted_in_the_order_of_its_time(database: Database, path: Path) -> None:
    put(database, *[Request("a:b", run_at=now_ms() + HOUR * n) for n in (3, 1, 2)])
    rows(path, "UPDATE jr_invocation SET run_at = run_at - ?", 2 * HOUR + 60_000)
    assert broker.promote_and_expire(database) == 2
    assert [status(database, n) for n in (1, 2, 3)] == [Status.SCHEDULED, Status.PENDING, Status.PENDING]


def test_a_time_may_be_said_in_words(app: App) -> None:
    job = app.enqueue("a:b", at="2099-01-31T18:00Z")
    assert rows(app.path, "SELECT run_at FROM jobs") == [("2099-01-31T18:00:00.000Z",)]
    assert job.status is Status.SCHEDULED
    assert app.enqueue("a:b", at="2001-01-31").status is Status.PENDING


def test_a_bare_time_of_day_is_the_next_one_that_comes_at_each_call(
    app: App, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    def moment(zone: str) -> object:
        """In another zone a time of day comes at another moment, as it does on another day."""
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        return rows(path, "SELECT run_at FROM jr_invocation WHERE id = ?", delayed.enqueue().id)[0][0]

    delayed = tasks.nothing.options(at="18:00")
    try:
        assert len({moment(zone) for zone in ("UTC", "UTC-1", "UTC-2")}) == 3
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_delayed_job_is_done_when_its_time_comes(app: App, drain: Callable[..., object], runner: Any) -> None:
    job = app.enqueue("tests.tasks:square", {"n": 4}, delay="200ms")
    runner(jobs=1)
    assert job.result(timeout=60) == 16


def test_what_was_not_started_in_time_expires(database: Database, path: Path) -> None:
    put(
        database,
        Request("a:b", expires_at=now_ms() + HOUR),
        Request("a:b", expires_at=now_ms() - 1),
        Request("a:b", expires_at=now_ms() - 1, hold=True),
        Request("a:b", expires_at=now_ms() - 1, run_at=now_ms() + HOUR),
    )
    assert broker.promote_and_expire(database) == 3
    assert [status(database, n) for n in (1, 2, 3, 4)] == [Status.PENDING, *[Status.EXPIRED] * 3]
    assert rows(path, "SELECT DISTINCT reason FROM jr_invocation WHERE status = 'expired'") == [
        ("not started in time",)
    ]


def test_what_is_due_and_expired_is_not_done(app: App, drain: Callable[..., object], folder: Path) -> None:
    late = app.enqueue("tests.tasks:touch", expires="1ms")
    fine = app.enqueue("tests.tasks:touch", expires="1h")
    until(lambda: now_ms() > (late.details.expires_at or 0))
    drain()
    assert (late.status, fine.status) == (Status.EXPIRED, Status.SUCCESS)
    assert starts(folder) == {fine.id: 1}


# Holding, cancelling ---------------------------------------------------------------------------------


def test_a_held_job_waits_for_its_release(app: App, database: Database) -> None:
    job = app.enqueue("a:b", hold=True)
    assert (job.status, job.details.reason, take(database)) == (Status.BLOCKED, "held", [])
    assert job.retry()
    assert (job.status, take(database)) == (Status.PENDING, [job.id])


def test_a_delayed_job_may_be_done_at_once(app: App, database: Database) -> None:
    job = app.enqueue("a:b", delay="1h")
    assert job.retry()
    assert (job.status, job.details.run_at) == (Status.PENDING, None)


def test_retry_does_nothing_to_what_is_under_way(app: App, database: Database) -> None:
    waiting, running = app.enqueue("a:b"), app.enqueue("a:b", priority=1)
    assert take(database, limit=1) == [running.id]
    assert (waiting.retry(), running.retry()) == (False, False)


@pytest.mark.parametrize("options", [{}, {"delay": "1h"}, {"hold": True}])
def test_what_waits_is_cancelled_at_once(app: App, database: Database, options: Any) -> None:
    job = app.enqueue("a:b", **options)
    assert job.cancel()
    assert (job.status, job.details.reason, take(database)) == (Status.CANCELLED, "cancelled on request", [])
    assert not job.cancel(), "it is finished"


def test_cancelling_what_runs_asks_its_runner(app: App, database: Database) -> None:
    job = app.enqueue("a:b")
    (claimed,) = claims.claim(database, ONE, [], 1)
    assert job.cancel()
    assert job.status is Status.RUNNING
    assert database.query("cancel_requests", runner=ONE) == [(job.id, claimed.claim)]
    assert database.query("cancel_requests", runner=OTHER) == []


def test_cancelling_reaches_the_children_where_it_is_said(app: App, database: Database) -> None:
    put(database, *[Request("a:b", parent=parent) for parent in (None, 1, 2, 2, None)])
    assert broker.cancel(database, [2], reason="enough") == [2]
    assert broker.cancel(database, [1], reason="enough", children=True) == [1, 3, 4]
    assert [status(database, n) for n in range(1, 6)] == [*[Status.CANCELLED] * 4, Status.PENDING]


# Much of it ------------------------------------------------------------------------------------------


def test_a_hundred_thousand_go_in_at_once(database: Database, path: Path) -> None:
    ids = broker.enqueue(database, [Request("a:b", args=f'{{"n":{n}}}') for n in range(100_000)])
    assert (ids[0], ids[-1], len(ids)) == (1, 100_000, 100_000)
    assert rows(path, "SELECT count(DISTINCT args) FROM jobs WHERE status = 'pending'") == [(100_000,)]
    assert take(database, limit=3) == [1, 2, 3]


def test_a_batch_is_all_or_nothing(database: Database, path: Path) -> None:
    with pytest.raises(UsageError, match="a task has a name"):
        put(database, *[Request("a:b")] * 500, Request(""))
    with pytest.raises(UniqueKeyTaken):
        put(database, Request("a:b"), *[Request("a:b", unique_key="k", if_exists="error")] * 2)
    assert rows(path, "SELECT count(*) FROM jr_invocation") == [(0,)]


def test_large_arguments_have_a_table_of_their_own(app: App, drain: Callable[..., object], path: Path) -> None:
    small, large = "s" * 100, "é" * 400_000
    jobs = [app.enqueue("tests.tasks:length", {"text": text}) for text in (small, large)]
    assert rows(path, "SELECT id, args IS NULL FROM jr_invocation") == [(1, 0), (2, 1)]
    assert rows(path, "SELECT invocation FROM jr_argument") == [(2,)]
    assert json.loads(rows(path, "SELECT args FROM jobs WHERE id = 2")[0][0]) == {"text": large}
    drain()
    assert [job.result() for job in jobs] == [len(small), len(large)]


# Limits ----------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"text": "x" * 5_000_000}, "the arguments are 5,000,011 bytes of JSON, and the limit is 1,048,576"),
        ({"n": float("nan")}, "the arguments are not plain JSON data"),
        ({"n": [float("inf")]}, "the arguments are not plain JSON data"),
        ({"text": "\ud800"}, "the arguments contain a lone surrogate"),
        ({"list": nested(200)}, "the arguments are nested deeper than 100 levels"),
        ({"list": nested(100_000)}, "the arguments are nested deeper than 100 levels"),
        ({"set": {1}}, "the arguments are not plain JSON data"),
        ({"bytes": b"x"}, "the arguments are not plain JSON data"),
    ],
    ids=["5 MB", "NaN", "infinity", "surrogate", "depth 200", "depth 100,000", "set", "bytes"],
)
def test_arguments_beyond_the_limits_are_refused(app: App, args: Any, sentence: str) -> None:
    app.enqueue("a:b")
    with pytest.raises(NotSerializable, match=sentence):
        app.enqueue("a:b", args)
    assert app.counts()[Status.PENDING] == 1


@pytest.mark.parametrize(
    "value",
    [
        2**70,
        -(2**70),
        1e300,
        "",
        "\0",
        "\x1b[31m",
        "🐟",
        None,
        True,
        {},
        [],
        {"": 0},
        nested(98),
        "\u2028",
        "</script>",
    ],
)
def test_arguments_within_the_limits_arrive_as_they_were(app: App, value: Any) -> None:
    job = app.enqueue("tests.tasks:echo", {"value": value})
    assert app.drain() == 1
    assert job.result() == value


@pytest.mark.parametrize("args", [5, "text", None, 1.5])
def test_arguments_are_an_object_or_a_list(app: App, args: Any) -> None:
    if args is None:
        assert app.enqueue("a:b", args).details.args == "{}"
    else:
        with pytest.raises(UsageError, match="a dict or a list"):
            app.enqueue("a:b", args)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"queue": ""}, "a queue has a name"),
        ({"queue": None}, "a queue has a name"),
        ({"priority": 2**70}, "a priority is a whole number"),
        ({"priority": 1.5}, "a priority is a whole number"),
        ({"priority": True}, "a priority is a whole number"),
        ({"delay": "1h", "at": "18:00"}, "either a delay or a time"),
        ({"delay": "soon"}, "is not a duration"),
        ({"delay": -1}, "cannot be negative"),
        ({"delay": float("nan")}, "is not a duration"),
        ({"delay": float("inf")}, "is not a duration"),
        ({"delay": 1e300}, "longer than a thousand years"),
        ({"at": "half past nine"}, "is not a time"),
        ({"if_exists": "ignore"}, "if_exists is"),
        ({"timeout": 0}, "a timeout must be longer than nothing"),
        ({"retry": 0}, "attempts must be at least 1"),
        ({"on_crash": "cry"}, "on_crash is"),
        ({"env": {"A=B": "c"}}, "cannot be the name of an environment variable"),
        ({"env": {"A": "\0"}}, "has a NUL"),
        ({"label": "\ud800"}, "lone surrogate"),
        ({"queue": "\ud800"}, "lone surrogate"),
        ({"colour": "red"}, "there is no option 'colour'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(app: App, options: Any, sentence: str) -> None:
    with pytest.raises(JobRunnerError, match=sentence):
        app.enqueue("a:b", **options)
    assert set(app.counts().values()) == {0}


# What a reading found ---------------------------------------------------------------------------------


@pytest.mark.parametrize("crashed", [True, False])
def test_a_cancel_that_comes_too_late_for_its_attempt_holds_for_the_next(database: Database, crashed: bool) -> None:
    put(database, Request("a:b", policy=Policy(retry=Retry(attempts=3)).to_json()))
    claimed = claims.claim(database, ONE, [], 1)[0]
    assert broker.cancel(database, [claimed.id], reason="no more") == [claimed.id]
    failed = None if crashed else Outcome(failure=Failure("ValueError", "no"))
    orchestrator.record(database, Ended(claimed, Policy.from_json(claimed.policy), failed, None), ONE)
    assert status(database, claimed.id) is Status.CANCELLED
    assert take(database) == []


def test_jobs_of_one_key_are_not_all_retried_at_once(database: Database) -> None:
    for _ in range(2):
        put(database, Request("a:b", unique_key="k"))
        broker.cancel(database, [state_backend.unfinished(database)[0]], reason="test")
    with pytest.raises(UniqueKeyTaken, match="'k'"):
        broker.retry(database, [1, 2], reason="test")
    assert broker.retry(database, [2], reason="test") == [2]


def test_a_text_that_is_not_utf_8_is_refused_from_the_shell(path: Path) -> None:
    Database(path, create=True).close()
    with pytest.raises(Exception, match="not UTF-8"):
        rows(path, "INSERT INTO jobs(task, args) VALUES ('a:b', CAST(X'7B2261223A22E9227D' AS TEXT))")
