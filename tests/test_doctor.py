"""`jobrunner doctor` finds what is wrong, says what to do, and mends what can be mended."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Status
from jobrunner.database import Database
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.trace import marks
from tests.helpers.waiting import until

HOUR = 3_600_000


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


def examine(cli: Cli, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and what is not ok."""
    done = cli("--json", "doctor", *words)
    assert "Traceback" not in done.stderr, done.stderr
    found: Any = cli.parse(done.stdout)
    return done.returncode, [one for one in found if one["level"] != "ok"]


def test_where_nothing_is_wrong_all_is_ok_and_nothing_is_written(
    app: App, runner: StartRunner, path: Path, cli: Cli
) -> None:
    assert app.enqueue("tests.tasks:square", {"n": 2}).id == 1
    runner(jobs=1)
    assert app.invocation(1).result(timeout=60) == 4
    before = rows(path, "PRAGMA data_version")
    assert examine(cli) == (0, [])
    assert rows(path, "PRAGMA data_version") == before
    lines = cli.ok("doctor").splitlines()
    assert {line.split("\t")[0] for line in lines} == {"ok"}
    checks = ["integrity", "schema", "runners", "orphans", "queues", "tasks", "schedules", "stale", "clock", "room"]
    assert [line.split("\t")[1] for line in lines] == checks


def test_a_dead_runner_is_told_and_rescued(app: App, runner: StartRunner, folder: Path, path: Path, cli: Cli) -> None:
    job = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    running = runner(jobs=1)
    until(lambda: marks(folder))
    running.kill()
    running.wait()
    code, (found,) = examine(cli)
    assert (code, found["check"], found["level"]) == (1, "runners", "fault")
    assert "runner 1 has died, and nobody has taken over its jobs" in found["text"]
    code, left = examine(cli, "--fix")
    assert (code, [one["check"] for one in left]) == (0, ["queues"])
    assert job.status is Status.PENDING


def test_a_runner_that_does_not_answer_is_a_warning(app: App, runner: StartRunner, cli: Cli) -> None:
    running = runner(jobs=1)
    running.until_ready()
    os.kill(running.pid, signal.SIGSTOP)
    try:
        code, (found,) = examine(cli)
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert (code, found["level"]) == (0, "warning")
    assert "`jobrunner runner stop 1 --kill`" in found["text"]


def test_jobs_of_a_runner_that_has_stopped_are_given_back(cli: Cli, path: Path) -> None:
    cli.enqueue("--", "true")
    rows(
        path,
        "UPDATE jr_invocation SET status = 'running', claim = 1, attempt = 1, crashes = 1, runner = 9, started_at = 1",
    )
    code, (found,) = examine(cli)
    assert (code, found["check"]) == (1, "orphans")
    assert "1 jobs are said to run, but runner 9 has stopped" in found["text"]
    assert examine(cli, "--fix")[0] == 0
    assert rows(path, "SELECT status FROM jobs") == [("pending",)]
    assert "its runner had stopped without it" in cli.ok("show", "1")


def test_rows_that_contradict_each_other_are_put_right(cli: Cli, path: Path) -> None:
    for _ in range(3):
        cli.enqueue("--", "true")
    rows(path, "INSERT INTO jr_edge VALUES (1, 2)")
    rows(path, "UPDATE jr_invocation SET waiters = 7 WHERE id = 3")
    rows(
        path,
        "UPDATE jr_invocation SET status = 'running', claim = 1, attempt = 1, runner = 1, started_at = 1 WHERE id = 1",
    )
    rows(path, "UPDATE jr_invocation SET status = 'killed' WHERE id = 1")
    code, found = examine(cli)
    assert (code, {one["check"] for one in found if one["level"] == "fault"}) == (1, {"orphans"})
    assert len([one for one in found if one["level"] == "fault"]) == 3
    assert examine(cli, "--fix")[0] == 0
    assert rows(path, "SELECT status, waiters FROM jr_invocation") == [("pending", 0)] * 3
    assert rows(path, "SELECT * FROM jr_edge") == []


def test_queues_without_a_runner_and_tasks_that_are_not_found_are_warnings(cli: Cli) -> None:
    cli.enqueue("nowhere.tasks:f")
    cli.drain()
    cli.enqueue("-Q", "mail", "--", "true")
    code, found = examine(cli)
    assert (code, [one["check"] for one in found]) == (0, ["queues", "tasks"])
    assert "1 jobs are pending in the queue 'mail', and no runner serves it" in found[0]["text"]
    assert "1 jobs of nowhere.tasks:f wait: no runner knows its task: " in found[1]["text"]


def test_stale_outcomes_and_a_clock_that_was_set_back_are_warnings(cli: Cli, path: Path) -> None:
    cli.enqueue("--", "true")
    cli.drain()
    rows(path, "UPDATE jr_runner SET stale = 2")
    rows(path, f"UPDATE jr_invocation SET created_at = created_at + {5 * HOUR}")
    code, found = examine(cli)
    assert (code, [one["check"] for one in found]) == (0, ["stale", "clock"])
    assert found[0]["text"].startswith("2 outcomes came too late")
    assert found[1]["text"].startswith("1 jobs have times up to 4 h 59 min ahead")


def test_a_schema_that_somebody_changed_is_a_fault(cli: Cli, path: Path) -> None:
    cli.enqueue("--", "true")
    rows(path, "DROP INDEX jr_pending")
    rows(path, "DROP VIEW queues")
    rows(path, "CREATE VIEW queues AS SELECT 1 AS queue, 0 AS pending, 0, 0, 0, 0")
    code, found = examine(cli)
    assert code == 1
    assert {one["text"].partition(":")[0] for one in found if one["check"] == "schema"} == {
        "jr_pending is missing",
        "queues is not what schema.sql says",
    }


def test_files_that_others_may_read_or_write_are_told_and_made_private(cli: Cli, path: Path) -> None:
    cli.enqueue("--", "true")
    path.chmod(0o644)
    code, found = examine(cli)
    assert (code, found[0]["check"], found[0]["level"]) == (0, "files", "warning")
    path.chmod(0o666)
    code, (found_fault,) = examine(cli)
    assert (code, found_fault["level"]) == (1, "fault")
    assert f"chmod 600 {path}" in found_fault["text"]
    assert examine(cli, "--fix")[0] == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_damage_is_told_without_a_traceback(cli: Cli, path: Path) -> None:
    with Database(path, create=True):
        pass
    for _ in range(30):
        cli.enqueue("--", "true")
    rows(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    damaged = path.with_name("damaged")
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    damaged.write_bytes(data)
    damaged.chmod(0o600)
    code, found = examine(cli, "--db", "damaged")
    assert code == 1
    assert any(one["check"] == "integrity" and one["level"] == "fault" for one in found)


def test_what_is_not_there_or_not_ours_is_told(cli: Cli, folder: Path, path: Path) -> None:
    done = cli("doctor")
    assert (done.returncode, done.stdout) != (0, "")
    assert "no database at" in done.stderr
    (folder / "other.db").write_text("no database at all, but a text that is long enough for a header" * 20)
    (folder / "other.db").chmod(0o600)
    assert cli("--db", "other.db", "doctor").returncode == 65


def test_a_folder_that_others_may_write_is_told_and_closed_to_them(cli: Cli, folder: Path) -> None:
    place = folder / "place"
    place.mkdir(mode=0o700)
    cli.ok("--db", "place/jobs.db", "init")
    place.chmod(0o777)
    (place / "jobs.db-journal").write_bytes(b"")
    (place / "jobs.db-journal").chmod(0o666)
    code, found = examine(cli, "--db", "place/jobs.db")
    assert (code, {one["check"] for one in found}, len(found)) == (1, {"files"}, 2)
    assert examine(cli, "--db", "place/jobs.db", "--fix") == (0, [])
    assert place.stat().st_mode & 0o777 == 0o755


def test_one_row_that_cannot_be_read_does_not_keep_the_others_from_being_mended(cli: Cli, path: Path) -> None:
    cli.enqueue("--", "true")
    cli.enqueue("--", "true")
    started = "status = 'running', claim = 1, attempt = 1, crashes = 1, started_at = 1"
    rows(path, f"UPDATE jr_invocation SET {started}, runner = 8 + id")
    rows(path, """UPDATE jr_invocation SET policy = '{"retry": 7}' WHERE id = 1""")
    assert examine(cli)[0] == 1
    assert examine(cli, "--fix")[0] == 0
    assert rows(path, "SELECT status FROM jobs") == [("failed",), ("pending",)]
