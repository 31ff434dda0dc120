"""Jobs that wait for others: paused, holding no slot, resumed when all is final; in processes and in threads."""

import itertools
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import pytest

from jobrunner import App, Invocation, InvocationFailed, Status, state_backend
from jobrunner.database import Database
from tests.conftest import StartRunner
from tests.helpers.files import rows, sqlite_shell
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.trace import marks, starts
from tests.helpers.waiting import until, until_gone

Job = Invocation[Any]


@pytest.fixture(params=RUNNERS)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def state_of(pid: int) -> str:
    """The letter in /proc: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def changes(app: App, job: Job) -> list[str]:
    """The statuses that it went through."""
    with Database(app.path) as database:
        return [one.to_status for one in state_backend.history(database, job.id)]


def wait_for(app: App, *jobs: Job, **options: Any) -> Job:
    return app.enqueue("tests.together:wait_for", {"ids": [job.id for job in jobs]}, **options)


def wait_in_vain(app: App, *ids: int, timeout: float | None = None, **options: Any) -> Job:
    return app.enqueue("tests.together:wait_for_in_vain", {"ids": list(ids), "timeout": timeout}, **options)


def file_job(app: App, name: str = "go", **options: Any) -> Job:
    """A job that goes on until there is a file of this name."""
    return app.enqueue("tests.tasks:wait_for_file", {"name": name}, **options)


def until_paused(*jobs: Job) -> None:
    for job in jobs:
        until(lambda job=job: job.status is Status.PAUSED)  # type: ignore[misc]


def until_has(job: Job, status: Status) -> None:
    until(lambda: job.status is status)


# One slot is enough ----------------------------------------------------------------------------------


def test_a_chain_of_200_waits_finishes_with_one_slot(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    outermost = app.enqueue("tests.together:nest", {"depth": 200})
    running = runner(**slots(mode, 1))
    assert outermost.result(timeout=110) == 200
    assert set(starts(folder).values()) == {1}
    assert len(starts(folder)) == 201
    running.stop()
    assert changes(app, outermost) == ["pending", "running", "paused", "resumed", "success"]
    if mode == "thread":
        assert len({mark.pid for mark in marks(folder)}) == 1, "one process of one thread"


def test_families_finish_with_fewer_slots_than_parents_that_wait(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    grandparents = [app.enqueue("tests.together:family", {"widths": [3, 3]}) for _ in range(3)]
    runner(**slots(mode, 2))
    assert [one.result(timeout=90) for one in grandparents] == [9, 9, 9]
    assert len(starts(folder)) == 3 * (1 + 3 + 9)
    assert set(starts(folder).values()) == {1}


def test_a_paused_job_holds_no_slot(app: App, runner: StartRunner, mode: str) -> None:
    awaited = file_job(app, delay="1h")
    waiters = [wait_for(app, awaited) for _ in range(4)]
    runner(**slots(mode, 1))
    until_paused(*waiters)
    assert app.enqueue("tests.tasks:square", {"n": 3}).result(timeout=60) == 9
    assert awaited.cancel()
    app.wait(waiters, timeout=60)
    assert {job.status for job in waiters} == {Status.FAILED}


# The pause -------------------------------------------------------------------------------------------


def test_the_process_of_a_paused_job_is_stopped_and_others_may_write(
    app: App, runner: StartRunner, folder: Path, path: Path
) -> None:
    awaited = file_job(app)
    waiter = wait_for(app, awaited)
    runner(jobs=2)
    until_paused(waiter)
    pid = next(mark.pid for mark in marks(folder) if mark.id == waiter.id)
    until(lambda: state_of(pid) == "T")
    other = apsw.Connection(str(path))
    try:
        other.set_busy_timeout(0)  # it does not wait a moment
        other.execute("BEGIN IMMEDIATE; UPDATE jr_invocation SET label = 'written' WHERE id = 2; COMMIT")
    finally:
        other.close()
    assert (state_of(pid), waiter.status, waiter.details.label) == ("T", Status.PAUSED, "written")
    (folder / "go").touch()
    assert waiter.result(timeout=60) == ["go"]
    assert changes(app, waiter) == ["pending", "running", "paused", "resumed", "success"]


def test_a_job_that_waits_for_what_is_done_in_a_moment_is_not_paused(app: App, runner: StartRunner, mode: str) -> None:
    runner(**slots(mode, 2))

    def are_not_paused() -> bool:
        waiters = []
        for _ in range(3):  # one after the other: each has a slot beside it for what it waits for
            waiters.append(app.enqueue("tests.together:wait_for_one_that_is_nearly_done"))
            waiters[-1].result(timeout=60)
        return not any("paused" in changes(app, waiter) for waiter in waiters)

    until(are_not_paused)  # on a machine that has much else to do, a moment may be long


def test_a_process_that_waits_for_a_short_job_is_not_stopped_and_one_that_waits_for_long_is(
    app: App, runner: StartRunner, folder: Path
) -> None:
    runner(jobs=2)

    def is_paused_and_goes_on() -> bool:
        waiter = app.enqueue("tests.together:times_stopped")
        return waiter.result(timeout=60) == 0 and "paused" in changes(app, waiter)

    until(is_paused_and_goes_on)  # on a machine that has much else to do, a short job may take long
    waiter = app.enqueue("tests.together:times_stopped", {"ids": [file_job(app).id]})
    until_paused(waiter)
    threading.Event().wait(0.2)
    (folder / "go").touch()
    assert waiter.result(timeout=60) == 1


def test_the_clock_stands_still_however_short_a_wait_is(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    awaited = file_job(app)
    runner(**slots(mode, 2))
    until_has(awaited, Status.RUNNING)
    facts = {"ids": [awaited.id], "seconds": 4.5}
    assert app.enqueue("tests.together:wait_in_short_turns", facts, timeout=3).result(timeout=60) > 1
    (folder / "go").touch()


def test_who_turns_away_from_a_wait_gets_the_answers_to_what_it_asks_then(app: App, runner: StartRunner) -> None:
    runner(jobs=4)
    for _ in range(3):
        awaited = [app.enqueue("tests.together:last", {"name": "never"}).id]
        other = app.enqueue("tests.together:turn_away", {"ids": awaited, "then": []}).result(timeout=60)
        assert app.invocation(other[0]).result(timeout=60) == 9


def test_who_turns_away_from_a_wait_that_is_just_over_is_answered_all_the_same(
    app: App, runner: StartRunner, folder: Path
) -> None:
    runner(jobs=4)
    for _ in range(5):
        (folder / "rung").unlink(missing_ok=True)
        first, then = ([app.enqueue("tests.together:last", {"name": name}).id] for name in ("rung", "never"))
        assert app.enqueue("tests.together:turn_away", {"ids": first, "then": then}).result(timeout=60) == then


def test_a_paused_job_says_for_whom_it_waits(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    several = [file_job(app) for _ in range(3)]
    waiters = [wait_for(app, several[0]), wait_for(app, *several)]
    runner(**slots(mode, 4))
    until_paused(*waiters)
    assert [job.details.reason for job in waiters] == ["waits for job 1", "waits for job 1 and 2 more"]
    assert rows(app.path, "SELECT id, waiters FROM jr_invocation WHERE waiters > 0") == [(1, 2), (2, 1), (3, 1)]
    (folder / "go").touch()
    app.wait(waiters, timeout=60)
    assert rows(app.path, "SELECT * FROM jr_edge") == []


def test_a_job_waits_for_several_and_gets_their_results_in_order(app: App, runner: StartRunner, mode: str) -> None:
    several = [app.enqueue("tests.tasks:square", {"n": n}) for n in range(9)]
    waiter = wait_for(app, *reversed(several), priority=1)
    later = app.enqueue("tests.together:gather", {"ids": [job.id for job in several]}, priority=1)
    runner(**slots(mode, 1))
    assert waiter.result(timeout=60) == [n * n for n in reversed(range(9))]
    assert later.result(timeout=60) == [n * n for n in range(9)]


def test_what_is_finished_already_needs_no_pause(app: App, runner: StartRunner, mode: str) -> None:
    done = app.enqueue("tests.tasks:square", {"n": 5})
    running = runner(**slots(mode, 1))
    assert done.result(timeout=60) == 25
    waiter = wait_for(app, done)
    nobody = wait_for(app)
    assert (waiter.result(timeout=60), nobody.result(timeout=60)) == ([25], [])
    running.stop()
    assert changes(app, waiter) == ["pending", "running", "success"]


def test_to_wait_for_what_is_not_there_is_an_error(app: App, runner: StartRunner, mode: str) -> None:
    runner(**slots(mode, 1))
    assert wait_in_vain(app, 4711).result(timeout=60) == "InvocationNotFound: there is no job 4711"


def test_time_paused_does_not_count_for_the_timeout(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    awaited = file_job(app)
    waiter = wait_for(app, awaited, timeout="2s")
    runner(**slots(mode, 2))
    until_paused(waiter)
    since = time.monotonic()
    until(lambda: time.monotonic() - since > 2.5)
    (folder / "go").touch()
    assert waiter.result(timeout=60) == ["go"]


def test_after_a_pause_the_timeout_goes_on_where_it_was(app: App, runner: StartRunner, mode: str) -> None:
    awaited = app.enqueue("tests.tasks:square", {"n": 1})
    waiter = app.enqueue("tests.together:wait_then_for_ever", {"id": awaited.id}, timeout="1s", priority=1)
    runner(**slots(mode, 1, kill_grace=0.2))
    app.wait([waiter], timeout=60)
    assert (waiter.details.error_type, changes(app, waiter)[:4]) == (
        "TimedOut",
        ["pending", "running", "paused", "resumed"],
    )


def test_a_wait_inside_a_job_has_a_timeout_of_its_own(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    awaited = file_job(app)
    waiter = wait_in_vain(app, awaited.id, timeout=0.1)
    runner(**slots(mode, 2))
    assert waiter.result(timeout=60) == "WaitTimeout: not finished within 0.1 s: job 1"
    assert awaited.status is Status.RUNNING
    (folder / "go").touch()
    assert changes(app, waiter) == ["pending", "running", "paused", "resumed", "success"]
    assert awaited.result(timeout=60) == "go"


def test_who_has_waited_long_enough_goes_on_when_a_slot_is_free(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app, "late", delay="1h")
    waiter = wait_in_vain(app, awaited.id, timeout=0.3)
    other = file_job(app, "go", priority=-1)
    running = runner(**slots(mode, 1))
    until_paused(waiter)
    until_has(other, Status.RUNNING)
    since, before = time.monotonic(), cpu_seconds(running.pid)
    until(lambda: time.monotonic() - since > 1.5)
    assert waiter.status is Status.PAUSED, "there is no slot for it"
    assert cpu_seconds(running.pid) - before < 0.5, "the runner sleeps meanwhile"
    (folder / "go").touch()
    assert waiter.result(timeout=60) == "WaitTimeout: not finished within 0.3 s: job 1"


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# The awaited does not succeed ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fails", "is cancelled", "expires", "is dropped"])
def test_in_a_chain_every_waiter_hears_of_the_end_of_the_awaited(
    app: App, runner: StartRunner, folder: Path, mode: str, how: str
) -> None:
    keeper = file_job(app, "never", concurrency=1, concurrency_key="place")
    if how == "fails":
        awaited = app.enqueue("tests.tasks:fail_until", {"attempt": 2}, hold=True)
        why = f"InvocationFailed: job {awaited.id} failed in attempt 1: RuntimeError: attempt 1"
    elif how == "is cancelled":
        awaited = app.enqueue("tests.tasks:touch", delay="1h")
        why = f"InvocationCancelled: job {awaited.id} is cancelled: cancelled on request"
    elif how == "expires":
        awaited = app.enqueue("tests.tasks:touch", delay="1h", expires="1h")
        why = f"InvocationCancelled: job {awaited.id} is expired: not started in time"
    else:
        awaited = app.enqueue("tests.tasks:touch", hold=True, over_limit="drop", concurrency=1, concurrency_key="place")
        why = f"InvocationCancelled: job {awaited.id} is cancelled: concurrency"
    innermost = wait_for(app, awaited, priority=1)
    middle = wait_for(app, innermost, priority=1)
    outermost = wait_in_vain(app, middle.id, priority=1)
    runner(**slots(mode, 3))
    until_paused(innermost, middle, outermost)
    until(lambda: keeper.id in starts(folder))  # before that, what others wait for would get the place
    if how == "is cancelled":
        awaited.cancel()
    elif how == "expires":
        rows(app.path, "UPDATE jr_invocation SET expires_at = 1 WHERE id = ?", awaited.id)
    else:
        awaited.retry()  # lets it go
    assert outermost.result(timeout=60) == (
        f"InvocationFailed: job {middle.id} failed in attempt 1: "
        f"jobrunner.errors.InvocationFailed: job {innermost.id} failed in attempt 1: jobrunner.errors.{why}"
    )
    with pytest.raises(InvocationFailed, match=f"job {awaited.id} "):
        innermost.result()
    keeper.cancel()


def test_who_waits_for_several_hears_of_one_failure_after_all_are_final(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    failing = app.enqueue("tests.tasks:fail_until", {"attempt": 2})
    slow = file_job(app)
    waiter = wait_in_vain(app, slow.id, failing.id)
    runner(**slots(mode, 2))
    until_paused(waiter)
    until_has(failing, Status.FAILED)
    assert waiter.status is Status.PAUSED
    (folder / "go").touch()
    assert waiter.result(timeout=60).startswith(f"InvocationFailed: job {failing.id} failed")


def test_an_awaited_that_is_retried_is_awaited_until_it_is_final(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = app.enqueue("tests.tasks:fail_until", {"attempt": 3}, retry=5, delay="300ms")
    waiter = wait_for(app, awaited)
    runner(**slots(mode, 1))
    assert waiter.result(timeout=60) == [3]
    assert starts(folder) == {awaited.id: 3, waiter.id: 1}


# Cycles ----------------------------------------------------------------------------------------------


def test_a_job_that_waits_for_itself_is_told_so(app: App, runner: StartRunner, mode: str) -> None:
    job = wait_in_vain(app, 1)
    runner(**slots(mode, 1))
    assert job.result(timeout=60) == "WaitCycle: waiting would never end: job 1 waits for 1"


@pytest.mark.parametrize("way", ["retry", "sql"])
def test_who_was_to_begin_after_one_that_waits_for_it_now_does_not_wait_for_that_anew(
    app: App, runner: StartRunner, path: Path, mode: str, way: str
) -> None:
    waits = app.enqueue("tests.together:wait_at_second", {"ids": [2]})
    awaited = app.enqueue("tests.tasks:square", {"n": 3}, after=waits, delay="1h")
    runner(**slots(mode, 1))
    assert waits.result(timeout=30) == []
    waits.retry()
    until_paused(waits)
    if way == "retry":
        awaited.retry()
    else:  # the runner sees no moment at which it is final
        cancel, retry = (f"UPDATE jobs SET status = '{word}' WHERE id = 2;" for word in ("cancelled", "pending"))
        sqlite_shell(path, f"BEGIN IMMEDIATE; {cancel} {retry} COMMIT;")
    assert waits.result(timeout=10) == [9]


@pytest.mark.parametrize("length", [2, 3])
def test_the_wait_that_would_close_a_cycle_is_refused(app: App, runner: StartRunner, mode: str, length: int) -> None:
    jobs = [wait_in_vain(app, n % length + 1) for n in range(1, length + 1)]
    runner(**slots(mode, 1))
    app.wait(jobs, timeout=60)
    told = [job.result() for job in jobs]
    refused = [text for text in told if text.startswith("WaitCycle")]
    assert len(refused) == 1
    last = told.index(refused[0]) + 1
    way = [(last - 1 + step) % length + 1 for step in range(length + 1)]
    steps = ", ".join(f"{one} waits for {following}" for one, following in itertools.pairwise(way))
    assert refused[0] == f"WaitCycle: waiting would never end: job {steps}"


# Priority --------------------------------------------------------------------------------------------


def test_what_others_wait_for_is_done_first_by_how_many_they_are_then_priority_then_age(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    jobs = [app.enqueue("tests.tasks:touch", priority=priority, hold=True) for priority in (2, -9, -7, -8, -7)]
    urgent, a, b, c, d = jobs
    waiters = [wait_for(app, *awaited) for awaited in ([a, b, c, d], [a], [c])]
    runner(**slots(mode, 1))
    until_paused(*waiters)
    app.client.retry([job.id for job in jobs])  # lets all of them go at once
    app.wait([urgent, *waiters], timeout=60)
    order = [mark.id for mark in marks(folder) if mark.id <= 5]
    # Two wait for a and for c, whose priority is higher; one waits for b and for d, which is younger.
    assert order == [c.id, a.id, b.id, d.id, urgent.id]


# Held and delayed ------------------------------------------------------------------------------------


def test_a_held_or_delayed_job_can_be_awaited(app: App, runner: StartRunner, mode: str) -> None:
    held = app.enqueue("tests.tasks:square", {"n": 2}, hold=True)
    delayed = app.enqueue("tests.tasks:square", {"n": 3}, delay="300ms")
    waiter = wait_for(app, held, delayed)
    runner(**slots(mode, 1))
    until_has(delayed, Status.SUCCESS)
    until_paused(waiter)
    assert held.retry()
    assert waiter.result(timeout=60) == [4, 9]


# Limits ----------------------------------------------------------------------------------------------


def test_too_many_paused_jobs_are_an_error_that_says_what_to_do(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app)
    waiters = [wait_in_vain(app, awaited.id) for _ in range(4)]
    runner(**slots(mode, 2, max_paused=3))
    app.wait(waiters[3:], timeout=60)
    assert waiters[3].result() == (
        "JobRunnerError: 3 jobs of this runner wait for others already, which is its limit: "
        "raise it with --max-paused, or let fewer wait at a time"
    )
    until_paused(*waiters[:3])
    (folder / "go").touch()
    assert [job.result(timeout=60) for job in waiters[:3]] == ["no error: ['go']"] * 3


def test_those_that_begin_to_wait_at_the_same_time_are_counted_one_by_one(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app)
    waiters = [app.enqueue("tests.together:wait_when_let", {"ids": [awaited.id]}, priority=1) for _ in range(4)]
    running = runner(**slots(mode, 4, max_paused=1))
    until(lambda: len(marks(folder, "L")) == 4)
    os.kill(running.pid, signal.SIGSTOP)
    (folder / "let").touch()
    until(lambda: len(marks(folder)) == 4)
    threading.Event().wait(0.2)  # all have asked, and nobody has heard it yet
    os.kill(running.pid, signal.SIGCONT)
    until(lambda: sum(job.status is Status.SUCCESS for job in waiters) == 3)
    (folder / "go").touch()
    said = Counter(str(job.result(timeout=60)).partition(":")[0] for job in waiters)
    assert said == {"no error": 1, "JobRunnerError": 3}


# Cancelling and stopping -----------------------------------------------------------------------------


def test_a_paused_job_can_be_cancelled_and_the_awaited_goes_on(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app)
    waiters = [wait_for(app, awaited) for _ in range(2)]
    running = runner(**slots(mode, 2))
    until_paused(*waiters)
    pids = [mark.pid for mark in marks(folder) if mark.id == waiters[0].id]
    assert waiters[0].cancel()
    app.wait(waiters[:1], timeout=60)
    assert (waiters[0].status, waiters[0].details.reason) == (Status.CANCELLED, "cancelled while it ran")
    assert rows(app.path, "SELECT id, waiters FROM jr_invocation WHERE waiters > 0") == [(1, 1)]
    if mode == "process":
        until_gone(pids)
    (folder / "go").touch()
    assert waiters[1].result(timeout=60) == ["go"]
    assert running.is_running


def test_a_job_that_is_told_to_stop_while_it_waits_may_still_deliver(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app)
    waiter = app.enqueue("tests.together:catch_and_return", {"ids": [awaited.id]})
    runner(**slots(mode, 2, kill_grace=60.0))
    until_paused(waiter)
    waiter.cancel()
    assert waiter.result(timeout=60) == ("JobInterrupted" if mode == "thread" else "SystemExit")
    assert changes(app, waiter) == ["pending", "running", "paused", "resumed", "success"]
    (folder / "go").touch()


def test_a_runner_that_is_told_to_stop_gives_paused_jobs_back_at_once(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = app.enqueue("tests.tasks:touch", delay="1h")
    waiters = [wait_for(app, awaited) for _ in range(20)]
    running = runner(**slots(mode, 2, shutdown_timeout=3600.0))
    until_paused(*waiters)
    running.terminate()
    assert running.wait(30) == 0, "it does not wait for what nobody here will do any more"
    assert {job.status for job in waiters} == {Status.PENDING}
    assert {(job.details.attempts, job.details.crashes) for job in waiters} == {(0, 0)}
    assert rows(app.path, "SELECT * FROM jr_edge") == []
    assert starts(folder) == {job.id: 1 for job in waiters}


def test_a_runner_that_is_told_to_stop_lets_those_finish_whose_awaited_runs_here(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app)
    waiter = wait_for(app, awaited)
    running = runner(**slots(mode, 2, shutdown_timeout=3600.0))
    until_paused(waiter)
    running.terminate()
    until(lambda: "stopping: 2 jobs" in running.stderr)
    (folder / "go").touch()
    assert running.wait() == 0
    assert waiter.result() == ["go"]


def test_a_stop_ends_the_awaited_and_the_waiters_alike_when_the_time_is_over(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app)
    waiters = [wait_for(app, awaited) for _ in range(3)]
    running = runner(**slots(mode, 2, shutdown_timeout=0.2))
    until_paused(*waiters)
    running.terminate()
    assert running.wait(30) == 0
    assert {job.status for job in [awaited, *waiters]} == {Status.PENDING}
    assert {(job.details.attempts, job.details.crashes) for job in [awaited, *waiters]} == {(0, 0)}


def test_a_job_one_of_whose_threads_waits_may_end_before(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app, "never")
    job = app.enqueue("tests.together:wait_in_background", {"ids": [awaited.id]})
    if mode == "process":
        (folder / "go").touch()  # else all of its process is stopped, and only cancelling ends it
    running = runner(**slots(mode, 2))
    if mode == "thread":
        until_paused(job)
        (folder / "go").touch()
        assert job.result(timeout=60) == "done"
        running.stop()
        assert changes(app, job) == ["pending", "running", "paused", "resumed", "success"]
    else:
        until(lambda: job.status in {Status.PAUSED, Status.SUCCESS})
        awaited.cancel()
        assert job.result(timeout=60) == "done"


# Deaths ----------------------------------------------------------------------------------------------


def test_a_killed_runner_with_20_paused_jobs_leaves_no_process_and_the_next_finishes_all(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app, delay="1h")
    waiters = [wait_for(app, awaited) for _ in range(20)]
    first = runner(**slots(mode, 2))
    until_paused(*waiters)
    everybody = [first.template, *first.workers]
    assert len(everybody) == (21 if mode == "process" else 2)
    first.kill()
    until_gone(everybody)
    assert {job.status for job in waiters} == {Status.PAUSED}
    (folder / "go").touch()
    assert awaited.retry(), "it need not wait for its time"
    runner(**slots(mode, 2))
    assert [job.result(timeout=60) for job in waiters] == [["go"]] * 20
    assert set(starts(folder).values()) <= {1, 2}
    assert changes(app, waiters[0])[:6] == ["pending", "running", "paused", "killed", "pending", "running"]


def test_a_paused_job_whose_process_is_killed_is_done_again(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app)
    waiter = app.enqueue("tests.together:wait_at_first_for", {"ids": [awaited.id]})
    runner(**slots(mode, 2))
    until_paused(waiter)
    os.kill(next(mark.pid for mark in marks(folder) if mark.id == waiter.id), signal.SIGKILL)
    assert waiter.result(timeout=60) == 2
    (folder / "go").touch()
    assert awaited.result(timeout=60) == "go"
    assert changes(app, waiter) == ["pending", "running", "paused", "killed", "pending", "running", "success"]


def test_an_awaited_whose_process_is_killed_is_done_again_and_still_awaited(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = app.enqueue("tests.tasks:wait_at_first")
    first = runner(**slots(mode, 1))
    until(lambda: marks(folder))
    waiter = wait_for(app, awaited)
    runner(**slots(mode, 1))
    until_paused(waiter)
    os.kill(marks(folder)[0].pid, signal.SIGKILL)
    assert waiter.result(timeout=60) == [2]
    assert first.is_running


# Two runners -----------------------------------------------------------------------------------------


def test_what_another_runner_does_resumes_who_waits_here(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    awaited = file_job(app, queue="other")
    waiters = [wait_for(app, awaited) for _ in range(3)]
    runner(**slots(mode, 1, queues=["default"]))
    until_paused(*waiters)
    runner(**slots(mode, 1, queues=["other"]))
    until_has(awaited, Status.RUNNING)
    (folder / "go").touch()
    assert [job.result(timeout=60) for job in waiters] == [["go"]] * 3


def test_runners_of_both_kinds_do_one_family_together(app: App, runner: StartRunner, folder: Path) -> None:
    family = app.enqueue("tests.together:family", {"widths": [4, 4, 3]})
    runner(**slots("process", 2))
    runner(**slots("thread", 2))
    assert family.result(timeout=90) == 48
    assert set(starts(folder).values()) == {1}
    assert len(rows(app.path, "SELECT DISTINCT runner FROM jr_invocation")) == 2


def test_a_drain_waits_for_those_who_wait(app: App, runner: StartRunner, mode: str) -> None:
    outermost = app.enqueue("tests.together:nest", {"depth": 5})
    running = runner(**slots(mode, 1, drain=True))
    assert running.wait() == 0
    assert outermost.result() == 5


def test_a_runner_of_so_many_jobs_does_what_these_wait_for_too(app: App, runner: StartRunner, mode: str) -> None:
    outermost = app.enqueue("tests.together:nest", {"depth": 5})
    other = app.enqueue("tests.tasks:touch")
    running = runner(**slots(mode, 2, max_jobs=1))
    assert running.wait() == 0
    assert (outermost.result(), other.status) == (5, Status.PENDING)
