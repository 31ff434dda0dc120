"""The process runner for real: what it does with jobs, with their deaths, with its own, and when it is told to stop."""

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import psutil
import pytest

from jobrunner import App, Invocation, InvocationFailed, Retry, Status, state_backend
from jobrunner.database import Database
from jobrunner.models import Attempt
from tests import tasks
from tests.conftest import StartRunner
from tests.helpers.files import rows, sqlite_shell
from tests.helpers.processes import RunnerProcess, is_alive
from tests.helpers.trace import marks, starts
from tests.helpers.waiting import until, until_gone

Drain = Callable[..., RunnerProcess]
SOON = Retry(attempts=3, base="20ms")
HEAVY = {"apsw", "ast", "asyncio", "dataclasses", "datetime", "inspect", "logging", "pathlib", "psutil", "subprocess"}
HEAVY |= {"threading", "urllib.parse", "weakref", "jobrunner.database", "jobrunner.location", "jobrunner.instants"}
"""Modules that neither a template nor a worker needs."""
APP = {"jobrunner.app", "jobrunner.options", "jobrunner.policy", "jobrunner.times"}
"""What nearly all task modules import, and is not there before."""


def attempts(app: App, job: Invocation[object]) -> list[Attempt]:
    with Database(app.path) as database:
        return state_backend.attempts(database, job.id)


def pids(folder: Path, event: str, count: int) -> list[int]:
    """The processes of this kind, once there are so many."""
    until(lambda: len(marks(folder, event)) >= count)
    return [mark.pid for mark in marks(folder, event)]


# Doing -----------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.heavy
def test_each_of_two_thousand_is_started_exactly_once(app: App, drain: Drain, folder: Path) -> None:
    jobs = tasks.touch.enqueue_many({} for _ in range(2000))
    drain(jobs=2, seconds=500)
    assert starts(folder) == dict.fromkeys((job.id for job in jobs), 1)
    assert app.counts()[Status.SUCCESS] == 2000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [1000, pytest.param(5000, marks=pytest.mark.long)])
def test_two_runners_on_one_file_do_each_job_once(app: App, runner: StartRunner, folder: Path, count: int) -> None:
    jobs = tasks.touch.enqueue_many({} for _ in range(count))
    both = [runner(jobs=2, drain=True) for _ in range(2)]
    assert [one.wait(500) for one in both] == [0, 0]
    assert starts(folder) == dict.fromkeys((job.id for job in jobs), 1)
    assert app.counts()[Status.SUCCESS] == count
    shares = rows(app.path, "SELECT count(*) FROM attempts GROUP BY runner")
    assert len(shares) == 2, "both took part"


def test_with_one_slot_the_order_is_priority_then_age(app: App, drain: Drain, folder: Path) -> None:
    for priority in (0, 1, -1, 1, 0):
        app.enqueue("tests.tasks:touch", priority=priority)
    drain(jobs=1)
    assert [mark.id for mark in marks(folder)] == [2, 4, 1, 5, 3]


def test_a_runner_of_named_queues_leaves_the_others_alone(app: App, drain: Drain) -> None:
    jobs = [app.enqueue("tests.tasks:touch", queue=queue) for queue in ("mail", "video", "mail")]
    drain(queues=["mail"])
    assert [job.status for job in jobs] == [Status.SUCCESS, Status.PENDING, Status.SUCCESS]


def test_a_commit_by_the_shell_wakes_an_idle_runner(app: App, runner: StartRunner, path: Path) -> None:
    runner(jobs=1).until_ready()
    assert sqlite_shell(path, "INSERT INTO jobs(task) VALUES ('tests.tasks:touch');").stderr == ""
    app.wait([1], timeout=60)
    assert app.invocation(1).status is Status.SUCCESS


def test_a_job_has_the_folder_and_the_environment_that_were_asked_for(app: App, drain: Drain, folder: Path) -> None:
    (folder / "here").mkdir()
    job = app.enqueue_shell(
        'echo "$PWD $COLOUR $JOBRUNNER_JOB $JOBRUNNER_ATTEMPT"', cwd=str(folder / "here"), env={"COLOUR": "é\n"}
    )
    drain()
    assert job.log() == f"{folder}/here é\n {job.id} 1\n"


@pytest.mark.parametrize("passed", [(), ("SHOP_*",), ("*",)])
def test_a_command_sees_of_the_runners_environment_what_it_needs_and_what_it_was_given(
    app: App, drain: Drain, monkeypatch: pytest.MonkeyPatch, passed: tuple[str, ...]
) -> None:
    for name, value in {"SHOP_KEY": "k", "DB_PASSWORD": "secret", "LC_TIME": "C", "TZ": "UTC"}.items():
        monkeypatch.setenv(name, value)
    command = app.enqueue_command("env", env={"COLOUR": "red"})
    function = app.enqueue("tests.tasks:variable", {"name": "DB_PASSWORD"})
    drain(pass_env=passed)
    seen = dict(line.split("=", 1) for line in command.log().splitlines())
    assert (seen["COLOUR"], seen["LC_TIME"], seen["TZ"], seen["JOBRUNNER_JOB"]) == ("red", "C", "UTC", str(command.id))
    assert {"PATH", "JOBRUNNER_DB", "JOBRUNNER_RUNNER"} <= seen.keys()
    assert ("SHOP_KEY" in seen) == (passed != ())
    assert ("DB_PASSWORD" in seen) == ("*" in passed)
    assert function.result() == "secret", "a function runs in the runner's own process"


def test_a_command_that_is_drained_in_its_callers_process_has_a_clean_environment_too(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "secret")
    command = app.enqueue_command("env", env={"COLOUR": "red"})
    app.drain()
    assert "COLOUR=red" in command.log()
    assert "DB_PASSWORD" not in command.log()


def test_an_argument_of_a_program_is_one_argument(app: App, drain: Drain) -> None:
    words = ["a b", "$HOME", "'", '"', "*", "", "-n", "é\n"]
    job = app.enqueue_command("printf", "<%s>", *words)
    drain()
    assert job.log() == "".join(f"<{word}>" for word in words)


def test_what_an_attempt_used_is_recorded(app: App, drain: Drain) -> None:
    job = app.enqueue("tests.tasks:use_much", {"megabytes": 60, "cpu_ms": 120})
    drain()
    (attempt,) = attempts(app, job)
    assert (attempt.exit_code, attempt.signal, attempt.outcome) == (0, None, "success")
    assert (attempt.cpu_ms or 0) >= 120
    assert (attempt.peak_kb or 0) > 60_000


# Failing ---------------------------------------------------------------------------------------------


def test_a_program_that_fails_is_tried_three_times(app: App, drain: Drain) -> None:
    job = app.enqueue_command("sh", "-c", "echo out; echo err >&2; exit 3", retry=SOON)
    drain()
    assert (job.status, job.details.attempts) == (Status.FAILED, 3)
    assert [(one.attempt, one.exit_code, one.outcome) for one in attempts(app, job)] == [
        (number, 3, "failed") for number in (1, 2, 3)
    ]
    assert sorted(job.log().split()) == ["err"] * 3 + ["out"] * 3
    with pytest.raises(InvocationFailed, match=f"job {job.id} failed in attempt 3: ExitCode: exited with code 3"):
        job.result()


def test_a_program_that_is_not_there_is_told(app: App, drain: Drain) -> None:
    job = app.enqueue_command("no-such-program", "x")
    drain()
    with pytest.raises(InvocationFailed, match="CannotStart: there is no program 'no-such-program' on the PATH"):
        job.result()
    assert attempts(app, job)[0].exit_code == 127


def test_a_folder_that_is_not_there_is_told(app: App, drain: Drain, folder: Path) -> None:
    job = app.enqueue_command("true", cwd=str(folder / "nowhere"))
    drain()
    with pytest.raises(InvocationFailed, match=r"CannotStart: there is no folder '.*nowhere' to start 'true' in"):
        job.result()


def test_a_drain_waits_for_retries(app: App, drain: Drain, folder: Path) -> None:
    job = app.enqueue("tests.tasks:fail_until", {"attempt": 3}, retry=Retry(attempts=5, base="150ms"))
    drain()
    assert job.result() == 3
    assert starts(folder) == {job.id: 3}


def test_what_a_task_declares_holds_where_it_is_enqueued_by_name(app: App, drain: Drain, folder: Path) -> None:
    jobs = [app.enqueue("tests.tasks:fail_as", {"kind": kind}) for kind in ("ConnectionError", "ValueError")]
    drain()
    assert [job.status for job in jobs] == [Status.FAILED, Status.FAILED]
    assert starts(folder) == {jobs[0].id: 3, jobs[1].id: 1}, "only connection errors are retried"


def test_what_is_said_at_the_call_goes_before_what_the_task_declares(app: App, drain: Drain, folder: Path) -> None:
    job = app.enqueue("tests.tasks:fail_as", {"kind": "ValueError"}, retry=Retry(attempts=2, base="1ms"))
    drain()
    assert starts(folder) == {job.id: 2}


# Deaths of jobs --------------------------------------------------------------------------------------


def test_a_job_that_is_killed_is_done_again(app: App, runner: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.tasks:wait_at_first")
    running = runner(jobs=2)
    (pid,) = pids(folder, "S", 1)
    os.kill(pid, signal.SIGKILL)
    assert job.result(timeout=60) == 2
    first, second = attempts(app, job)
    assert (first.signal, first.exit_code, first.outcome, first.pid) == (9, None, "crashed", pid)
    assert (second.exit_code, second.outcome) == (0, "success")
    assert job.details.attempts == 1, "a crash spends no attempt"
    assert app.enqueue("tests.tasks:square", {"n": 3}).result(timeout=60) == 9
    assert running.is_running


def test_a_job_that_kills_itself_is_bounded_by_its_crash_budget(app: App, drain: Drain, folder: Path) -> None:
    job = app.enqueue("tests.tasks:kill_itself", retry=Retry(attempts=10, base="1ms"))
    drain()
    assert starts(folder) == {job.id: 3}
    assert job.details.reason == "the process died of signal 9 (SIGKILL); crash 3 of 3"
    with pytest.raises(InvocationFailed, match=r"WorkerDied: the process died of signal 9 \(SIGKILL\)"):
        job.result()


def test_a_job_that_must_not_be_repeated_fails_at_its_first_crash(app: App, drain: Drain, folder: Path) -> None:
    job = app.enqueue("tests.tasks:kill_itself", on_crash="fail")
    drain()
    assert (job.status, starts(folder)) == (Status.FAILED, {job.id: 1})


def test_a_timeout_ends_a_deaf_job_with_all_its_family(app: App, drain: Drain, folder: Path) -> None:
    job = app.enqueue("tests.tasks:family_for_ever", timeout="300ms")
    neighbour = app.enqueue("tests.tasks:square", {"n": 2})
    drain(kill_grace=0.2)
    assert len(marks(folder, "G")) == 3
    until_gone([mark.pid for mark in [*marks(folder, "G"), *marks(folder)]])
    with pytest.raises(InvocationFailed, match="TimedOut: ran longer than its timeout of 300 ms"):
        job.result()
    assert attempts(app, job)[0].signal == signal.SIGKILL
    assert neighbour.result() == 4


def test_a_timeout_gives_a_job_the_time_to_tidy_up(app: App, drain: Drain) -> None:
    job = app.enqueue_shell("trap 'echo tidy; exit 0' TERM; while :; do sleep 0.02; done", timeout="200ms")
    drain(kill_grace=60.0)
    assert (job.status, attempts(app, job)[0].outcome) == (Status.FAILED, "timeout")
    assert "tidy\n" in job.log(), "the shell may tell of the sleep that was ended, too"


def test_each_attempt_has_the_whole_timeout(app: App, drain: Drain, folder: Path) -> None:
    job = app.enqueue("tests.tasks:wait_for_ever", timeout="100ms", retry=Retry(attempts=2, base="1ms"))
    drain(kill_grace=0.2)
    assert (job.status, starts(folder)) == (Status.FAILED, {job.id: 2})


def test_a_running_job_is_cancelled_with_its_family(app: App, runner: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.tasks:family_for_ever", retry=SOON)
    running = runner(jobs=1, kill_grace=0.2)
    family = pids(folder, "G", 3) + pids(folder, "S", 1)
    assert job.cancel()
    app.wait([job], timeout=60)
    assert (job.status, job.details.reason) == (Status.CANCELLED, "cancelled while it ran")
    until_gone(family)
    assert running.is_running


def test_what_a_job_leaves_behind_dies_with_it(app: App, runner: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.tasks:leave_family")
    other = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    runner(jobs=2)
    assert job.result(timeout=60) is None
    until_gone([mark.pid for mark in marks(folder, "G")])
    assert other.status is Status.RUNNING, "its neighbour goes on"
    (folder / "go").touch()
    assert other.result(timeout=60) == "go"


def test_a_job_that_leaves_nothing_is_over_before_its_process_is_reaped_and_any_other_after(
    app: App, runner: StartRunner, folder: Path
) -> None:
    names = ("wait_for_file", "leave_child", "leave_orphan")
    alone, *others = [app.enqueue(f"tests.tasks:{name}", {"name": name}) for name in names]
    others.append(app.enqueue("tests.tasks:wait_for_file", {"name": "limited"}, concurrency=1, concurrency_key="tape"))
    running = runner(jobs=4)
    pids(folder, "S", 4)
    worker_of = {mark.id: mark.pid for mark in marks(folder, "S")}
    os.kill(running.template, signal.SIGSTOP)  # now nobody reaps
    try:
        for name in ("leave_child", "leave_orphan", "limited"):
            (folder / name).touch()
        ended = [psutil.Process(worker_of[job.id]) for job in others]
        until(lambda: all(one.status() == psutil.STATUS_ZOMBIE for one in ended))
        (folder / "wait_for_file").touch()
        assert alone.result(timeout=60) == "wait_for_file"
        (attempt,) = attempts(app, alone)
        assert (attempt.pid, attempt.exit_code) == (worker_of[alone.id], 0)
        assert attempt.cpu_ms is not None
        assert (attempt.peak_kb or 0) > 1000
        assert [job.status for job in others] == [Status.RUNNING] * 3
    finally:
        os.kill(running.template, signal.SIGCONT)
    assert [job.result(timeout=60) for job in others] == ["leave_child", "leave_orphan", "limited"]
    until_gone([mark.pid for mark in marks(folder, "G")])


# Deaths of runners and templates ---------------------------------------------------------------------


def test_nothing_outlives_a_killed_runner_and_the_next_one_finishes(
    app: App, runner: StartRunner, drain: Drain, folder: Path
) -> None:
    deaf = app.enqueue("tests.tasks:family_at_first")
    plain = app.enqueue("tests.tasks:wait_at_first")
    program = app.enqueue_command("sleep", "1000", on_crash="fail")
    first = runner(jobs=3)
    everybody = pids(folder, "G", 3) + pids(folder, "S", 2)
    until(lambda: program.status is Status.RUNNING and len(first.workers) >= 3)
    everybody += [first.template, *first.workers]
    first.kill()
    until_gone(everybody)  # by itself: nobody rescues yet
    assert {deaf.status, plain.status, program.status} == {Status.RUNNING}
    second = drain()
    assert (deaf.result(), plain.result(), program.status) == (2, 2, Status.FAILED)
    assert "runner 1 had died" in second.stderr
    assert [one.outcome for one in attempts(app, plain)] == ["crashed", "success"]
    assert attempts(app, plain)[0].error_message == "the runner died"


def test_another_runner_takes_over_from_a_killed_one(app: App, runner: StartRunner, folder: Path) -> None:
    jobs = [app.enqueue("tests.tasks:wait_at_first") for _ in range(3)]
    first = runner(jobs=3)
    pids(folder, "S", 3)
    second = runner(jobs=3)
    second.until_ready()
    first.kill()
    assert [job.result(timeout=60) for job in jobs] == [2, 2, 2]
    assert starts(folder) == {job.id: 2 for job in jobs}


def test_a_stopped_runner_is_not_robbed(app: App, runner: StartRunner, folder: Path) -> None:
    held = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    first = runner(jobs=1)
    pids(folder, "S", 1)
    os.kill(first.pid, signal.SIGSTOP)
    second = runner(jobs=1)
    assert app.enqueue("tests.tasks:touch").result(timeout=60) is None
    (folder / "go").touch()
    until(lambda: marks(folder, "E"))
    second.stop()
    assert held.status is Status.RUNNING
    os.kill(first.pid, signal.SIGCONT)
    assert held.result(timeout=60) == "go"
    assert starts(folder)[held.id] == 1


def test_a_killed_template_is_replaced_and_its_jobs_are_done_again(app: App, runner: StartRunner, folder: Path) -> None:
    jobs = [app.enqueue("tests.tasks:wait_at_first") for _ in range(2)]
    running = runner(jobs=2)
    everybody = pids(folder, "S", 2)
    template = running.template
    os.kill(template, signal.SIGKILL)
    assert [job.result(timeout=60) for job in jobs] == [2, 2]
    until_gone([template, *everybody])
    assert running.template != template
    assert [one.signal for one in attempts(app, jobs[0])] == [9, None]


def test_jobs_that_kill_the_template_end_by_their_own_budget(app: App, drain: Drain, folder: Path) -> None:
    killers = [app.enqueue("tests.tasks:kill_template", priority=1) for _ in range(3)]
    neighbour = app.enqueue("tests.tasks:square", {"n": 5})
    drain(jobs=1)
    assert [job.status for job in killers] == [Status.FAILED] * 3
    assert starts(folder) == {**{job.id: 3 for job in killers}, neighbour.id: 1}
    assert neighbour.result() == 25


# Stopping --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_runner_that_is_told_to_stop_lets_jobs_finish_and_gives_the_rest_back(
    app: App, runner: StartRunner, folder: Path, number: int
) -> None:
    short = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    long = app.enqueue("tests.tasks:wait_for_ever")
    running = runner(jobs=2, shutdown_timeout=2.0)
    everybody = pids(folder, "S", 2)
    os.kill(running.pid, number)
    until(lambda: "stopping: 2 jobs" in running.stderr)
    (folder / "go").touch()
    waiting = app.enqueue("tests.tasks:touch")
    assert running.wait() == 0
    assert short.result() == "go"
    assert (long.status, waiting.status) == (Status.PENDING, Status.PENDING)
    assert (long.details.attempts, long.details.crashes) == (0, 0)
    assert [one.outcome for one in attempts(app, long)] == ["interrupted"]
    until_gone(everybody)
    assert rows(app.path, "SELECT state, stop_reason FROM runners") == [("stopped", "stopped by a signal")]


def test_a_second_signal_stops_at_once(app: App, runner: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.tasks:wait_for_ever")
    running = runner(jobs=1, shutdown_timeout=3600.0)
    pids(folder, "S", 1)
    running.terminate()
    until(lambda: "stopping: 1 jobs" in running.stderr)
    running.terminate()
    assert running.wait() == 0
    assert (job.status, job.details.attempts, job.details.crashes) == (Status.PENDING, 0, 0)


def test_deaf_jobs_are_all_ended_when_a_runner_stops(app: App, runner: StartRunner, folder: Path) -> None:
    jobs = [app.enqueue("tests.tasks:family_for_ever") for _ in range(3)]
    running = runner(jobs=3, shutdown_timeout=0.0)
    everybody = pids(folder, "G", 9) + pids(folder, "S", 3)
    running.terminate()
    assert running.wait() == 0
    until_gone(everybody)
    assert {(job.status, job.details.attempts) for job in jobs} == {(Status.PENDING, 0)}


def test_a_runner_stops_after_so_many_jobs(app: App, runner: StartRunner, folder: Path) -> None:
    tasks.touch.enqueue_many({} for _ in range(9))
    running = runner(jobs=2, max_jobs=5)
    assert running.wait() == 0
    assert (len(marks(folder)), app.counts()[Status.PENDING]) == (5, 4)


def test_a_runner_stops_when_it_was_idle_for_long_enough(app: App, runner: StartRunner) -> None:
    jobs = tasks.touch.enqueue_many({} for _ in range(5))
    running = runner(jobs=2, max_idle=0.2)
    assert running.wait() == 0
    assert {job.status for job in jobs} == {Status.SUCCESS}
    assert "idle for 0.2 s" in running.stderr


def test_a_runner_that_is_told_to_import_what_cannot_be_imported_says_so(runner: StartRunner) -> None:
    running = runner(imports=["tests.awkward.raises"])
    running.may_fail = True
    until(lambda: not running.is_running)
    assert running.wait() != 0
    assert "--import tests.awkward.raises failed: ZeroDivisionError: at import" in running.stderr


def test_a_drain_of_nothing_ends(drain: Drain) -> None:
    assert "drained" in drain().stderr


# What others do to the file --------------------------------------------------------------------------


DAMAGED = {
    """policy = '{"retry": {}}'""": "BadInvocation",
    """policy = '{"retry": null}'""": "BadInvocation",
    """policy = '{"retry": {"attempts": "three"}}'""": "BadInvocation",
    """policy = '{"retry": {"attempts": 3, "on": 5}}'""": "BadInvocation",
    """policy = '{"retry": {"attempts": 3, "base": 1e400}}'""": "BadInvocation",
    """policy = '{"retry": {"attempts": 3, "base": 1e300, "cap": 1e300}}'""": "BadInvocation",
    """policy = '{"timeout": "soon"}'""": "BadInvocation",
    """policy = '{"timeout": 1e400}'""": "BadInvocation",
    """policy = '{"env": [1]}'""": "BadInvocation",
    """policy = '{"env": {"A": 1}}'""": "BadInvocation",
    """policy = '{"cwd": 7}'""": "BadInvocation",
    """policy = '{"on_crash": "cry"}'""": "BadInvocation",
    """args = NULL""": "BadInvocation",
    """args = '{"*": 7}'""": "TypeError",
    """args = '{"*": {"a": 1}}'""": "TypeError",
    """args = '[1, 2, 3]'""": "TypeError",
    """args = NULL, label = 'nonsense'""": "json.decoder.JSONDecodeError",
    """kind = 'command', task = 'true', args = '{"a": 1}'""": "CannotStart",
    """kind = 'command', task = 'true', args = '[1]'""": "CannotStart",
    """kind = 'command', task = 'true', args = '["a\\u0000b"]'""": "CannotStart",
    """kind = 'shell', task = 'true' || char(0), args = '[]'""": "CannotStart",
    """task = 'tests.tasks'""": "TaskNotFound",
    """task = ':'""": "TaskNotFound",
    """task = 'tests.tasks:'""": "TaskNotFound",
    """task = '..:x'""": "TaskNotFound",
    """task = 'tests.tasks:sys'""": "TaskNotFound",
}
"""What somebody writes into a row by hand, and the error that its job ends with."""


def test_rows_that_cannot_be_meant_fail_their_jobs_and_not_the_runner(app: App, drain: Drain, path: Path) -> None:
    jobs = {change: app.enqueue("tests.tasks:square", {"n": 1}) for change in DAMAGED}
    neighbour = app.enqueue("tests.tasks:square", {"n": 6})
    for change, job in jobs.items():
        rows(path, f"UPDATE jr_invocation SET {change} WHERE id = {job.id}")
    rows(
        path, "INSERT INTO jr_argument(invocation, value) SELECT id, label FROM jr_invocation WHERE label = 'nonsense'"
    )
    drain()
    assert neighbour.result() == 36
    assert {change: error_of(job) for change, job in jobs.items()} == DAMAGED


def error_of(job: Invocation[Any]) -> str:
    with pytest.raises(InvocationFailed) as caught:
        job.result(timeout=0)
    return caught.value.kind.removeprefix("jobrunner.errors.")


@pytest.mark.parametrize("imports", [["odd"], []])
def test_what_cannot_be_written_as_a_function_is_none_though_its_module_has_it(
    app: App, runner: StartRunner, folder: Path, imports: list[str]
) -> None:
    (folder / "odd.py").write_text("globals()['not-a-name'] = lambda: 'done'", "utf-8")
    runner(jobs=1, app_dir=str(folder), imports=imports)
    with pytest.raises(InvocationFailed, match="a function is written module:function"):
        app.enqueue("odd:not-a-name").result(timeout=60)


def test_arguments_too_large_for_a_message_fail_their_job_and_not_the_runner(
    app: App, drain: Drain, path: Path
) -> None:
    large = "json_object('value', replace(hex(zeroblob(9000000)), '0', 'x'))"
    neighbour = app.enqueue("tests.tasks:square", {"n": 6})
    rows(path, f"INSERT INTO jobs(task, args) VALUES ('tests.tasks:echo', {large})")
    drain()
    assert (app.invocation(2).status, neighbour.result()) == (Status.FAILED, 36)


def test_a_runner_that_rescues_reads_no_more_of_a_row_than_it_needs(
    app: App, runner: StartRunner, drain: Drain, folder: Path, path: Path
) -> None:
    jobs = [app.enqueue("tests.tasks:wait_at_first") for _ in range(2)]
    first = runner(jobs=2)
    pids(folder, "S", 2)
    rows(path, """UPDATE jr_invocation SET policy = '{"retry": {}}' WHERE id = ?""", jobs[0].id)
    first.kill()
    drain()
    assert (jobs[0].status, jobs[1].result()) == (Status.FAILED, 2)


def test_a_runner_waits_for_who_keeps_the_write_lock(app: App, runner: StartRunner, folder: Path, path: Path) -> None:
    job = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    running = runner(jobs=1)
    pids(folder, "S", 1)
    keeper = apsw.Connection(str(path))
    try:
        keeper.execute("BEGIN IMMEDIATE")
        (folder / "go").touch()
        until(lambda: "holds the write lock" in running.stderr)
        assert running.is_running
        keeper.execute("COMMIT")
    finally:
        keeper.close()
    assert job.result(timeout=60) == "go"
    assert starts(folder) == {job.id: 1}


def test_where_descriptors_run_out_jobs_wait_without_spending_an_attempt(
    app: App, runner: StartRunner, folder: Path
) -> None:
    jobs = [app.enqueue("tests.tasks:wait_for_file", {"name": "go"}) for _ in range(30)]
    running = runner(jobs=30, max_jobs=60)
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (48, 48))
    until(lambda: "no process for job" in running.stderr or len(marks(folder)) == 30)
    (folder / "go").touch()
    app.wait(jobs, timeout=90)
    assert {(job.status, job.details.attempts) for job in jobs} == {(Status.SUCCESS, 1)}
    assert set(starts(folder).values()) == {1}


def test_a_template_that_has_no_descriptor_left_outlives_what_it_imports_after_a_job(
    app: App, runner: StartRunner, folder: Path
) -> None:
    module = """
import time
from pathlib import Path
here = Path(__file__).parent
(here / "begun").touch()
while not (here / "go").exists(): time.sleep(0.01)
def nothing(): pass
"""
    (folder / "slow.py").write_text(module, "utf-8")
    running = runner(jobs=1, app_dir=str(folder))
    job = app.enqueue("slow:nothing")
    until((folder / "begun").exists)
    template = running.template
    resource.prlimit(template, resource.RLIMIT_NOFILE, (3, 100))
    (folder / "go").touch()
    next_one = app.enqueue("slow:nothing")
    until(lambda: "no process" in running.stderr or running.template != template)
    assert running.template == template
    resource.prlimit(template, resource.RLIMIT_NOFILE, (100, 100))
    app.wait([job, next_one], timeout=60)
    assert [job.status, next_one.status] == [Status.SUCCESS] * 2
    assert running.template == template


def test_a_module_that_ends_what_does_no_job_does_not_end_the_template(app: App, runner: StartRunner) -> None:
    running = runner(jobs=1)
    template = running.template
    for _ in range(3):
        assert app.enqueue("tests.awkward.only_in_a_job:nothing").result(timeout=60) is None
    assert running.template == template


def test_a_template_of_which_a_thread_writes_all_the_time_does_not_grow_with_its_forks(
    app: App, runner: StartRunner, folder: Path
) -> None:
    module = """
import gc, io, threading, time
def talk():
    while True:
        print("all is well")
        time.sleep(0.001)
threading.Thread(target=talk, daemon=True).start()
def streams(): return sum(isinstance(one, io.TextIOWrapper) for one in gc.get_objects())
"""
    (folder / "talking.py").write_text(module, "utf-8")
    running = runner(jobs=1, app_dir=str(folder), imports=["talking"])
    counts = [app.enqueue("talking:streams").result(timeout=60) for _ in range(20)]
    assert max(counts) < 10
    assert "Error" not in running.stderr


def test_a_template_has_loaded_little_when_it_imports_the_tasks(app: App, runner: StartRunner, folder: Path) -> None:
    """Each fork copies the tables of its pages: what a module needs of these, it imports itself."""
    (folder / "curious.py").write_text("import sys\nTHERE = [*sys.modules]\ndef there(): return THERE", "utf-8")
    runner(jobs=1, app_dir=str(folder), imports=["curious"])
    there = app.enqueue("curious:there").result(timeout=60)
    assert not (HEAVY | APP) & {*there}


def test_tasks_of_an_app_bring_little_into_the_template(app: App, runner: StartRunner, folder: Path) -> None:
    """As above: what only those need that enqueue, they import when they do."""
    module = """
import sys
from jobrunner import App, Retry
app = App()
@app.task
def plain(): return 1
@app.task(retry=Retry(attempts=3, base="2s", on=(OSError,)), timeout="1m", expires="1h",
          unique="{number}", concurrency=2, concurrency_key="{number}", rate="100/s", cwd="/", env={"A": "b"})
def there(number: int) -> list[str]:
    other.enqueue(1, b=2)
    other.options(unique="{a} {c}", retry=2).enqueue(a=7)
    app.enqueue("of_app:plain", label="by name")
    return [*sys.modules]
@app.task(queue="mail", priority=3, delay=5, label="l", retry=2, on_crash="fail", if_exists="skip", aliases=["a:b"])
def other(a: int, b: int = 3, *, c: str = "") -> None: pass
"""
    (folder / "of_app.py").write_text(module, "utf-8")
    runner(jobs=1, app_dir=str(folder), imports=["of_app"])
    there = {*app.enqueue("of_app:there", {"number": 7}).result(timeout=60)}
    assert there >= APP
    assert not HEAVY & there


def test_what_a_template_practises_leaves_nothing_behind(
    app: App, runner: StartRunner, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = """
import os
from jobrunner.context import find_current
FOUND = [os.environ.get("JOBRUNNER_JOB"), os.environ.get("JOBRUNNER_CLAIM"), find_current(), len(os.listdir("/dev/fd"))]
def found(): return FOUND
def own(): return [os.environ["JOBRUNNER_JOB"], os.environ["JOBRUNNER_CLAIM"], find_current().id]
"""
    (folder / "tidy.py").write_text(module, "utf-8")
    monkeypatch.setenv("JOBRUNNER_CLAIM", "of whoever started the runner")
    runner(jobs=1, app_dir=str(folder), imports=["tidy"])
    job, claim, current, descriptors = app.enqueue("tidy:found").result(timeout=60)
    assert (job, claim, current) == (None, "of whoever started the runner", None)
    assert descriptors < 10
    own = app.enqueue("tidy:own")
    assert own.result(timeout=60) == [str(own.id), "1", own.id]


@pytest.mark.parametrize("heed", ["SIG_DFL", "SIG_IGN"])
def test_a_module_that_heeds_signals_when_it_is_imported_costs_no_job_its_end(
    app: App, runner: StartRunner, folder: Path, heed: str
) -> None:
    module = f"""
import signal
signal.signal(signal.SIGCHLD, signal.{heed})
def word(): return "done"
"""
    (folder / "heeding.py").write_text(module, "utf-8")
    runner(jobs=1, app_dir=str(folder))
    jobs = [app.enqueue("heeding:word").result(timeout=60) for _ in range(3)]
    assert jobs == ["done"] * 3


def test_a_job_finds_which_it_is_in_an_environment_that_a_module_has_replaced(
    app: App, runner: StartRunner, folder: Path
) -> None:
    module = """
import os
os.environ = dict(os.environ)
def own(): return [os.environ["JOBRUNNER_JOB"], os.environ["JOBRUNNER_CLAIM"], os.environ["ASKED_FOR"]]
"""
    (folder / "replacing.py").write_text(module, "utf-8")
    runner(jobs=1, app_dir=str(folder), imports=["replacing"])
    job = app.enqueue("replacing:own", env={"ASKED_FOR": "this"})
    assert job.result(timeout=60) == [str(job.id), "1", "this"]


def test_python_c_and_what_a_job_starts_agree_about_its_environment(
    app: App, drain: Drain, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = """
import ctypes, os, subprocess
NAMES = ["JOBRUNNER_JOB", "JOBRUNNER_ATTEMPT", "JOBRUNNER_WORKER"]
NAMES += ["FROM_OUTSIDE", "OF_THE_MODULE", "OF_THE_JOB", "BEFORE"]
os.environ["OF_THE_MODULE"] = "m"
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
def of_c(name):
    return os.fsdecode(getenv(name.encode()) or b"-")
def seen():
    child = subprocess.run(["env"], capture_output=True, text=True).stdout.splitlines()
    started = dict(line.split("=", 1) for line in child if "=" in line)
    assert len(started) == len(child) == len(os.environ), child
    of_bytes = dict(zip(map(os.fsdecode, os.environb), map(os.fsdecode, os.environb.values())))
    views = [os.environ, started, of_bytes, {n: of_c(n) for n in NAMES}]
    texts = [[view.get(name, "-") for name in NAMES] for view in views]
    assert texts == [texts[0]] * 4, texts
    return texts[0]
def changing(word):
    before = seen()
    os.environ["OF_THE_JOB"] = word
    del os.environ["BEFORE"]
    os.environ["JOBRUNNER_JOB"] = "mine"
    return [before, seen()]
"""
    (folder / "of_environment.py").write_text(module, "utf-8")
    for name in ("FROM_OUTSIDE", "BEFORE", "JOBRUNNER_JOB"):
        monkeypatch.setenv(name, "é")
    jobs = [app.enqueue("of_environment:changing", {"word": word * 1000}) for word in "abcdef" * 5]
    drain(jobs=2, app_dir=str(folder), imports=["of_environment"], seconds=100)
    for job, word in zip(jobs, "abcdef" * 5, strict=True):
        before, after = job.result()
        assert before == [str(job.id), "1", before[2], "é", "m", "-", "é"]
        assert after == ["mine", "1", before[2], "é", "m", word * 1000, "-"]
    assert len({job.result()[0][2] for job in jobs}) == len(jobs), "each is a worker of its own"


def test_what_runs_code_of_a_module_when_it_is_looked_for_is_left_to_the_workers(
    app: App, drain: Drain, folder: Path
) -> None:
    module = """
import importlib.util, sys
spec = importlib.util.find_spec("when_used")
spec.loader = importlib.util.LazyLoader(spec.loader)
sys.modules["when_used"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["when_used"])
class Declared:
    def __ne__(self, other): raise RuntimeError("compared")
def nothing(): pass
nothing.declared = Declared()
"""
    (folder / "when_used.py").write_text("raise RuntimeError('not to be imported')", "utf-8")
    (folder / "of_others.py").write_text(module, "utf-8")
    failing = [app.enqueue("when_used:nothing") for _ in range(5)]
    jobs = [app.enqueue("of_others:nothing") for _ in range(5)]
    told = drain(jobs=1, app_dir=str(folder), imports=["of_others"]).stderr
    assert "template" not in told
    assert [(job.status, job.details.error_message) for job in failing] == [(Status.FAILED, "not to be imported")] * 5
    assert [job.status for job in jobs] == [Status.SUCCESS] * 5


def test_a_function_that_a_later_module_puts_into_a_task_is_the_one_that_is_called(
    app: App, runner: StartRunner, folder: Path
) -> None:
    (folder / "said.py").write_text(
        "from jobrunner import App\n@App().task\ndef word(): return 'of the module'", "utf-8"
    )
    (folder / "traced.py").write_text(
        "import said\nsaid.word.function = lambda: 'of another'\ndef nothing(): pass", "utf-8"
    )
    runner(jobs=1, app_dir=str(folder), imports=["said"])
    before = [app.enqueue("said:word") for _ in range(5)]
    app.wait(before, timeout=60)
    app.enqueue("traced:nothing").result(timeout=60)  # and the template imports it, too
    until(lambda: app.enqueue("said:word").result(timeout=60) == "of another")
    after = [app.enqueue("said:word") for _ in range(5)]
    app.wait(after, timeout=60)
    assert [job.result() for job in before + after] == ["of the module"] * 5 + ["of another"] * 5


def test_a_child_that_a_module_forks_when_it_is_imported_and_forgets_to_end_has_no_say(
    app: App, runner: StartRunner, folder: Path
) -> None:
    module = """
import os, time
child = os.fork()
def word():
    if child == 0: return "child"
    os.waitpid(child, 0)
    return "job"
"""
    (folder / "forking.py").write_text(module, "utf-8")
    runner(jobs=1, app_dir=str(folder))
    assert app.enqueue("forking:word").result(timeout=60) == "job"


def test_a_module_that_closes_the_standard_streams_when_it_is_imported_costs_no_job_its_end(
    app: App, drain: Drain, folder: Path
) -> None:
    module = """
import os
for number in range(3): os.close(number)
def word():
    os.write(1, b"out")
    return "done"
"""
    (folder / "closing.py").write_text(module, "utf-8")
    jobs = [app.enqueue("closing:word") for _ in range(9)]
    drain(jobs=2, app_dir=str(folder), imports=["closing"])
    assert [(job.result(), job.log()) for job in jobs] == [("done", "out")] * 9


@pytest.mark.parametrize("stream", ["None", "open('/dev/full', 'w'); sys.stdout.write('no room')"])
@pytest.mark.parametrize("imports", [["muted"], []])
def test_a_module_that_replaces_the_output_when_it_is_imported_costs_no_job_its_end(
    app: App, runner: StartRunner, folder: Path, stream: str, imports: list[str]
) -> None:
    (folder / "muted.py").write_text(f"import sys\nsys.stdout = {stream}\ndef word(): return 'done'", "utf-8")
    runner(jobs=1, app_dir=str(folder), imports=imports)
    jobs = [app.enqueue("muted:word") for _ in range(5)]
    assert [one.result(timeout=60) for one in jobs] == ["done"] * 5
    assert {one.details.crashes for one in jobs} == {0}


def test_who_terminates_a_job_is_heeded_whatever_a_module_has_set_that_came_with_an_earlier_one(
    app: App, runner: StartRunner, folder: Path
) -> None:
    module = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def is_default(): return signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
"""
    (folder / "deaf.py").write_text(module, "utf-8")
    runner(jobs=1, app_dir=str(folder))
    app.enqueue("deaf:is_default").result(timeout=60)
    assert app.enqueue("deaf:is_default").result(timeout=60), "as where the module is named to the runner"


def test_what_a_stopped_template_of_a_dead_runner_keeps_alive_is_gone_before_its_job_starts_again(
    app: App, runner: StartRunner, folder: Path
) -> None:
    job = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    first = runner(jobs=1)
    (mark,) = until(lambda: marks(folder))
    template = first.template
    os.kill(template, signal.SIGSTOP)  # it does not hear that its runner is gone, and so ends nothing
    first.kill()
    runner(jobs=1)
    until(lambda: len(marks(folder)) == 2)
    assert not is_alive(mark.pid)
    assert not is_alive(template)
    (folder / "go").touch()
    assert job.result(timeout=60) == "go"
