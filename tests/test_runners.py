"""What every runner does, whichever it is: each test here is for all that are found by name or entry point."""

import itertools
import os
import signal
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Invocation, InvocationFailed, Retry, Status, state_backend
from jobrunner.database import Database
from jobrunner.models import Attempt
from jobrunner.runner.base_runner import BaseRunner
from jobrunner.runner.registry import OURS, load_runner
from tests import tasks, together
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import ROOT, RunnerProcess
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.trace import marks, starts
from tests.helpers.waiting import until, until_gone

Job = Invocation[Any]


@pytest.fixture(params=RUNNERS)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(runner: StartRunner, mode: str) -> StartRunner:
    """Starts a runner of the kind with so many slots: `run(2, drain=True)`."""

    def start(count: int = 2, **settings: Any) -> RunnerProcess:
        return runner(**slots(mode, count, **settings))

    return start


def attempts(app: App, job: Job) -> list[Attempt]:
    with Database(app.path) as database:
        return state_backend.attempts(database, job.id)


def pids(folder: Path, count: int) -> list[int]:
    until(lambda: len(marks(folder)) >= count)
    return [mark.pid for mark in marks(folder)]


def test_our_runners_are_the_entry_points_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["jobrunner.runners"] == OURS
    assert all(issubclass(load_runner(name), BaseRunner) for name in RUNNERS)


# Doing -----------------------------------------------------------------------------------------------


def test_each_job_is_done_once(app: App, run: StartRunner, folder: Path) -> None:
    jobs = tasks.touch.enqueue_many({} for _ in range(200))
    assert run(4, drain=True).wait() == 0
    assert starts(folder) == dict.fromkeys((job.id for job in jobs), 1)
    assert {job.status for job in jobs} == {Status.SUCCESS}


def test_results_and_none_are_kept(app: App, run: StartRunner) -> None:
    square = app.enqueue("tests.tasks:square", {"n": 7})
    nothing = app.enqueue("tests.tasks:nothing")
    later = app.enqueue("tests.tasks:square_later", {"n": 3})
    run()
    assert [job.result(timeout=60) for job in (square, nothing, later)] == [49, None, 9]


def test_an_error_is_kept_with_its_traceback(app: App, run: StartRunner) -> None:
    job = app.enqueue("tests.tasks:fail_until", {"attempt": 2})
    run()
    with pytest.raises(InvocationFailed) as caught:
        job.result(timeout=60)
    assert (caught.value.kind, caught.value.message, caught.value.attempt) == ("RuntimeError", "attempt 1", 1)
    assert "in fail_until" in (caught.value.traceback or "")


def test_what_fails_is_tried_again(app: App, run: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.tasks:fail_until", {"attempt": 3}, retry=Retry(attempts=5, base="10ms"))
    run()
    assert job.result(timeout=60) == 3
    assert starts(folder) == {job.id: 3}


def test_a_unique_key_has_one_unfinished_job(app: App, run: StartRunner, folder: Path) -> None:
    first = app.enqueue("tests.tasks:wait_for_file", {"name": "go"}, unique="k")
    run()
    pids(folder, 1)
    assert app.enqueue("tests.tasks:touch", unique="k") == first
    (folder / "go").touch()
    assert first.result(timeout=60) == "go"
    assert app.enqueue("tests.tasks:touch", unique="k") != first


def test_with_one_slot_the_order_is_priority_then_age(app: App, run: StartRunner, folder: Path) -> None:
    for priority in (0, 1, -1, 1, 0):
        app.enqueue("tests.tasks:touch", priority=priority)
    assert run(1, drain=True).wait() == 0
    assert [mark.id for mark in marks(folder)] == [2, 4, 1, 5, 3]


def test_programs_and_shell_lines_are_run(app: App, run: StartRunner) -> None:
    program = app.enqueue_command("printf", "<%s>", "a b", "$HOME")
    line = app.enqueue_shell("echo a | tr a b; exit 3")
    run()
    app.wait([program, line], timeout=60)
    assert (program.status, program.log()) == (Status.SUCCESS, "<a b><$HOME>")
    assert (line.status, line.log(), attempts(app, line)[0].exit_code) == (Status.FAILED, "b\n", 3)


def test_output_lands_with_its_own_job(app: App, run: StartRunner) -> None:
    jobs = {
        word: app.enqueue("tests.together:say_in_many_ways", {"word": word, "times": 20}) for word in ("a", "b", "c")
    }
    run(3)
    app.wait(jobs.values(), timeout=60)
    for word, job in jobs.items():
        lines = job.log().splitlines()
        assert sorted(lines) == sorted(
            f"{line}:{word}:{n}" for line in ("print", "bytes", "log", "error") for n in range(20)
        )


def test_progress_can_be_seen_while_it_runs(app: App, run: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.tasks:report_and_wait")
    run()
    until(lambda: job.progress is not None)
    assert job.progress is not None
    assert (job.progress.fraction, job.progress.message) == (0.4, "12/30")
    (folder / "go").touch()
    assert job.result(timeout=60) is None


def test_what_a_job_enqueues_knows_its_parent(app: App, run: StartRunner) -> None:
    parent = app.enqueue("tests.tasks:parent", {"n": 3})
    run()
    children = [app.invocation(one) for one in parent.result(timeout=60)]
    app.wait(children, timeout=60)
    assert [child.details.parent for child in children] == [parent.id] * 3


def test_jobs_share_the_cache_of_their_runner(app: App, run: StartRunner) -> None:
    jobs = [app.enqueue("tests.together:count_in_cache", {"times": 20}) for _ in range(6)]
    run(3)
    app.wait(jobs, timeout=60)
    assert max(job.result() for job in jobs) == 120


# Stopping jobs ---------------------------------------------------------------------------------------


def test_a_timeout_ends_a_job(app: App, run: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.together:polite", timeout="200ms")
    run(kill_grace=0.5)
    with pytest.raises(InvocationFailed, match="TimedOut: ran longer than its timeout of 200 ms"):
        job.result(timeout=60)
    assert attempts(app, job)[0].outcome == "timeout"


def test_a_running_job_can_be_cancelled(app: App, run: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.together:polite", retry=3)
    running = run(kill_grace=0.5)
    pids(folder, 1)
    assert job.cancel()
    app.wait([job], timeout=60)
    assert (job.status, job.details.reason, len(marks(folder))) == (Status.CANCELLED, "cancelled while it ran", 1)
    assert running.is_running


# Waiting and limits ----------------------------------------------------------------------------------


def test_a_chain_of_waits_finishes_with_one_slot(app: App, run: StartRunner) -> None:
    outermost = app.enqueue("tests.together:nest", {"depth": 20})
    run(1)
    assert outermost.result(timeout=60) == 20


def test_the_failure_of_an_awaited_job_reaches_the_waiter(app: App, run: StartRunner) -> None:
    failing = app.enqueue("tests.tasks:fail_until", {"attempt": 2})
    waiter = app.enqueue("tests.together:wait_for", {"ids": [failing.id]})
    run(1)
    with pytest.raises(InvocationFailed, match=f"job {waiter.id} failed .* job {failing.id} failed"):
        waiter.result(timeout=60)


def test_a_concurrency_limit_holds(app: App, run: StartRunner, folder: Path) -> None:
    jobs = together.alone.enqueue_many({"n": n} for n in range(10))
    run(4)
    assert [job.result(timeout=60) for job in jobs] == list(range(10))
    kept = sorted(tuple(map(float, line.split()[1:])) for line in (folder / "places").read_text().splitlines())
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(kept))


# Deaths ----------------------------------------------------------------------------------------------


def test_a_killed_worker_costs_no_attempt(app: App, run: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.tasks:wait_at_first")
    running = run()
    (pid,) = pids(folder, 1)
    os.kill(pid, signal.SIGKILL)
    assert job.result(timeout=60) == 2
    assert [(one.outcome, one.signal) for one in attempts(app, job)] == [("crashed", 9), ("success", None)]
    assert job.details.attempts == 1
    assert running.is_running


def test_after_a_killed_runner_nothing_is_left_and_the_next_one_finishes(
    app: App, run: StartRunner, folder: Path
) -> None:
    jobs = [app.enqueue("tests.tasks:wait_at_first") for _ in range(3)]
    first = run(3)
    everybody = [*pids(folder, 3), first.template]
    first.kill()
    until_gone(everybody)
    assert {job.status for job in jobs} == {Status.RUNNING}
    assert run(3, drain=True).wait() == 0
    assert [job.result() for job in jobs] == [2, 2, 2]


def test_a_job_that_dies_while_it_asks_does_not_harm_the_runner(app: App, run: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.together:ask_without_waiting", on_crash="fail")
    running = run()
    (pid,) = pids(folder, 1)
    os.kill(running.pid, signal.SIGSTOP)  # so that it hears of the question and of the death in one turn
    (folder / "go").touch()
    until(lambda: marks(folder, "A"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in running.workers)
    os.kill(running.pid, signal.SIGCONT)
    app.wait([job], timeout=60)
    assert job.status is Status.FAILED
    assert app.enqueue("tests.tasks:square", {"n": 2}).result(timeout=60) == 4


# Stopping the runner ---------------------------------------------------------------------------------


def test_a_job_that_ends_before_it_has_its_answer_does_not_harm_the_runner(app: App, run: StartRunner) -> None:
    jobs = [app.enqueue("tests.together:ask_and_end") for _ in range(5)]
    assert run(2, drain=True).wait() == 0
    assert {job.status for job in jobs} == {Status.SUCCESS}


def test_a_module_that_sets_a_timeout_for_sockets_sets_none_for_answers(
    app: App, run: StartRunner, folder: Path
) -> None:
    text = "import socket\nfrom tests.together import wait_for\nsocket.setdefaulttimeout(0.01)\n"
    (folder / "hurried.py").write_text(text)
    awaited = app.enqueue("tests.together:nothing", delay="500ms")
    job = app.enqueue("hurried:wait_for", {"ids": [awaited.id]})
    run(2, app_dir=str(folder), imports=["hurried"])
    assert job.result(timeout=30) == [None]


def test_a_runner_with_8_busy_slots_stops_within_one_grace(app: App, run: StartRunner, folder: Path) -> None:
    jobs = [app.enqueue("tests.together:deaf") for _ in range(8)]
    running = run(8, shutdown_timeout=0.5)
    everybody = pids(folder, 8)
    began = time.monotonic()
    running.terminate()
    assert running.wait() == 0
    assert time.monotonic() - began < 0.5 + 8 * 1.0, "the jobs are given their second together, not one by one"
    until_gone(everybody)
    assert {(job.status, job.details.attempts, job.details.crashes) for job in jobs} == {(Status.PENDING, 0, 0)}


def test_what_finishes_in_time_keeps_its_result_when_the_runner_stops(app: App, run: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    running = run(shutdown_timeout=3600.0)
    pids(folder, 1)
    running.terminate()
    until(lambda: "stopping: 1 jobs" in running.stderr)
    (folder / "go").touch()
    assert running.wait() == 0
    assert job.result() == "go"


def test_a_runner_stops_after_so_many_jobs(app: App, run: StartRunner, folder: Path) -> None:
    tasks.touch.enqueue_many({} for _ in range(9))
    assert run(max_jobs=5).wait() == 0
    assert (len(marks(folder)), app.counts()[Status.PENDING]) == (5, 4)


def test_a_runner_stops_when_it_was_idle_for_long_enough(app: App, run: StartRunner) -> None:
    jobs = tasks.touch.enqueue_many({} for _ in range(5))
    assert run(max_idle=0.2).wait() == 0
    assert {job.status for job in jobs} == {Status.SUCCESS}
    assert rows(app.path, "SELECT stop_reason FROM runners") == [("idle for 0.2 s",)]
