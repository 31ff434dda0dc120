"""A copy of the database, made while others work with it."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from jobrunner import App
from jobrunner.database import Database
from tests import tasks
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.disks import small_disk
from tests.helpers.files import rows
from tests.helpers.processes import run_python
from tests.helpers.trace import starts
from tests.helpers.waiting import until


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


def test_a_copy_has_all_that_was_committed_and_is_private(cli: Cli, folder: Path, path: Path) -> None:
    for _ in range(3):
        cli.enqueue("--", "true")
    assert cli.ok("backup", "copy.db") == "copy.db\n"
    copy = folder / "copy.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert rows(copy, "SELECT id, status FROM jobs") == rows(path, "SELECT id, status FROM jobs")
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert sorted(one.name for one in folder.glob("*copy*")) == ["copy.db"]
    assert "pending\t3" in cli.ok("--db", "copy.db", "status")
    assert cli.json("backup", "other.db") == {"path": "other.db", "bytes": (folder / "other.db").stat().st_size}


def test_a_copy_works_as_a_database(cli: Cli, folder: Path) -> None:
    cli.enqueue("--", "true")
    cli.ok("backup", "copy.db")
    cli.ok("--db", "copy.db", "run", "--drain", "-q")
    assert rows(folder / "copy.db", "SELECT status FROM jobs") == [("success",)]
    assert rows(folder / "jobs.db", "SELECT status FROM jobs") == [("pending",)]


def test_copies_are_whole_while_jobs_are_done(
    app: App, runner: StartRunner, folder: Path, path: Path, cli: Cli
) -> None:
    tasks.touch.enqueue_many({} for _ in range(300))
    running = runner(mode="thread", jobs=1, threads=4, drain=True)
    for number in range(5):
        cli.ok("backup", f"copy-{number}.db")
        with Database(folder / f"copy-{number}.db") as copy:
            assert copy.query("counts")
        assert rows(folder / f"copy-{number}.db", "PRAGMA integrity_check") == [("ok",)]
        assert rows(folder / f"copy-{number}.db", "SELECT count(*) FROM jobs") == [(300,)]
    assert running.wait() == 0
    assert starts(folder) == dict.fromkeys(range(1, 301), 1)


def test_nothing_is_overwritten_unless_that_is_said(cli: Cli, folder: Path) -> None:
    cli.enqueue("--", "true")
    (folder / "copy.db").write_text("precious")
    done = cli("backup", "copy.db")
    assert (done.returncode, done.stdout) == (2, "")
    assert "copy.db is there already: name another file, or say --force to replace it" in done.stderr
    assert (folder / "copy.db").read_text() == "precious"
    cli.ok("backup", "copy.db", "--force")
    assert rows(folder / "copy.db", "SELECT count(*) FROM jobs") == [(1,)]


def test_what_a_copy_cannot_be_is_told(cli: Cli, folder: Path, path: Path) -> None:
    cli.enqueue("--", "true")
    (folder / "link.db").symlink_to(path)
    os.link(path, folder / "same.db")
    before = path.read_bytes()
    for target, code, sentence in [
        ("jobs.db", 2, "is the database itself"),
        ("same.db", 2, "is the database itself"),
        ("link.db", 2, "is no file that a copy could replace"),
        (".", 2, "is no file that a copy could replace"),
        ("nowhere/copy.db", 73, "cannot be made: No such file or directory"),
    ]:
        done = cli("backup", target, "--force")
        assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr
    assert path.read_bytes() == before


def test_a_copy_that_finds_no_room_leaves_nothing(cli: Cli, folder: Path) -> None:
    tasks.touch.enqueue_many({} for _ in range(20_000))
    tasks.app.close()
    with small_disk(folder, 500) as disk:
        done = cli("backup", f"{disk}/copy.db")
        assert done.returncode == 74, done.stderr
        assert "Traceback" not in done.stderr
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_a_log_that_lies_beside_the_target_is_not_taken_for_that_of_the_copy(
    cli: Cli, folder: Path, path: Path, ending: str, force: tuple[str, ...]
) -> None:
    cli.enqueue("--", "true")
    (folder / f"copy.db{ending}").write_bytes(b"what another database has left")
    done = cli("backup", "copy.db", *force)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"copy.db{ending} is there" in done.stderr
    assert sorted(one.name for one in folder.glob("*copy*")) == [f"copy.db{ending}"]


def test_the_log_of_a_killed_writer_does_not_get_into_a_copy(cli: Cli, folder: Path) -> None:
    cli.enqueue("--", "true")
    cli.ok("backup", "copy.db")
    left = "import os; from jobrunner import App; a = App('copy.db'); [a.enqueue('a:b') for _ in range(9)]; os._exit(0)"
    assert run_python(folder, left).returncode == 0
    assert (folder / "copy.db-wal").exists()
    assert cli("backup", "copy.db", "--force").returncode == 2
    assert rows(folder / "copy.db", "SELECT count(*) FROM jobs") == [(10,)]
    assert cli.ok("backup", "copy.db", "--force") == "copy.db\n"  # now that its log is in it
    assert rows(folder / "copy.db", "SELECT count(*) FROM jobs") == [(1,)]


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal", "-runners"])
def test_the_files_of_a_database_are_never_replaced(cli: Cli, folder: Path, path: Path, ending: str) -> None:
    left = "import os; from jobrunner import App; a = App(); [a.enqueue('a:b') for _ in range(50)]; os._exit(0)"
    assert run_python(folder, left).returncode == 0
    done = cli("backup", f"jobs.db{ending}", "--force")
    assert (done.returncode, "has the name of a file that belongs to a database" in done.stderr) == (2, True)
    assert rows(path, "SELECT count(*) FROM jobs") == [(50,)]


def test_a_copy_that_is_told_to_stop_leaves_nothing(cli: Cli, folder: Path, path: Path) -> None:
    tasks.touch.enqueue_many({} for _ in range(100_000))
    tasks.app.close()
    working = cli.start("backup", "copy.db")
    until(lambda: list(folder.glob(".copy.db.*")) or working.poll() is not None)
    working.terminate()
    working.communicate(timeout=60)
    assert working.returncode in {143, 0}
    assert list(folder.glob(".copy*")) == []
    assert (folder / "copy.db").exists() == (working.returncode == 0)


def test_a_name_may_be_as_long_as_names_can_be(cli: Cli, folder: Path) -> None:
    cli.enqueue("--", "true")
    name = "b" * 247
    cli.ok("backup", name)
    assert rows(folder / name, "SELECT count(*) FROM jr_invocation") == [(1,)]
    done = cli("backup", "b" * 248)
    assert (done.returncode, "has too long a name" in done.stderr) == (2, True), done


def test_a_copy_can_be_made_where_there_are_no_hard_links(cli: Cli, folder: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is missing on this machine (apt install strace)")
    cli.enqueue("--", "true")
    without = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=link,linkat",
        "-e",
        "inject=link,linkat:error=EPERM",
    ]
    backup = [*without, *cli.command("backup", "copy.db")]
    done = [subprocess.run(backup, cwd=folder, env=cli.environment, capture_output=True, check=False) for _ in range(2)]
    assert [one.returncode for one in done] == [0, 2], done
    assert b"is there already" in done[1].stderr
    assert rows(folder / "copy.db", "SELECT count(*) FROM jr_invocation") == [(1,)]
    assert not [one for one in folder.iterdir() if one.name.startswith(".jobrunner")]
