"""A disk that is full, and has room again: everything is recorded, and every job was done once."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import App, JobRunnerError
from jobrunner.database import Database
from jobrunner.errors import DatabaseBroken, NotWritten
from tests.cli_helpers import Cli
from tests.helpers.command_runner import CommandRunner
from tests.helpers.disks import failing_syncs, fill, resize, small_disk
from tests.helpers.files import rows
from tests.helpers.runners import RUNNERS
from tests.helpers.trace import marks, starts
from tests.helpers.waiting import until

TOLD = "0 bytes are free there. What jobs deliver is kept, and no others are started until there is room"
AGAIN = "can be written again"


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    with small_disk(folder, 3072) as place:
        yield place


@pytest.fixture
def path(disk: Path) -> Path:
    return disk / "jobs.db"


def let_go(folder: Path, name: str = "go") -> None:
    (folder / name).touch()


def healthy(path: Path, folder: Path, ids: list[int]) -> None:
    """Every job went well, was started once, and left nothing half-written."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert dict(rows(path, "SELECT id, status FROM jobs")) == dict.fromkeys(ids, "success")
    assert starts(folder) == Counter(ids)
    assert rows(path, "SELECT count(*) FROM jr_attempt") == [(len(ids),)]


@pytest.mark.parametrize("mode", RUNNERS)
@pytest.mark.parametrize("way", ["the filler is deleted", "the disk is made larger"])
def test_outcomes_are_kept_while_the_disk_is_full(app: App, folder: Path, path: Path, mode: str, way: str) -> None:
    jobs = [app.enqueue("tests.file_tasks:say_when_let", {"name": "go", "kilobytes": 100}) for _ in range(4)]
    with CommandRunner(folder, path, "-j", "2", "--threads", "1", "--mode", mode, "--min-free", "0") as runner:
        until(lambda: len(marks(folder)) == 2)
        filler = fill(path.parent)
        let_go(folder)
        runner.says(TOLD)
        until(lambda: len(marks(folder, "E")) == 2)
        assert runner.stderr.count(TOLD) == 1
        assert len(marks(folder)) == 2, "nothing more is started"
        if way == "the filler is deleted":
            filler.unlink()
        else:
            resize(path.parent, 8192)
        runner.says(AGAIN)
        assert [job.result(timeout=60) for job in jobs] == [102400] * 4
        runner.process.terminate()
        runner.ends(0)
    healthy(path, folder, [job.id for job in jobs])
    assert {len(job.log()) for job in jobs} == {102400}


def test_what_jobs_ask_for_on_a_full_disk_is_done_once(app: App, folder: Path, path: Path) -> None:
    """Enqueues wait for room and are made once; the cache needs no disk, and counts each call once."""
    job = app.enqueue("tests.file_tasks:enqueue_and_count", {"name": "go", "children": 20})
    with CommandRunner(folder, path, "-j", "2", "--min-free", "0") as runner:
        until(lambda: marks(folder))
        filler = fill(path.parent)
        let_go(folder)
        until((folder / "counted").exists)
        runner.says(TOLD)
        filler.unlink()
        assert job.result(timeout=60) == [20, 1]
        until(lambda: rows(path, "SELECT count(*) FROM jobs WHERE status = 'success'") == [(21,)])
        runner.process.terminate()
        runner.ends(0)
    healthy(path, folder, list(range(1, 22)))


def test_a_wait_that_begins_on_a_full_disk_ends_as_any_other(app: App, folder: Path, path: Path) -> None:
    awaited = app.enqueue("tests.file_tasks:say_when_let", {"name": "go", "kilobytes": 0})
    waiter = app.enqueue("tests.file_tasks:wait_when_let", {"name": "wait", "job": awaited.id})
    with CommandRunner(folder, path, "-j", "2", "--min-free", "0") as runner:
        until(lambda: len(marks(folder)) == 2)
        filler = fill(path.parent)
        let_go(folder, "wait")
        let_go(folder)
        runner.says(TOLD)
        filler.unlink()
        assert waiter.result(timeout=60) == 0
        runner.process.terminate()
        runner.ends(0)
    healthy(path, folder, [awaited.id, waiter.id])


def test_a_runner_that_is_stopped_on_a_full_disk_tells_what_is_lost(app: App, folder: Path, path: Path) -> None:
    jobs = [app.enqueue("tests.file_tasks:say_when_let", {"name": "go", "kilobytes": 1}) for _ in range(2)]
    with CommandRunner(folder, path, "-j", "2", "--min-free", "0", "--shutdown-timeout", "1s") as runner:
        until(lambda: len(marks(folder)) == 2)
        filler = fill(path.parent)
        let_go(folder)
        runner.says(TOLD)
        until(lambda: len(marks(folder, "E")) == 2)
        runner.process.send_signal(signal.SIGTERM)
        runner.ends(74, "the outcomes of 2 jobs are not recorded")
    filler.unlink()
    with CommandRunner(folder, path, "--drain", "--min-free", "0") as runner:
        runner.ends(0)
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert {job.status.value for job in jobs} == {"success"}
    assert set(starts(folder).values()) == {2}, "at least once: what was not recorded is done again"


def test_a_runner_that_is_stopped_records_what_it_can_when_there_is_room_in_time(
    app: App, folder: Path, path: Path
) -> None:
    job = app.enqueue("tests.file_tasks:say_when_let", {"name": "go", "kilobytes": 1})
    with CommandRunner(folder, path, "-j", "1", "--min-free", "0") as runner:
        until(lambda: marks(folder))
        filler = fill(path.parent)
        let_go(folder)
        runner.says(TOLD)
        runner.process.terminate()
        runner.says("stopping")
        filler.unlink()
        runner.ends(0)
    healthy(path, folder, [job.id])


def test_a_disk_that_fails_for_a_while_is_waited_out(app: App, folder: Path, path: Path) -> None:
    job = app.enqueue("tests.file_tasks:say_when_let", {"name": "go", "kilobytes": 1})
    with CommandRunner(folder, path, "-j", "1", "--min-free", "0") as runner:
        until(lambda: marks(folder))
        with failing_syncs(runner.process.pid):
            let_go(folder)
            runner.says("cannot be read or written: disk I/O error")
            until(lambda: marks(folder, "E"))
            assert rows(path, "SELECT status FROM jobs") == [("running",)]
        runner.says(AGAIN)
        assert job.result(timeout=60) == 1024
        runner.process.terminate()
        runner.ends(0)
    healthy(path, folder, [job.id])


def test_an_outbox_elsewhere_is_drained_when_there_is_room_again(app: App, folder: Path, path: Path) -> None:
    first = app.enqueue("tests.tasks:length", {"text": "x"})
    shop = folder / "shop.db"
    Cli(folder).ok("init", "shop.db", "--outbox")
    with CommandRunner(folder, path, "--outbox", str(shop), "--min-free", "0") as runner:
        until(lambda: rows(path, "SELECT status FROM jobs") == [("success",)])
        filler = fill(path.parent)
        job = json.dumps({"task": "tests.tasks:length", "args": {"text": 300_000 * "x"}})
        rows(shop, "INSERT INTO jr_outbox(job) VALUES (?)", job)
        runner.says(TOLD)
        filler.unlink()
        runner.says(AGAIN)
        done = [(first.id, "1"), (first.id + 1, "300000")]
        until(lambda: rows(path, "SELECT id, result FROM jobs WHERE status = 'success'") == done)
        assert rows(shop, "SELECT count(*) FROM jr_outbox") == [(0,)]
        runner.process.terminate()
        runner.ends(0)


def test_little_room_is_left_to_outcomes(app: App, folder: Path, path: Path) -> None:
    with CommandRunner(folder, path, "--min-free", str(2 << 20)) as runner:
        app.enqueue("tests.file_tasks:say_when_let", {"name": "go", "kilobytes": 1})
        let_go(folder)
        until(lambda: marks(folder, "E"))
        resize(path.parent, 2048)
        runner.says("no job is started until there are 2,097,152 (--min-free)")
        second = app.enqueue("tests.file_tasks:say_when_let", {"name": "go", "kilobytes": 1})
        runner.process.terminate()
        runner.ends(0)
    assert second.status.value == "pending"
    with CommandRunner(folder, path, "--min-free", str(2 << 20)) as runner:
        runner.says("no job is started until")
        resize(path.parent, 8192)
        runner.says("jobs are started again")
        assert second.result(timeout=60) == 1024
        runner.process.terminate()
        runner.ends(0)


def test_an_enqueue_on_a_full_disk_is_refused_and_leaves_nothing(app: App, path: Path) -> None:
    app.enqueue("tests.tasks:touch")
    filler = fill(path.parent)
    with pytest.raises(NotWritten, match="full") as refused:
        app.enqueue("tests.tasks:length", {"text": "x" * 500_000})
    assert refused.value.exit_code == DatabaseBroken.exit_code == 74
    filler.unlink()
    assert rows(path, "SELECT task FROM jobs") == [("tests.tasks:touch",)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_database_that_finds_no_room_is_not_half_made(disk: Path) -> None:
    filler = fill(disk)
    with pytest.raises(JobRunnerError, match="full"):
        Database(disk / "new.db", create=True)
    filler.unlink()
    with Database(disk / "new.db", create=True) as database:
        assert database.query("identity")[0][3] == "wal"
