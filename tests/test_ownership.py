"""Who owns a job is a fact of the kernel: runners that hang, are taken over from, told to stop, or taken for others."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Status, state_backend
from jobrunner.database import Database
from jobrunner.models import RunnerId
from jobrunner.ownership import RunnerLocks
from jobrunner.runner.rescue import rescue
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import ROOT, RunnerProcess, environment, is_alive
from tests.helpers.trace import marks, starts
from tests.helpers.waiting import until, until_gone


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A stranger: it has nothing to do with any runner."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def hold(app: App, runner: StartRunner, folder: Path, **settings: Any) -> tuple[RunnerProcess, int]:
    """A runner that has a job which waits for the file `go`; and the pid of its worker."""
    app.enqueue("tests.tasks:wait_for_file_at_first", {"name": "go"})
    first = runner(jobs=1, **settings)
    until(lambda: marks(folder))
    return first, marks(folder)[0].pid


def insert_runner(path: Path, pid: int, boot_id: str = "this") -> None:
    """Row 1 of a runner whose byte nobody holds, with job 1 in its hands."""
    rows(
        path,
        "INSERT INTO jr_runner(mode, slots, queues, host, pid, boot_id, token, version, started_at, heartbeat_at)"
        " VALUES ('process', 1, '[]', 'here', ?, ?, hex(randomblob(16)), '0', 1, 1)",
        pid,
        boot_id,
    )
    rows(
        path,
        "UPDATE jr_invocation SET status = 'running', claim = 1, attempt = 1, crashes = 1, runner = 1, started_at = 1"
        " WHERE id = 1",
    )


# What can be seen ------------------------------------------------------------------------------------


def test_a_runner_that_works_is_live_and_one_that_is_stopped_is_stalled(
    app: App, runner: StartRunner, folder: Path, cli: Cli
) -> None:
    first, _ = hold(app, runner, folder)
    listed = cli.json("runner", "list")
    assert (listed["is"], listed["note"], listed["stale"]) == ("live", None, 0)
    os.kill(first.pid, signal.SIGSTOP)
    listed = cli.json("runner", "list")
    assert (listed["is"], listed["note"]) == ("stalled", "its process is stopped")
    sentence = "runner 1 does not answer (its process is stopped): `jobrunner runner stop 1 --kill`"
    assert sentence in cli.ok("show", "1")
    assert cli.json("status")["runners"][0]["stalled"] is True
    assert sentence in cli.at_terminal("status", columns=200)
    os.kill(first.pid, signal.SIGCONT)
    assert cli.json("runner", "list")["is"] == "live"


def test_an_idle_runner_is_live_and_writes_nothing_for_it(app: App, runner: StartRunner, path: Path, cli: Cli) -> None:
    assert app.counts()[Status.PENDING] == 0
    runner(jobs=1).until_ready()
    until(lambda: rows(path, "SELECT count(*) FROM jr_clock") == [(1,)])  # its first turn writes what the clock shows
    before = (path.read_bytes(), Path(f"{path}-wal").read_bytes())
    assert cli.json("runner", "list")["is"] == "live"
    assert (path.read_bytes(), Path(f"{path}-wal").read_bytes()) == before


def test_a_runner_that_died_is_listed_as_dead(app: App, runner: StartRunner, folder: Path, cli: Cli) -> None:
    first, _ = hold(app, runner, folder)
    first.kill()
    first.wait()
    assert cli.json("runner", "list")["is"] == "dead"


# Stopping --------------------------------------------------------------------------------------------


def test_a_runner_is_told_to_stop_and_its_row_says_that_it_did(
    app: App, runner: StartRunner, folder: Path, cli: Cli
) -> None:
    first, _ = hold(app, runner, folder)
    other = runner(jobs=1)
    other.until_ready()
    assert "runner 1 has stopped: stopped by a signal" in cli("runner", "stop", "1").stderr
    assert first.wait() == 0
    assert other.is_running
    again = cli("runner", "stop", "1")
    assert (again.returncode, "has stopped: stopped by a signal" in again.stderr) == (0, True)


def test_a_stopped_runner_hears_of_its_end_when_it_goes_on(
    app: App, runner: StartRunner, folder: Path, cli: Cli
) -> None:
    first, _ = hold(app, runner, folder)
    os.kill(first.pid, signal.SIGSTOP)
    cli.ok("runner", "stop", "1")
    assert first.wait() == 0
    job = app.invocation(1)
    assert (job.status, job.details.attempts, job.details.crashes) == (Status.PENDING, 0, 0)
    assert "job 1: pending, its runner was stopped" in cli.ok("show", "1")


def test_what_is_not_to_be_tried_after_a_crash_fails_with_its_runner_and_says_why(
    app: App, runner: StartRunner, cli: Cli
) -> None:
    job = app.enqueue_command("sleep", "1000", on_crash="fail")
    runner(jobs=1)
    until(lambda: job.status is Status.RUNNING)
    cli.ok("runner", "stop", "1", "--kill")
    why = "the runner was killed by `jobrunner runner stop --kill`; it is not to be tried after a crash"
    assert (job.status, job.details.reason) == (Status.FAILED, why)
    assert cli.ok("show", str(job.id)).count(why) >= 2, "at its head and in its history"


def test_a_runner_whose_jobs_take_long_does_not_stop_in_time(
    app: App, runner: StartRunner, folder: Path, cli: Cli
) -> None:
    first, _ = hold(app, runner, folder, shutdown_timeout=1000)
    done = cli("runner", "stop", "1", "--timeout", "300ms")
    assert done.returncode == 124
    assert f"runner 1 (process {first.pid}) has not stopped within 0.3 s" in done.stderr
    assert "`jobrunner runner stop 1 --kill` ends it at once" in done.stderr
    cli.ok("runner", "stop", "1", "--kill")


def test_whoever_waits_for_a_runner_to_stop_may_leave_with_ctrl_c(
    app: App, runner: StartRunner, folder: Path, cli: Cli
) -> None:
    first, _ = hold(app, runner, folder, shutdown_timeout=1000)
    with cli.start("runner", "stop", "1") as waiting:
        until(lambda: "stopping: 1 jobs have 1000 s to finish" in first.stderr)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=60)
    assert (waiting.returncode, "Traceback" in said) == (130, False)
    (folder / "go").touch()
    assert first.wait() == 0
    assert app.invocation(1).result() == "1"


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_killed_runner_leaves_nothing_and_its_jobs_are_given_back_at_once(
    app: App, runner: StartRunner, folder: Path, cli: Cli, is_stopped: bool
) -> None:
    first, worker = hold(app, runner, folder)
    everybody = [first.pid, first.template, worker]
    if is_stopped:
        os.kill(first.pid, signal.SIGSTOP)
    told = cli.json("runner", "stop", "1", "--kill")
    assert told == {"runner": 1, "stop_reason": "killed by `jobrunner runner stop --kill`", "jobs_given_back": 1}
    assert first.wait() == -signal.SIGKILL
    until_gone(everybody[1:], seconds=0)
    job = app.invocation(1)
    assert job.status is Status.PENDING
    assert job.details.reason == ("the runner was killed by `jobrunner runner stop --kill`; crash 1 of 3, so once more")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["9"], 4, "there is no runner 9"),
        (["9" * 25], 4, "there is no runner 9999"),
        (["three"], 2, "'three' is not the number of a runner"),
        (["-1"], 2, ""),
        ([], 2, "which runner?"),
        (["1", "2"], 2, "which runner?"),
    ],
)
def test_what_is_no_runner_is_told_so(app: App, cli: Cli, words: list[str], code: int, sentence: str) -> None:
    app.enqueue("tests.tasks:touch")
    done = cli("runner", "stop", *words)
    assert done.returncode == code
    assert sentence in done.stderr


# Taking over -----------------------------------------------------------------------------------------


def test_a_runner_that_was_stopped_for_5_s_keeps_its_job_and_its_late_outcome_counts(
    app: App, runner: StartRunner, folder: Path
) -> None:
    first, _ = hold(app, runner, folder)
    os.kill(first.pid, signal.SIGSTOP)
    second = runner(jobs=1)
    until(lambda: "runner 1 does not answer (its process is stopped), and keeps its jobs" in second.stderr)
    (folder / "go").touch()
    more = [app.enqueue("tests.tasks:wait", {"seconds": 3}), app.enqueue("tests.tasks:touch")]
    app.wait(more, timeout=60)
    assert app.invocation(1).status is Status.RUNNING
    os.kill(first.pid, signal.SIGCONT)
    app.wait([1], timeout=60)
    assert (app.invocation(1).status, starts(folder)[1]) == (Status.SUCCESS, 1)
    assert rows(app.path, "SELECT id, stale FROM runners ORDER BY id") == [(1, 0), (2, 0)]
    assert second.stderr.count("does not answer") == 1


def test_a_runner_that_hangs_is_dead_before_its_job_is_started_again(
    app: App, runner: StartRunner, folder: Path
) -> None:
    first, worker = hold(app, runner, folder)
    os.kill(first.pid, signal.SIGSTOP)
    (folder / "look").write_text(f"{first.pid} {worker}")
    second = runner(jobs=1, takeover_after=1)
    app.wait([1], timeout=60)
    assert first.wait() == -signal.SIGKILL
    assert [(mark.claim, mark.pid == worker) for mark in marks(folder)] == [(1, True), (2, False)]
    assert app.invocation(1).result() == "gone gone", "runner and worker, as the second attempt saw them"
    (reason,) = rows(app.path, "SELECT stop_reason FROM runners WHERE id = 1")[0]
    assert reason.startswith("killed by runner 2, since it had hung for ")
    told = rows(app.path, "SELECT reason FROM history WHERE job = 1 AND to_status = 'pending' AND reason IS NOT NULL")
    assert told == [(f"the runner was {reason}; crash 1 of 3, so once more",)]
    assert "runner 1 had died" in second.stderr


def test_a_runner_that_hangs_in_one_call_is_stalled_and_taken_over_from(
    app: App, runner: StartRunner, folder: Path, cli: Cli
) -> None:
    app.enqueue("tests.tasks:touch")
    theirs, full = os.pipe()
    os.set_blocking(full, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(full, b"x" * 512):
            pass
    os.set_blocking(full, True)  # whoever logs there hangs until somebody reads
    program = [sys.executable, "-W", "error", "-m", "tests.helpers.start_runner", "{}"]
    with subprocess.Popen(program, cwd=folder, env=environment(folder), stdout=full, stderr=full) as first:
        until(lambda: rows(app.path, "SELECT id FROM runners"))
        until(lambda: cli.json("runner", "list")["is"] == "stalled")
        assert cli.json("runner", "list")["note"] == "its loop does not turn"
        runner(jobs=1, takeover_after=1)
        assert first.wait(60) == -signal.SIGKILL
    app.wait([1], timeout=60)
    os.close(theirs)
    os.close(full)


def test_a_busy_runner_and_an_idle_one_are_never_taken_for_hanging(app: App, runner: StartRunner, folder: Path) -> None:
    runner(jobs=1, takeover_after=1).until_ready()
    second = runner(jobs=1, takeover_after=1)
    second.until_ready()
    busy = [app.enqueue_shell("while [ ! -e go ]; do :; done", cwd=str(folder)) for _ in range(2)]
    until(lambda: all(job.status is Status.RUNNING for job in busy))
    app.enqueue_shell("sleep 4; touch go", cwd=str(folder))
    with pytest.raises(TimeoutError):
        app.wait(busy, timeout=4)
    (folder / "go").touch()
    app.wait(busy, timeout=60)
    assert "does not answer" not in second.stderr
    assert rows(app.path, "SELECT count(*) FROM runners WHERE stopped_at IS NULL") == [(2,)]


def test_a_takeover_in_less_than_a_second_is_refused(cli: Cli) -> None:
    done = cli("run", "--takeover-after", "500ms")
    assert done.returncode == 2
    assert "takeover_after must be at least 1 s" in done.stderr


# The fence -------------------------------------------------------------------------------------------


def test_an_outcome_that_comes_after_its_claim_was_moved_on_is_counted_and_changes_nothing(
    app: App, runner: StartRunner, folder: Path, cli: Cli
) -> None:
    first, _ = hold(app, runner, folder)
    rows(app.path, "UPDATE jr_invocation SET claim = 2 WHERE id = 1")
    (folder / "go").touch()
    until(lambda: rows(app.path, "SELECT stale FROM runners") == [(1,)])
    assert rows(app.path, "SELECT status, claim FROM jr_invocation WHERE id = 1") == [("running", 2)]
    assert rows(app.path, "SELECT count(*) FROM jr_attempt") == [(0,)]
    assert rows(app.path, "SELECT count(*) FROM jr_result") == [(0,)]
    assert cli.json("runner", "list")["stale"] == 1
    assert "job 1 claim 1: its outcome came too late and was not recorded" in first.stderr


def test_an_attempt_that_was_given_up_enqueues_nothing(app: App, runner: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.tasks:enqueue_when_told", {"name": "go"})
    runner(jobs=1)
    until(lambda: marks(folder))
    rows(app.path, "UPDATE jr_invocation SET claim = 2 WHERE id = 1")
    (folder / "go").touch()
    until((folder / "said").exists)
    assert (folder / "said").read_text() == f"job {job.id} does not run any more"
    assert rows(app.path, "SELECT count(*) FROM jr_invocation") == [(1,)]


# Strangers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boot_id", ["this", "another"])
def test_a_dead_runner_whose_pid_is_a_stranger_s_is_rescued_and_the_stranger_gets_no_signal(
    app: App, runner: StartRunner, path: Path, sleeper: subprocess.Popen[bytes], boot_id: str, folder: Path
) -> None:
    job = app.enqueue("tests.tasks:touch")
    insert_runner(path, sleeper.pid, boot_id)
    runner(jobs=1, takeover_after=1)
    job.result(timeout=60)
    assert rows(path, "SELECT stop_reason FROM runners WHERE id = 1") == [("died",)]
    assert sleeper.poll() is None
    assert rows(path, "SELECT claim FROM jr_invocation") == [(2,)]


def test_a_runner_that_stops_while_another_looks_for_the_dead_is_none_of_them(runner: StartRunner, path: Path) -> None:
    running = runner(jobs=1)
    running.until_ready()
    with Database(path) as database:
        (seen,) = state_backend.runners(database)
        running.stop()
        said = rows(path, "SELECT stopped_at, stop_reason FROM jr_runner")
        with RunnerLocks(path) as locks:
            assert locks.take(seen.id)
            assert rescue(database, locks, seen) is None
    assert rows(path, "SELECT stopped_at, stop_reason FROM jr_runner") == said


@pytest.mark.parametrize("words", [[], ["--kill"]])
def test_stopping_a_dead_runner_rescues_it_and_signals_no_stranger(
    app: App, path: Path, sleeper: subprocess.Popen[bytes], cli: Cli, words: list[str]
) -> None:
    job = app.enqueue("tests.tasks:touch")
    insert_runner(path, sleeper.pid)
    assert cli.json("runner", "list")["is"] == "dead"
    assert "runner 1 has stopped: died; its jobs were given back: 1" in cli("runner", "stop", "1", *words).stderr
    assert job.status is Status.PENDING
    assert sleeper.poll() is None


def test_a_byte_that_another_process_than_the_row_s_holds_brings_a_stranger_no_signal(
    app: App, path: Path, sleeper: subprocess.Popen[bytes], cli: Cli
) -> None:
    app.enqueue("tests.tasks:touch")
    insert_runner(path, sleeper.pid)
    with RunnerLocks(path) as locks:
        assert locks.take(RunnerId(1))  # as one that rescues it does
        assert cli("runner", "stop", "1", "--kill", "--timeout", "300ms").returncode == 124
    assert sleeper.poll() is None


@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="needs unshare, and root")
def test_a_runner_in_another_pid_namespace_is_left_alone(
    app: App, runner: StartRunner, folder: Path, path: Path, cli: Cli
) -> None:
    job = app.enqueue("tests.tasks:wait_for_file_at_first", {"name": "go"})
    program = [sys.executable, "-W", "error", "-m", "tests.helpers.start_runner", '{"jobs": 1}']
    with subprocess.Popen(
        ["unshare", "-fp", "--mount-proc", "--kill-child", *program],
        cwd=folder,
        env=environment(folder),
        stderr=subprocess.DEVNULL,
    ) as inside:
        until(lambda: marks(folder))
        second = runner(jobs=1, takeover_after=1)
        second.until_ready()
        app.enqueue("tests.tasks:touch").result(timeout=60)
        listed = next(one for one in cli.json("runner", "list") if one["runner"] == 1)
        assert (listed["is"], "another pid namespace" in listed["note"]) == ("live", True)
        for words in ([], ["--kill"]):
            done = cli("runner", "stop", "1", *words)
            assert (done.returncode, "runs in another pid namespace" in done.stderr) == (1, True)
        from_inside = ["unshare", "-fp", "--mount-proc", *cli.command("runner", "stop", "2", "--kill")]
        done = subprocess.run(from_inside, cwd=ROOT, env=cli.environment, capture_output=True, text=True, check=False)
        assert (done.returncode, "runs in another pid namespace" in done.stderr) == (1, True)
        assert second.is_running
        (folder / "go").touch()
        assert job.result(timeout=60) == "1"
        assert starts(folder)[job.id] == 1
        inside.kill()
    until(lambda: rows(path, "SELECT stop_reason FROM runners WHERE id = 1") == [("died",)])
    assert is_alive(second.pid)
