"""Threads in several processes: how many there are, whose output it is, what the death of one means to its jobs."""

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Invocation, InvocationFailed, Retry, Status, state_backend
from jobrunner.database import Database
from jobrunner.models import Attempt, Process
from jobrunner.runner.multi_thread_runner import ProcessState, ProcessStatus
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import RunnerProcess, is_alive
from tests.helpers.trace import marks, starts
from tests.helpers.waiting import until, until_gone

Job = Invocation[Any]


@pytest.fixture
def threads(runner: StartRunner) -> StartRunner:
    """Starts a runner of threads: `threads(jobs=2, threads=4)`."""

    def start(**settings: Any) -> RunnerProcess:
        return runner(**{"mode": "thread", **settings})

    return start


def table(app: App) -> list[Process]:
    """The processes of threads, as anybody sees them in the file."""
    with Database(app.path, create=True) as database:
        return state_backend.processes(database)


def attempts(app: App, job: Job) -> list[Attempt]:
    with Database(app.path) as database:
        return state_backend.attempts(database, job.id)


def where(app: App, name: str | None = None, **options: Any) -> Job:
    """A job that tells its process and thread; with a name it goes on until there is a file of that name."""
    return app.enqueue("tests.together:where", {"name": name}, **options)


def pids(folder: Path, count: int) -> Counter[int]:
    """The processes of this many jobs, once they run."""
    until(lambda: len(marks(folder)) >= count)
    return Counter(mark.pid for mark in marks(folder))


# How many processes ----------------------------------------------------------------------------------


def test_processes_grow_with_the_work_and_end_when_idle(app: App, threads: StartRunner, folder: Path) -> None:
    running = threads(jobs=4, threads=100, min_processes=1, idle_timeout=0.5)
    until(lambda: [one.state for one in table(app)] == ["idle"])
    (first,) = table(app)
    sleeping = [where(app, "go") for _ in range(400)]
    until(lambda: sum(one.active for one in table(app)) == 400)
    assert [(one.active, one.threads, one.state) for one in table(app)] == [(100, 100, "active")] * 4
    assert sorted(pids(folder, 400)) == sorted(one.pid for one in table(app))
    assert set(pids(folder, 400).values()) == {100}
    (folder / "go").touch()
    app.wait(sleeping, timeout=60)
    until(lambda: len(table(app)) == 1)
    until(lambda: [(one.state, one.active) for one in table(app)] == [("idle", 0)])
    (left,) = table(app)
    assert is_alive(left.pid)
    until(lambda: running.workers == [left.pid])
    assert first.last_update <= left.last_update
    since = time.monotonic()
    until(lambda: time.monotonic() - since > 1.0)
    assert table(app) == [left], "never below the least number, and nothing to tell of it"


def test_all_processes_are_kept_where_that_is_asked_for(app: App, threads: StartRunner) -> None:
    threads(jobs=3, threads=2, enforce_max_processes=True, idle_timeout=0.1)
    until(lambda: len(table(app)) == 3)
    jobs = [where(app) for _ in range(10)]
    app.wait(jobs, timeout=60)
    since = time.monotonic()
    until(lambda: time.monotonic() - since > 0.8)
    assert [one.state for one in table(app)] == ["idle"] * 3


def test_no_process_is_kept_where_the_least_number_is_none(app: App, threads: StartRunner) -> None:
    running = threads(jobs=2, threads=2, min_processes=0, idle_timeout=0.1)
    running.until_ready()
    assert table(app) == []
    app.wait([where(app)], timeout=60)
    until(lambda: not table(app) and not running.workers)


def test_work_fills_a_process_before_another_is_started(app: App, threads: StartRunner, folder: Path) -> None:
    threads(jobs=3, threads=4)
    jobs = [where(app, "go") for _ in range(3)]
    assert len(pids(folder, 3)) == 1
    jobs += [where(app, "go") for _ in range(2)]
    assert sorted(pids(folder, 5).values()) == [1, 4]
    (folder / "go").touch()
    app.wait(jobs, timeout=60)


def test_a_process_is_never_ended_while_it_has_work(app: App, threads: StartRunner, folder: Path) -> None:
    threads(jobs=2, threads=1, idle_timeout=0.1)
    jobs = [where(app, name) for name in ("go", "go on")]
    pids(folder, 2)
    (folder / "go").touch()
    app.wait(jobs[:1], timeout=60)
    busy = next(mark.pid for mark in marks(folder) if mark.id == jobs[1].id)
    until(lambda: [one.pid for one in table(app)] == [busy])
    (folder / "go on").touch()
    assert jobs[1].result(timeout=60)[0] == busy


@pytest.mark.parametrize(
    ("state", "since", "is_idle"),
    [(ProcessState.IDLE, 10.0, True), (ProcessState.IDLE, 60.0, False), (ProcessState.ACTIVE, 10.0, False)],
)
def test_a_process_is_idle_when_it_has_been_so_for_longer_than_the_timeout(
    state: ProcessState, since: float, is_idle: bool
) -> None:
    assert ProcessStatus(since, 0, state).is_idle(100.0, 40.0) is is_idle


def test_a_runner_of_threads_tells_how_many_slots_it_has(app: App, threads: StartRunner) -> None:
    threads(jobs=3, threads=5).until_ready()
    assert rows(app.path, "SELECT mode, slots FROM runners") == [("thread", 15)]


# Whose output ----------------------------------------------------------------------------------------


def test_each_line_lands_with_its_own_job(app: App, threads: StartRunner) -> None:
    words = [f"w{n}" for n in range(16)]
    jobs = [app.enqueue("tests.together:say_in_many_ways", {"word": word, "times": 50}) for word in words]
    threads(jobs=2, threads=8)
    app.wait(jobs, timeout=60)
    for word, job in zip(words, jobs, strict=True):
        out = "".join(piece.data.decode() for piece in job.log_pieces() if piece.stream == "stdout")
        err = "".join(piece.data.decode() for piece in job.log_pieces() if piece.stream == "stderr")
        assert out == "".join(f"print:{word}:{n}\nbytes:{word}:{n}\n" for n in range(50))
        assert err == "".join(f"log:{word}:{n}\nerror:{word}:{n}\n" for n in range(50))


def test_bytes_are_kept_as_they_are(app: App, threads: StartRunner) -> None:
    numbers = [[0xC3], [0xA9], [0xFF, 0x00, 0x80], list(range(256))]
    job = app.enqueue("tests.together:write_bytes", {"numbers": numbers})
    threads(jobs=1, threads=2)
    app.wait([job], timeout=60)
    assert b"".join(piece.data for piece in job.log_pieces()) == b"".join(map(bytes, numbers))


def test_a_very_long_line_is_no_trouble(app: App, threads: StartRunner) -> None:
    job = app.enqueue("tests.together:print_long", {"characters": 9_000_000})
    neighbour = where(app)
    running = threads(jobs=1, threads=2, output_limit=1000)
    app.wait([job, neighbour], timeout=60)
    assert (job.status, neighbour.status) == (Status.SUCCESS, Status.SUCCESS)
    assert "[17,999,001 bytes cut here]".replace(",", "") in job.log()
    assert running.is_running


# Deaths ----------------------------------------------------------------------------------------------


def test_a_killed_process_is_replaced_and_its_jobs_alone_are_done_again(
    app: App, threads: StartRunner, folder: Path
) -> None:
    jobs = [where(app, "go") for _ in range(4)]
    running = threads(jobs=2, threads=2)
    pids(folder, 4)
    victim = marks(folder)[0].pid
    hit = {mark.id for mark in marks(folder) if mark.pid == victim}
    before = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    until(lambda: sum(starts(folder)[one] for one in hit) == 4)
    assert time.monotonic() - before < 10, "at once, the machine's own business aside"
    (folder / "go").touch()
    app.wait(jobs, timeout=60)
    assert starts(folder) == {job.id: 2 if job.id in hit else 1 for job in jobs}
    again = {job.result()[0] for job in jobs if job.id in hit}
    others = {job.result()[0] for job in jobs if job.id not in hit}
    assert victim not in again | others
    assert {job.details.attempts for job in jobs} == {1}, "a crash spends no attempt"
    (first, _) = attempts(app, next(job for job in jobs if job.id in hit))
    assert (first.outcome, first.signal, first.pid) == ("crashed", 9, victim)
    assert running.is_running


def test_a_job_that_ends_the_process_takes_no_neighbour_along_for_good(
    app: App, threads: StartRunner, folder: Path
) -> None:
    neighbours = [where(app, "go") for _ in range(4)]
    killer = app.enqueue("tests.together:exit_with_neighbours", {"neighbours": 4})
    threads(jobs=1, threads=5)
    with pytest.raises(InvocationFailed) as caught:
        killer.result(timeout=60)
    assert caught.value.kind == "WorkerExited"
    (folder / "go").touch()
    app.wait(neighbours, timeout=60)
    assert {job.status for job in neighbours} == {Status.SUCCESS}
    told = {one.error_message for job in neighbours for one in attempts(app, job)[:-1]}
    assert told == {"the process, shared with other jobs, exited with code 7"}
    assert {job.details.crashes for job in neighbours} <= {1, 2}


def test_a_child_that_a_job_forks_and_forgets_tells_nothing(app: App, threads: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.together:fork_and_return")
    threads(jobs=1, threads=2)
    pid = job.result(timeout=60)
    until_gone([mark.pid for mark in marks(folder, "F")])
    other = where(app)
    assert other.result(timeout=60)[0] == pid


# Stopping a thread -----------------------------------------------------------------------------------


def test_a_thread_that_can_be_interrupted_keeps_its_process(app: App, threads: StartRunner, folder: Path) -> None:
    cancelled = app.enqueue("tests.together:polite")
    late = app.enqueue("tests.together:polite", timeout="200ms")
    neighbour = where(app, "go")
    threads(jobs=1, threads=3, kill_grace=3600.0)
    (pid,) = pids(folder, 3)
    cancelled.cancel()
    app.wait([cancelled, late], timeout=60)
    assert (cancelled.status, late.status) == (Status.CANCELLED, Status.FAILED)
    assert late.details.error_message == "ran longer than its timeout of 200 ms"
    assert len(marks(folder, "T")) == 2, "both tidied up"
    (folder / "go").touch()
    assert neighbour.result(timeout=60)[0] == pid
    assert where(app).result(timeout=60)[0] == pid


def test_an_import_is_not_broken_off_for_other_jobs_need_the_module(
    app: App, threads: StartRunner, folder: Path
) -> None:
    cancelled = app.enqueue("tests.awkward.imports_slowly:nothing")
    threads(jobs=1, threads=2, kill_grace=3600.0)
    until((folder / "importing").exists)
    (folder / "importing").unlink()
    cancelled.cancel()
    until(lambda: cancelled.details.cancel_at is not None)
    following = app.enqueue("tests.awkward.imports_slowly:nothing")
    until(lambda: following.status is Status.RUNNING)
    (folder / "import").touch()
    assert following.result(timeout=60) is None
    app.wait([cancelled], timeout=60)
    assert cancelled.status is Status.CANCELLED
    assert not (folder / "importing").exists(), "it was imported once"


def test_a_deaf_thread_costs_its_process_after_its_neighbours_are_done(
    app: App, threads: StartRunner, folder: Path
) -> None:
    deaf = app.enqueue("tests.together:deaf", timeout="200ms")
    neighbours = [where(app, "go") for _ in range(3)]
    threads(jobs=1, threads=5, kill_grace=0.2)
    (pid,) = pids(folder, 4)
    until(lambda: where(app).result(timeout=60)[0] != pid)  # another process takes new work
    assert is_alive(pid)
    assert {deaf.status, *(job.status for job in neighbours)} == {Status.RUNNING}
    (folder / "go").touch()
    app.wait([deaf, *neighbours], timeout=60)
    assert [job.result()[0] for job in neighbours] == [pid] * 3
    assert deaf.details.error_message == "ran longer than its timeout of 200 ms"
    assert attempts(app, deaf)[0].signal == signal.SIGKILL
    assert set(starts(folder).values()) == {1}
    until_gone([pid])


def test_answers_belong_to_their_questions_even_after_an_interruption(
    app: App, threads: StartRunner, folder: Path
) -> None:
    jobs = [app.enqueue("tests.together:ask_while_interrupted") for _ in range(4)]
    threads(jobs=1, threads=4, kill_grace=3600.0)
    pids(folder, 4)
    for job in jobs:
        job.cancel()
    app.wait(jobs, timeout=60)
    assert [job.result() for job in jobs] == [[]] * 4


# Recycling -------------------------------------------------------------------------------------------


def test_a_process_does_so_many_jobs_and_no_more(app: App, threads: StartRunner, folder: Path) -> None:
    jobs = [where(app) for _ in range(20)]
    running = threads(jobs=1, threads=4, max_tasks_per_child=3)
    app.wait(jobs, timeout=60)
    assert max(Counter(job.result()[0] for job in jobs).values()) <= 3
    until(lambda: len(running.workers) == 1)
    assert set(starts(folder).values()) == {1}


def test_a_process_that_has_grown_too_large_is_replaced_when_its_jobs_are_done(
    app: App, threads: StartRunner, folder: Path
) -> None:
    threads(jobs=1, threads=2, max_memory=120 << 20)
    neighbour = where(app, "go")
    (pid,) = pids(folder, 1)
    assert app.enqueue("tests.together:grow", {"megabytes": 150}).result(timeout=60) == pid
    until(lambda: where(app).result(timeout=60)[0] != pid)
    assert is_alive(pid)
    (folder / "go").touch()
    assert neighbour.result(timeout=60)[0] == pid
    until_gone([pid])


# Processes of their own ------------------------------------------------------------------------------


def test_programs_and_jobs_with_a_folder_or_environment_have_a_process_of_their_own(
    app: App, threads: StartRunner, folder: Path
) -> None:
    (folder / "here").mkdir()
    in_thread = where(app)
    job = app.enqueue("tests.together:tell_folder_and_environment", cwd=str(folder / "here"), env={"COLOUR": "red"})
    command = app.enqueue_command("sh", "-c", "pwd; echo $COLOUR $JOBRUNNER_JOB; exit 3", env={"COLOUR": "blue"})
    line = app.enqueue_shell("echo a | tr a b")
    threads(jobs=1, threads=4)
    app.wait([in_thread, job, command, line], timeout=60)
    assert job.result() == [f"{folder}/here", "red", str(job.id)]
    assert command.log() == f"{folder}\nblue {command.id}\n"
    assert (line.log(), attempts(app, command)[0].exit_code) == ("b\n", 3)
    pool = in_thread.result()[0]
    assert pool not in {attempts(app, one)[0].pid for one in (job, command, line)}


def test_a_job_declared_with_retries_is_tried_again_in_a_thread(app: App, threads: StartRunner, folder: Path) -> None:
    job = app.enqueue("tests.tasks:fail_until", {"attempt": 3}, retry=Retry(attempts=5, base="1ms"))
    threads(jobs=1, threads=1)
    assert job.result(timeout=60) == 3
    assert len(pids(folder, 3)) == 1


# Tasks -----------------------------------------------------------------------------------------------


def test_a_task_that_a_job_has_replaced_is_done_as_it_is_now(app: App, threads: StartRunner, folder: Path) -> None:
    text = "def told():\n    return 1\n\n\ndef replace():\n    global told\n    told = lambda: 2\n"
    (folder / "changing.py").write_text(text)
    names = ("told", "told", "replace", "told")
    jobs = [app.enqueue(f"changing:{name}") for name in names]
    threads(jobs=1, threads=1, app_dir=str(folder), drain=True).wait()
    assert [job.result() for job in jobs] == [1, 1, None, 2]
