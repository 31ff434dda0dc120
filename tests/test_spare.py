"""The process that an idle runner of processes has forked already, and that waits for the next job."""

import os
import signal
from pathlib import Path

from jobrunner import App, Status, state_backend
from jobrunner.database import Database
from tests.conftest import StartRunner
from tests.helpers.processes import RunnerProcess
from tests.helpers.waiting import until, until_gone


def spare(running: RunnerProcess) -> int:
    """Its pid, once there is one and nothing else."""
    return until(lambda: running.workers if len(running.workers) == 1 else [])[0]


def did(app: App, job: int) -> list[tuple[int | None, str | None]]:
    """Which processes made the attempts of a job, and what came of them."""
    with Database(app.path) as database:
        return [(one.pid, one.outcome) for one in state_backend.attempts(database, job)]


def test_a_job_is_done_by_the_process_that_waits_for_it(app: App, runner: StartRunner) -> None:
    running = runner(jobs=2, imports=["tests.tasks"])
    waiting = spare(running)
    job = app.enqueue("tests.tasks:square", {"n": 3})
    assert job.result(timeout=60) == 9
    assert did(app, job.id) == [(waiting, "success")]
    until_gone([waiting])
    assert spare(running) != waiting, "another waits for the next"


def test_a_command_is_done_by_it_too(app: App, runner: StartRunner) -> None:
    running = runner(jobs=1)
    waiting = spare(running)
    job = app.enqueue_command("echo", "here")
    assert job.result(timeout=60) is None
    assert (did(app, job.id), job.log()) == ([(waiting, "success")], "here\n")


def test_what_it_has_rehearsed_is_not_seen_by_its_job(app: App, runner: StartRunner) -> None:
    running = runner(jobs=1, imports=["tests.tasks"])
    waiting = spare(running)
    job = app.enqueue_command(
        "sh", "-c", "echo $JOBRUNNER_JOB $JOBRUNNER_CLAIM $JOBRUNNER_ATTEMPT; ls /proc/self/fd | wc -w"
    )
    assert job.result(timeout=60) is None
    assert did(app, job.id) == [(waiting, "success")]
    names, opened = job.log().splitlines()
    assert (names, opened) == (f"{job.id} 1 1", "4"), "its three streams, and the folder that is read"


def test_its_command_has_no_more_time_than_any_other(app: App, runner: StartRunner) -> None:
    running = runner(jobs=1)
    spare(running)
    job = app.enqueue_command("sleep", "60", timeout="200ms")
    app.wait([job], timeout=60)
    with Database(app.path) as database:
        [attempt] = state_backend.attempts(database, job.id)
    assert attempt.outcome == "timeout"
    assert attempt.finished_at - attempt.started_at < 9_000, "what placing may take is not added"


def test_large_arguments_reach_it(app: App, runner: StartRunner) -> None:
    running = runner(jobs=1)
    waiting = spare(running)
    job = app.enqueue("tests.tasks:length", {"text": "x" * 900_000})
    assert job.result(timeout=60) == 900_000
    assert did(app, job.id) == [(waiting, "success")]


def test_one_that_is_killed_costs_no_job_anything_and_is_replaced(app: App, runner: StartRunner) -> None:
    running = runner(jobs=1, imports=["tests.tasks"])
    killed = spare(running)
    os.kill(killed, signal.SIGKILL)
    until_gone([killed])
    until(lambda: running.workers and killed not in running.workers)
    job = app.enqueue("tests.tasks:square", {"n": 3})
    assert job.result(timeout=60) == 9
    assert [outcome for _, outcome in did(app, job.id)] == ["success"]


def test_a_job_that_was_given_to_a_dead_one_has_not_crashed(app: App, runner: StartRunner) -> None:
    running = runner(jobs=1, imports=["tests.tasks"])
    waiting, template = spare(running), running.template
    os.kill(template, signal.SIGSTOP)  # so that nobody tells the runner
    os.kill(waiting, signal.SIGKILL)
    job = app.enqueue("tests.tasks:square", {"n": 3}, on_crash="fail")
    until(lambda: job.status is Status.RUNNING)
    os.kill(template, signal.SIGCONT)
    assert job.result(timeout=60) == 9, "at most once, and once is not taken up by a process that never read of it"
    assert job.details.attempts == 1


def test_it_ends_with_its_runner_and_with_its_template(app: App, runner: StartRunner) -> None:
    running = runner(jobs=1)
    waiting, template = spare(running), running.template
    os.kill(template, signal.SIGKILL)
    until_gone([waiting])
    until(lambda: running.template != template)
    waiting = spare(running)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    until_gone([waiting])


def test_new_code_has_one_of_its_own(app: App, runner: StartRunner, folder: Path) -> None:
    (folder / "shop.py").write_text("def word(): return 'old'\n", "utf-8")
    running = runner(jobs=1, imports=["shop"], app_dir=str(folder))
    old, template = spare(running), running.template
    (folder / "shop.py").write_text("def word(): return 'new code'\n", "utf-8")
    running.hang_up()
    until_gone([old, template])
    assert app.enqueue("shop:word").result(timeout=60) == "new code"
    assert spare(running) != old
