"""Who can write the database can run code: its files are the user's own, or they are not opened."""

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import App
from jobrunner.database import Database
from jobrunner.database_file import check_file, check_root
from jobrunner.errors import NotAllowed
from jobrunner.ownership import RunnerLocks
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.processes import run_python
from tests.helpers.waiting import until

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_whatever_the_umask_all_that_is_made_is_private(folder: Path, umask: int) -> None:
    code = f"""
import os; os.umask({umask})
from pathlib import Path
from jobrunner.database import Database
from jobrunner.errors import NotAllowed
from jobrunner.ownership import RunnerLocks
path = Path("deep/er/jobs.db")
with Database(path, create=True), RunnerLocks(path):
    for folder in (Path("deep"), path.parent):
        print(oct(folder.stat().st_mode & 0o777))
    print(*sorted(f"{{file.name}} {{file.stat().st_mode & 0o777:o}}" for file in path.parent.iterdir()), sep="\\n")
"""
    done = run_python(folder, code)
    assert done.stdout.split("\n")[:-1] == [
        "0o700",
        "0o700",
        "jobs.db 600",
        "jobs.db-runners 600",
        "jobs.db-shm 600",
        "jobs.db-wal 600",
    ], done.stderr


@pytest.mark.parametrize("bits", [0o620, 0o602, 0o666])
@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal", "-runners"])
def test_a_file_that_others_may_write_is_refused_with_what_mends_it(
    cli: Cli, path: Path, ending: str, bits: int
) -> None:
    cli.ok("init")
    file = Path(f"{path}{ending}")
    file.touch()
    file.chmod(bits)
    done = cli("status")
    assert (done.returncode, done.stdout) == (77, "")
    mend = f"chmod go-w {file}"
    assert done.stderr == f"jobrunner: {file} can be written by others, who could run code as you: {mend}\n"
    file.chmod(bits & ~0o022)
    cli.ok("status")


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal", "-runners"])
@pytest.mark.parametrize("command", ["status", "enqueue", "run", "sql"])
def test_a_link_beside_the_database_is_refused(cli: Cli, path: Path, ending: str, command: str) -> None:
    cli.ok("init")
    link, target = Path(f"{path}{ending}"), path.parent / "target"
    target.write_text("precious")
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    words = {"enqueue": ["--", "true"], "run": ["--drain"], "sql": ["SELECT 1"]}.get(command, [])
    done = cli(command, *words)
    assert done.returncode == 77
    assert f"{link} is a symbolic link, and must be a file of its own: rm {link}" in done.stderr
    assert target.read_text() == "precious"
    link.unlink()


def test_a_link_or_a_file_of_others_is_not_taken_for_the_locks(path: Path) -> None:
    Database(path, create=True).close()
    target = path.parent / "target"
    target.touch(mode=0o666)
    target.chmod(0o666)
    runners = Path(f"{path}-runners")
    runners.symlink_to(target)
    with pytest.raises(NotAllowed, match="is a symbolic link"):
        RunnerLocks(path)
    runners.unlink()
    target.rename(runners)
    with pytest.raises(NotAllowed, match="chmod go-w"):
        RunnerLocks(path)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "fifo.db")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s.db"))
    for name in ("fifo.db", "s.db"):
        with pytest.raises(NotAllowed, match=f"{name} is not a file"):
            check_file(folder / name)
        (folder / name).unlink()


@pytest.mark.parametrize("bits", [0o777, 0o707])
def test_a_folder_that_others_may_write_is_refused_with_what_mends_it(cli: Cli, path: Path, bits: int) -> None:
    cli.ok("init")
    path.parent.chmod(bits)
    done = cli("list")
    assert done.returncode == 77
    assert f"others may write into the folder {path.parent}" in done.stderr
    assert done.stderr.endswith(f": chmod go-w {path.parent}\n")
    path.parent.chmod(bits | stat.S_ISVTX)
    cli.ok("list")
    path.parent.chmod(0o700)


def test_a_folder_that_is_linked_to_is_no_hindrance(folder: Path) -> None:
    (folder / "real").mkdir(mode=0o700)
    (folder / "link").symlink_to("real")
    with Database(folder / "link" / "jobs.db", create=True) as database:
        assert database.query("identity")
    assert modes(folder / "real") == {"jobs.db": 0o600}


# Owners -----------------------------------------------------------------------------------------------


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter, with a database in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        Database(folder / "jobs.db", create=True).close()
        yield folder


AS_NOBODY = """
import os, sys
from pathlib import Path
from jobrunner.database_file import check_file
from jobrunner.errors import JobRunnerError
import pwd
os.seteuid(65534)
try:
    check_file(Path(sys.argv[1]))
except JobRunnerError as error:
    print(error, error.exit_code)
"""


@as_root
def test_a_database_of_somebody_else_is_refused(public: Path) -> None:
    path = public / "jobs.db"
    path.chmod(0o644)
    assert run_python(public, AS_NOBODY, str(path)).stdout == (
        f"{path} belongs to root, who could run code as you: work as root, or name another file 77\n"
    )
    os.chown(path, NOBODY, NOBODY)
    assert run_python(public, AS_NOBODY, str(path)).stdout == ""


@as_root
def test_a_log_that_another_user_left_beside_the_database_is_refused(path: Path) -> None:
    Database(path, create=True).close()
    wal = Path(f"{path}-wal")
    wal.touch(mode=0o600)
    os.chown(wal, 12345, 12345)
    with pytest.raises(NotAllowed, match=f"{wal} belongs to user 12345"):
        check_file(path)
    wal.unlink()


@as_root
def test_a_folder_of_a_group_with_nobody_else_in_it_is_private_enough(path: Path) -> None:
    Database(path, create=True).close()
    path.parent.chmod(0o775)  # root's own group, as the home folders of many systems
    check_file(path)
    os.chown(path.parent, 0, 12345)
    with pytest.raises(NotAllowed, match="others may write into the folder"):
        check_file(path)
    path.parent.chmod(0o700)


@as_root
def test_root_does_not_work_for_others_unless_told(cli: Cli, path: Path, folder: Path) -> None:
    job = cli.enqueue("--", "true")
    for owned in (path, folder):
        os.chown(owned, NOBODY, NOBODY)
        done = cli("run", "--drain")
        assert done.returncode == 77
        assert "who could have root run anything: run as that user, or say --allow-root" in done.stderr
        assert str(owned) in done.stderr
        assert cli.json("show", str(job))["status"] == "pending", "root may look"
        os.chown(owned, 0, 0)
    os.chown(path, NOBODY, NOBODY)
    cli.drain("--allow-root")
    assert cli.json("show", str(job))["status"] == "success"
    assert {file.stat().st_uid for file in folder.glob("jobs.db*")} == {NOBODY}, "its owner can still use it"


@as_root
def test_root_does_not_work_where_others_may_write_unless_told(cli: Cli, folder: Path) -> None:
    cli.ok("init")
    folder.chmod(0o1777)
    done = cli("run", "--drain")
    assert done.returncode == 77
    assert "others may write into" in done.stderr
    cli.drain("--allow-root")
    folder.chmod(0o700)
    cli.drain()


@as_root
def test_root_may_work_on_a_database_that_is_not_there_yet(folder: Path) -> None:
    check_root(folder / "deep" / "er" / "jobs.db")


def test_a_runner_checks_the_file_as_everybody(app: App, path: Path, runner: StartRunner) -> None:
    app.enqueue("tests.tasks:touch")
    app.close()
    path.chmod(0o666)
    refused = runner(drain=True)
    refused.may_fail = True
    until(lambda: not refused.is_running)
    assert "chmod go-w" in refused.stderr
    path.chmod(0o600)
