"""What a process of threads has beyond its threads, because jobs were short: nothing is lost by it, or held up."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Invocation, Status
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import RunnerProcess
from tests.helpers.trace import marks, starts
from tests.helpers.waiting import until

Job = Invocation[Any]
THREADS = 2
CLAIMED = "SELECT count(*) FROM jr_invocation WHERE status = 'running'"


@pytest.fixture
def flood(app: App, runner: StartRunner, folder: Path, path: Path) -> tuple[RunnerProcess, list[Job], list[Job]]:
    """A runner that claimed ahead, whose threads are all busy for long; those that keep them, and those behind."""
    for _ in range(2000):
        app.enqueue("tests.together:nothing")
    long = [app.enqueue("tests.tasks:wait_for_file", {"name": "go"}) for _ in range(THREADS)]
    behind = [app.enqueue("tests.tasks:touch") for _ in range(60)]
    running = runner(mode="thread", jobs=1, threads=THREADS, kill_grace=0.5)
    until(lambda: len(marks(folder)) >= THREADS)
    return running, long, behind


def test_what_waits_behind_long_jobs_is_given_back_and_another_runner_does_it(
    app: App, runner: StartRunner, folder: Path, path: Path, flood: tuple[RunnerProcess, list[Job], list[Job]]
) -> None:
    _, long, behind = flood
    until(lambda: rows(path, CLAIMED) == [(THREADS,)])
    given_back = rows(path, "SELECT DISTINCT reason FROM jr_history WHERE reason LIKE 'given back%'")
    assert given_back == [("given back before it began",)], "some were claimed ahead"
    assert {one.status for one in behind} == {Status.PENDING}
    runner(mode="thread", jobs=1, threads=THREADS)
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


def test_the_death_of_a_process_is_a_crash_of_what_it_had_begun_alone(
    app: App, folder: Path, path: Path, flood: tuple[RunnerProcess, list[Job], list[Job]]
) -> None:
    running, long, behind = flood
    os.kill(marks(folder)[0].pid, signal.SIGKILL)
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


def test_a_job_that_waits_goes_on_beside_a_flood_of_short_ones(app: App, runner: StartRunner) -> None:
    awaited = app.enqueue("tests.together:nothing", delay="500ms")
    waiter = app.enqueue("tests.together:wait_for", {"ids": [awaited.id]}, priority=1)
    jobs = [app.enqueue("tests.together:nothing") for _ in range(3000)]
    runner(mode="thread", jobs=1, threads=1)
    assert waiter.result(timeout=30) == [None]
    app.wait(jobs, timeout=60)


def test_limits_hold_for_what_is_claimed_ahead(app: App, runner: StartRunner, path: Path) -> None:
    jobs = [app.enqueue("tests.together:nothing", concurrency=2, concurrency_key="few") for _ in range(300)]
    others = [app.enqueue("tests.together:nothing") for _ in range(300)]
    for _ in range(2):
        runner(mode="thread", jobs=1, threads=4)
    app.wait([*jobs, *others], timeout=60)
    assert rows(path, "SELECT count(*) FROM jr_invocation WHERE attempt <> 1") == [(0,)]
