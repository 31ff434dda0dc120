"""What was claimed ahead in processes of threads: never more at work than there are slots, and none is held up."""

import mmap
from pathlib import Path

import pytest

from jobrunner import App, InvocationFailed, Status
from tests.ahead_tasks import count_at_most_once, count_at_work, hang_in_c, kill_process, nothing
from tests.conftest import StartRunner

READY = {"mode": "thread", "imports": ["tests.ahead_tasks"]}
"""Settings of a runner of threads whose processes have nothing to import."""


def test_what_has_to_go_behind_a_long_job_comes_back_each_time(app: App, runner: StartRunner, folder: Path) -> None:
    long = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    short = nothing.enqueue_many({} for _ in range(2000))
    runner(**READY, jobs=2, threads=1, max_tasks_per_child=50)
    app.wait(short, timeout=60)
    (folder / "go").touch()
    app.wait([long], timeout=30)


@pytest.mark.parametrize("threads", [1, 4])
def test_programs_are_not_begun_before_they_have_a_slot(
    app: App, runner: StartRunner, folder: Path, threads: int
) -> None:
    (folder / "working").mkdir()
    count = "touch $0/$JOBRUNNER_JOB; sleep 0.1; ls $0 | wc -l; rm $0/$JOBRUNNER_JOB"
    before = nothing.enqueue_many({} for _ in range(1000))
    counts = count_at_work.enqueue_many({} for _ in range(100))
    programs = [app.enqueue_command("sh", "-c", count, str(folder / "working")) for _ in range(20)]
    counts += count_at_work.enqueue_many({} for _ in range(500))
    runner(**READY, jobs=1, threads=threads)
    app.wait([*before, *counts, *programs], timeout=60)
    assert max(int(one.log()) for one in programs) <= threads
    assert max(one.result() for one in counts) <= threads
    assert {one.details.attempts for one in (*counts, *programs)} == {1}


def test_a_process_that_has_had_enough_is_replaced_when_its_last_job_is_over(app: App, runner: StartRunner) -> None:
    before = nothing.enqueue_many({} for _ in range(1000))
    counts = count_at_work.enqueue_many({} for _ in range(1000))
    runner(**READY, jobs=1, threads=1, max_tasks_per_child=20)
    app.wait([*before, *counts], timeout=60)
    assert {one.result() for one in counts} == {1}


def test_what_new_code_does_waits_for_the_slots_of_the_old(app: App, runner: StartRunner) -> None:
    counts = count_at_work.enqueue_many({} for _ in range(3000))
    running = runner(**READY, jobs=1, threads=1)
    for last in counts[500::1000]:
        last.result(timeout=60)
        running.hang_up()
    app.wait(counts, timeout=60)
    assert {one.result() for one in counts} == {1}


def test_what_is_to_be_done_at_most_once_is_so_though_the_next_one_ends_the_process(
    app: App, runner: StartRunner, folder: Path
) -> None:
    before = nothing.enqueue_many({} for _ in range(1000))
    (folder / "counts").write_bytes(bytes(mmap.PAGESIZE))
    jobs = [*count_at_most_once.enqueue_many({"n": n} for n in range(20)), kill_process.enqueue()]
    runner(**READY, jobs=1, threads=1)
    app.wait([*before, *jobs], timeout=60)
    assert max((folder / "counts").read_bytes()) == 1


def test_what_waits_behind_a_job_that_lets_no_other_run_is_done_when_that_is_killed(
    app: App, runner: StartRunner
) -> None:
    before = nothing.enqueue_many({} for _ in range(1000))
    hung = hang_in_c.options(timeout="1s").enqueue()
    behind = nothing.enqueue_many({} for _ in range(100))
    runner(**READY, jobs=1, threads=1, kill_grace=0.5)
    app.wait([*before, hung, *behind], timeout=60)
    assert {one.status for one in behind} == {Status.SUCCESS}
    with pytest.raises(InvocationFailed, match="ran longer than its timeout"):
        hung.result()
