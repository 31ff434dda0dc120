"""What a runner has beyond its threads or processes, because jobs were short: nothing is lost by it, or held up."""

import itertools
import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Invocation, Status
from jobrunner.policy import OnCrash
from tests import together
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import RunnerProcess
from tests.helpers.trace import marks, starts
from tests.helpers.waiting import until

Job = Invocation[Any]
THREADS = 2
BEHIND = 60
MANY = {"thread": 2000, "process": 300}
GIVEN_BACK = "SELECT DISTINCT reason FROM jr_history WHERE reason LIKE 'given back%'"
PENDING = "SELECT count(*) FROM jr_invocation WHERE status = 'pending'"
LATER = """INSERT INTO jr_invocation(task, status, run_at)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
SELECT 'tests.together:nothing', 'scheduled', 4000000000000 FROM n RETURNING id"""
CLAIMED = "SELECT count(*) FROM jr_invocation WHERE status = 'running'"


def places(mode: str) -> dict[str, Any]:
    """Settings of a runner with so many threads in a process, or so many processes."""
    return {"mode": mode, "jobs": 1, "threads": THREADS} if mode == "thread" else {"mode": mode, "jobs": THREADS}


def many(app: App, count: int, function: Callable[..., Any] = together.nothing, /, **options: Any) -> list[Job]:
    """So many jobs of a function, enqueued together; options are those of `app.task`."""
    return app.task(**options)(function).enqueue_many({} for _ in range(count))


@pytest.fixture(params=["thread", "process"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both of them."""
    return str(request.param)


@pytest.fixture
def flood(app: App, runner: StartRunner, folder: Path, mode: str) -> tuple[RunnerProcess, list[Job], list[Job]]:
    """A runner that claimed ahead, whose places are all taken for long; those that keep them, and those behind."""
    many(app, MANY[mode])
    long = [app.enqueue("tests.tasks:wait_for_file", {"name": "go"}) for _ in range(THREADS)]
    behind = [app.enqueue("tests.tasks:touch") for _ in range(BEHIND)]
    running = runner(**places(mode), kill_grace=0.5)
    until(lambda: len(marks(folder)) >= THREADS)
    return running, long, behind


def test_what_waits_behind_long_jobs_is_given_back_and_another_runner_does_it(
    app: App,
    runner: StartRunner,
    folder: Path,
    path: Path,
    mode: str,
    flood: tuple[RunnerProcess, list[Job], list[Job]],
) -> None:
    _, long, behind = flood
    until(lambda: rows(path, CLAIMED) == [(THREADS,)])
    if mode == "thread":  # a process is not forked in so short a time where the machine does much else
        assert rows(path, GIVEN_BACK) == [("given back before it began",)], "some were claimed ahead"
    assert {one.status for one in behind} == {Status.PENDING}
    runner(**places(mode))
    app.wait(behind, timeout=30)
    assert {one.details.attempts for one in behind} == {1}, "what never began is no attempt"
    assert {one.details.crashes for one in behind} == {0}
    (folder / "go").touch()
    app.wait(long, timeout=30)
    assert set(starts(folder).values()) == {1}


def test_a_runner_that_stops_leaves_what_it_has_not_begun_as_it_was(
    app: App, folder: Path, path: Path, flood: tuple[RunnerProcess, list[Job], list[Job]]
) -> None:
    running, long, behind = flood
    running.terminate()
    assert running.wait() == 0
    assert {one.status for one in (*long, *behind)} == {Status.PENDING}
    assert {one.details.attempts for one in (*long, *behind)} == {0}
    assert set(starts(folder)) == {one.id for one in long}


def test_the_death_of_all_that_work_is_a_crash_of_what_they_had_begun_alone(
    app: App, folder: Path, path: Path, flood: tuple[RunnerProcess, list[Job], list[Job]]
) -> None:
    running, long, behind = flood
    for pid in {one.pid for one in marks(folder)}:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(marks(folder)) >= 2 * THREADS)
    (folder / "go").touch()
    app.wait([*long, *behind], timeout=30)
    assert {one.details.crashes for one in long} == {1}
    assert {one.details.crashes for one in behind} == {0}
    assert rows(path, "SELECT count(*) FROM jr_history WHERE to_status = 'killed'") == [(THREADS,)]
    running.stop()


def test_what_was_claimed_ahead_can_be_cancelled(
    app: App, folder: Path, flood: tuple[RunnerProcess, list[Job], list[Job]]
) -> None:
    _, long, behind = flood
    for one in behind:
        one.cancel()
    until(lambda: all(one.status is Status.CANCELLED for one in behind))
    (folder / "go").touch()
    app.wait(long, timeout=30)
    assert set(starts(folder)) == {one.id for one in long}


def test_a_job_that_waits_goes_on_beside_a_flood_of_short_ones(app: App, runner: StartRunner, mode: str) -> None:
    awaited = app.enqueue("tests.together:nothing", delay="500ms")
    waiter = app.enqueue("tests.together:wait_for", {"ids": [awaited.id]}, priority=1)
    jobs = many(app, MANY[mode])
    runner(mode=mode, jobs=1, threads=1)
    assert waiter.result(timeout=30) == [None]
    app.wait(jobs, timeout=60)


def test_what_a_job_waits_for_is_done_before_what_was_claimed_ahead(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    many(app, MANY[mode])
    awaited = app.enqueue("tests.together:nothing", priority=-1)
    waiter = app.enqueue("tests.together:wait_for", {"ids": [awaited.id]})
    long = [app.enqueue("tests.tasks:wait_for_file", {"name": "go"}) for _ in range(BEHIND)]
    runner(mode=mode, jobs=1, threads=1)
    assert waiter.result(timeout=30) == [None]
    (folder / "go").touch()
    app.wait(long, timeout=60)


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside a long job"])
def test_what_a_job_waits_for_gets_its_slot_where_it_was_claimed_ahead_and_others_wait(
    app: App, runner: StartRunner, folder: Path, mode: str, others: int
) -> None:
    many(app, MANY[mode], priority=1)
    awaited = app.enqueue("tests.together:nothing", priority=-1)
    waiter = app.enqueue("tests.together:wait_for", {"ids": [awaited.id]})
    long = [app.enqueue("tests.tasks:wait_for_file", {"name": "go"}) for _ in range(others)]
    long += [app.enqueue("tests.tasks:wait_for_file", {"name": "go"}, priority=-2) for _ in range(300)]
    runner(mode=mode, jobs=1 + others, threads=1)
    assert waiter.result(timeout=30) == [None]
    (folder / "go").touch()
    app.wait(long, timeout=60)


def test_what_is_claimed_ahead_waits_for_no_long_job_beside_a_flood_of_short_ones(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    long = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    short = many(app, 2 * MANY[mode])
    runner(mode=mode, jobs=2, threads=1)
    app.wait(short, timeout=30)
    (folder / "go").touch()
    app.wait([long], timeout=30)


def test_who_waits_goes_on_in_the_slot_of_what_it_waited_for_however_many_others_are_waited_for(
    app: App, runner: StartRunner, folder: Path, path: Path, mode: str
) -> None:
    awaited = app.enqueue("tests.together:nothing", priority=-1)
    later = [row[0] for row in rows(path, LATER)]
    app.enqueue("tests.together:wait_for", {"ids": later}, priority=2)
    for _ in range(10):
        app.enqueue("tests.together:nothing", priority=1)
    waiter = app.enqueue("tests.together:wait_for", {"ids": [awaited.id]})
    long = app.enqueue("tests.tasks:wait_for_file", {"name": "go"}, priority=-2)
    runner(mode=mode, jobs=1, threads=1)
    assert waiter.result(timeout=30) == [None]
    (folder / "go").touch()
    app.wait([long], timeout=30)


def test_limits_hold_for_what_is_claimed_ahead(app: App, runner: StartRunner, path: Path, mode: str) -> None:
    jobs = many(app, 300, concurrency=2, concurrency_key="few")
    others = many(app, 300)
    for _ in range(2):
        runner(**places(mode))
    app.wait([*jobs, *others], timeout=60)
    assert rows(path, "SELECT count(*) FROM jr_invocation WHERE attempt <> 1") == [(0,)]


@pytest.mark.parametrize("why", ["done at most once", "crashed before"])
def test_nothing_is_claimed_ahead_where_the_death_of_the_runner_would_cost_it_dear(
    app: App, runner: StartRunner, path: Path, mode: str, why: str
) -> None:
    on_crash: OnCrash = "fail" if why == "done at most once" else "retry"
    jobs = many(app, MANY[mode] // 3, on_crash=on_crash)  # of others, more than places are claimed by then
    if why == "crashed before":
        rows(path, "UPDATE jr_invocation SET crashes = 1")
    runner(**places(mode))
    seen = [0]
    for _ in itertools.takewhile(lambda _: jobs[-1].status is not Status.SUCCESS, itertools.count()):
        seen += [count for (count,) in rows(path, CLAIMED)]
        threading.Event().wait(0.002)
    assert max(seen) <= THREADS


def test_processes_are_forked_for_what_was_claimed_ahead(
    app: App, runner: StartRunner, folder: Path, path: Path
) -> None:
    running = runner(mode="process", jobs=THREADS)
    for n in itertools.count():  # until the machine is so quiet for a moment that jobs are short
        jobs = [app.enqueue("tests.together:nothing") for _ in range(100)]
        jobs += [app.enqueue("tests.tasks:wait_for_file", {"name": f"go{n}"}) for _ in range(THREADS)]
        behind = [app.enqueue("tests.together:nothing") for _ in range(BEHIND)]
        until(lambda: rows(path, CLAIMED) == [(THREADS,)] and rows(path, PENDING) == [(BEHIND,)])
        (folder / f"go{n}").touch()
        app.wait([*jobs, *behind], timeout=60)
        if rows(path, GIVEN_BACK):
            break
    assert rows(path, "SELECT count(*) FROM jr_invocation WHERE attempt <> 1 OR crashes <> 0") == [(0,)]
    running.stop()


def test_no_more_processes_work_than_there_are_places(app: App, runner: StartRunner) -> None:
    counts = [app.enqueue("tests.together:neighbours") for _ in range(200)]
    last = app.enqueue("tests.together:nothing", priority=-1)
    waiters = [app.enqueue("tests.together:wait_for", {"ids": [last.id]}) for _ in range(3)]
    counts += [app.enqueue("tests.together:neighbours") for _ in range(100)]
    runner(mode="process", jobs=THREADS)
    app.wait([*counts, *waiters], timeout=120)
    assert {one.result() for one in counts} <= {1, THREADS}


def test_a_runner_does_as_many_as_it_is_to_do_though_some_were_given_back(
    app: App, runner: StartRunner, folder: Path, path: Path, mode: str
) -> None:
    before = many(app, MANY[mode])
    app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    for _ in range(2 * BEHIND):
        app.enqueue("tests.together:nothing")
    running = runner(mode=mode, jobs=1, threads=1, max_jobs=len(before) + BEHIND)
    until(lambda: marks(folder))
    until(lambda: rows(path, CLAIMED) == [(1,)])
    (folder / "go").touch()
    assert running.wait() == 0
    assert app.counts()[Status.SUCCESS] == len(before) + BEHIND


def test_no_more_is_claimed_ahead_than_there_are_descriptors_for(app: App, runner: StartRunner) -> None:
    running = runner(mode="process", jobs=THREADS)
    until(lambda: running.workers)
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (36, 36))

    def flood() -> int:
        before = running.stderr.count("no process for job")
        app.wait(many(app, MANY["process"]), timeout=120)
        return running.stderr.count("no process for job") - before

    assert 0 in [flood() for _ in range(4)], "it is learnt"


def test_a_template_that_has_no_descriptors_left_gives_back_what_it_cannot_take(app: App, runner: StartRunner) -> None:
    running = runner(mode="process", jobs=THREADS)
    until(lambda: running.workers)
    resource.prlimit(running.template, resource.RLIMIT_NOFILE, (20, 20))
    jobs = [app.enqueue("tests.together:nothing") for _ in range(100)]
    app.wait(jobs, timeout=120)
    assert {one.details.attempts for one in jobs} == {1}
    assert rows(app.path, "SELECT count(*) FROM jr_history WHERE to_status = 'killed'") == [(0,)]


def test_who_dies_while_it_waits_leaves_no_place_behind(app: App, runner: StartRunner) -> None:
    awaited = app.enqueue("tests.together:nothing", delay="1h")
    waiters = [app.enqueue("tests.together:wait_deaf_to_term", {"ids": [awaited.id]}) for _ in range(10)]
    runner(mode="process", jobs=1, kill_grace=0.5)
    until(lambda: all(one.status is Status.PAUSED for one in waiters))
    counts = many(app, MANY["process"], together.neighbours)
    for one in waiters:
        one.cancel()
    app.wait([*counts, *waiters], timeout=120)
    assert {one.result() for one in counts} == {1}


def test_no_more_threads_work_than_there_are_places(app: App, runner: StartRunner) -> None:
    waiter = app.enqueue("tests.together:nest", {"depth": 4})
    counts = many(app, MANY["thread"], together.count_at_work)
    runner(mode="thread", jobs=1, threads=1)
    app.wait([waiter, *counts], timeout=120)
    assert {one.result() for one in counts} == {1}


def test_who_was_forked_ahead_finds_what_any_other_finds(app: App, runner: StartRunner) -> None:
    jobs = many(app, MANY["process"], together.what_it_finds)
    runner(mode="process", jobs=THREADS)
    app.wait(jobs, timeout=60)
    assert [one.result() for one in jobs] == [[[], True, True, None]] * len(jobs)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1])
def test_who_is_killed_before_it_has_begun_is_done_by_another(
    app: App, runner: StartRunner, path: Path, number: int
) -> None:
    running = runner(mode="process", jobs=THREADS)
    killed: list[int] = []
    while not killed:  # until the machine is so quiet for a moment that jobs are short
        jobs = [app.enqueue("tests.tasks:touch") for _ in range(100)]
        killer = app.enqueue("tests.together:kill_who_has_not_begun", {"number": number})
        jobs += [app.enqueue("tests.tasks:touch") for _ in range(30)]
        app.wait([*jobs, killer], timeout=60)
        killed, begun = killer.result()
        assert not begun, "nobody but the template tells one to begin"
    assert rows(path, "SELECT count(*) FROM jr_invocation WHERE attempt <> 1 OR crashes <> 0") == [(0,)]
    running.stop()


@pytest.mark.parametrize("text", ["", "é" * 16_000], ids=["short", "comes in pieces"])
def test_a_process_has_nothing_of_what_waits_for_a_place(app: App, runner: StartRunner, text: str) -> None:
    jobs = [app.enqueue("tests.together:count_channels", {"text": text}) for _ in range(MANY["process"])]
    runner(mode="process", jobs=THREADS)
    app.wait(jobs, timeout=60)
    assert {one.result() for one in jobs} == {3}, "its own channel and two streams"


def test_the_death_of_the_template_loses_nothing(app: App, runner: StartRunner) -> None:
    jobs = many(app, 400)
    running = runner(mode="process", jobs=THREADS)
    until(lambda: jobs[60].status is Status.SUCCESS)
    os.kill(running.template, signal.SIGKILL)
    app.wait(jobs, timeout=120)
    assert {one.status for one in jobs} == {Status.SUCCESS}


def test_what_waits_for_a_place_goes_on_with_the_old_code(app: App, runner: StartRunner) -> None:
    jobs = many(app, 600)
    running = runner(mode="process", jobs=THREADS)
    until(lambda: jobs[60].status is Status.SUCCESS)
    running.hang_up()
    app.wait(jobs, timeout=120)
    assert {one.details.attempts for one in jobs} == {1}
    assert {one.details.crashes for one in jobs} == {0}
