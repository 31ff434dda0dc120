"""The file is deleted, replaced, cut, locked up or somebody else's under a running runner: it stops, and says why."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobrunner import App
from jobrunner.database import Database
from jobrunner.errors import DatabaseBroken, ForeignDatabase
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.command_runner import CommandRunner
from tests.helpers.disks import immutable, read_only
from tests.helpers.files import rows
from tests.helpers.processes import environment
from tests.helpers.trace import marks
from tests.helpers.waiting import until

SOON = 15.0
"""Seconds that a busy machine may take for what is promised within two."""


@pytest.fixture
def busy(app: App, folder: Path, path: Path) -> Iterator[CommandRunner]:
    """A runner in the middle of a job."""
    app.enqueue("tests.tasks:wait_for_ever")
    app.close()
    with CommandRunner(folder, path, "-j", "1") as runner:
        until(lambda: marks(folder))
        yield runner


def put_away(path: Path) -> None:
    """It is broken, and not to be looked at when the test is over."""
    for part in ("", "-wal", "-shm", "-runners"):
        Path(f"{path}{part}").unlink(missing_ok=True)


def test_a_database_that_is_deleted(busy: CommandRunner, path: Path) -> None:
    path.unlink()
    busy.ends(74, f"{path} was deleted or moved away under this runner", seconds=SOON)
    put_away(path)


def test_a_database_that_is_moved_away(busy: CommandRunner, path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    busy.ends(74, f"{path} was deleted or moved away under this runner", seconds=SOON)
    put_away(path)


def test_a_database_that_is_replaced_leaves_the_new_one_alone(busy: CommandRunner, path: Path, folder: Path) -> None:
    """Its log, too: what SQLite would do when the last connection closes is not done to a file of others."""
    other = folder / "other.db"
    with Database(other, create=True) as database:
        database.script("INSERT INTO jobs(task) VALUES ('other:task')")
        before = {part: Path(f"{other}{part}").read_bytes() for part in ("", "-wal")}
        shutil.copyfile(other, folder / "copy")
        shutil.copyfile(f"{other}-wal", f"{path}-wal.new")
    (folder / "copy").chmod(0o600)
    Path(f"{path}-wal.new").rename(f"{path}-wal")
    (folder / "copy").rename(path)
    busy.ends(74, "was replaced by another file under this runner", seconds=SOON)
    assert {part: Path(f"{path}{part}").read_bytes() for part in ("", "-wal")} == before
    Path(f"{path}-shm").unlink(missing_ok=True)
    assert rows(path, "SELECT task FROM jobs") == [("other:task",)]


@pytest.mark.parametrize("part", ["-wal", "-shm", "-runners"])
def test_a_file_beside_it_that_is_deleted(busy: CommandRunner, path: Path, part: str) -> None:
    Path(f"{path}{part}").unlink()
    busy.ends(74, f"{path}{part} was deleted or moved away under this runner", seconds=SOON)
    if part == "-wal":
        assert rows(path, "SELECT status FROM jobs") == [("running",)], "what was in the log is in the database now"
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("keep", [0, 50, 4096])
def test_a_database_that_is_truncated(busy: CommandRunner, path: Path, keep: int) -> None:
    os.truncate(path, keep)
    busy.ends(74, "jobrunner doctor", seconds=SOON)
    assert path.stat().st_size == keep, "nothing is written into what is broken"
    put_away(path)


def test_a_log_that_is_truncated(busy: CommandRunner, path: Path) -> None:
    os.truncate(f"{path}-wal", 0)
    busy.ends(74, "its write-ahead log was truncated under this runner", "jobrunner doctor", seconds=SOON)
    put_away(path)


def test_a_log_that_sqlite_itself_truncates_is_no_trouble(app: App, runner: StartRunner, path: Path) -> None:
    app.enqueue("tests.tasks:touch")
    started = runner(jobs=1)
    for _ in range(3):
        assert app.enqueue("tests.tasks:length", {"text": "x" * 500_000}).result(timeout=60) == 500_000
        until(lambda: rows(path, "PRAGMA wal_checkpoint(TRUNCATE)") and Path(f"{path}-wal").stat().st_size == 0)
        rows(path, "VACUUM")
    assert app.enqueue("tests.tasks:square", {"n": 3}).result(timeout=60) == 9
    assert started.is_running


def test_a_database_whose_beginning_is_overwritten(busy: CommandRunner, path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"garbage!" * 64)
    busy.ends(74, "was overwritten under this runner", seconds=SOON)
    put_away(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("PRAGMA user_version = 999", "has schema version 999, and this jobrunner knows"),
        ("PRAGMA user_version = 0", "has schema version 0, and had 1"),
        ("PRAGMA application_id = 7", "is a database of another program"),
    ],
)
def test_a_schema_that_becomes_another(busy: CommandRunner, path: Path, change: str, sentence: str) -> None:
    rows(path, change)
    busy.ends(65, sentence, seconds=SOON)
    rows(path, "PRAGMA user_version = 1")
    rows(path, "PRAGMA application_id = 1785884274")


def test_a_database_that_may_not_be_written_any_more(busy: CommandRunner, path: Path) -> None:
    with immutable(path):
        busy.ends(77, f"{path} may not be written any more", seconds=SOON)


def test_a_folder_that_may_not_be_written_any_more(busy: CommandRunner, folder: Path, path: Path) -> None:
    with immutable(folder):
        busy.ends(77, f"{folder} may not be written any more", seconds=SOON)


def test_a_runner_does_not_begin_where_nothing_can_be_written(app: App, folder: Path, path: Path) -> None:
    place = folder / "place"
    Database(place / "jobs.db", create=True).close()
    with read_only(place), CommandRunner(folder, place / "jobs.db") as runner:
        runner.ends(77, "may not be written")


@pytest.mark.parametrize("way", ["deleted", "replaced"])
def test_a_client_whose_database_is_gone_is_told_instead_of_losing_jobs(path: Path, way: str) -> None:
    app = App(path)
    app.enqueue("a:b")
    put_away(path)
    if way == "replaced":
        Database(path.with_name("new"), create=True).close()
        path.with_name("new").rename(path)
    with pytest.raises(DatabaseBroken, match="was deleted or replaced since this process opened it"):
        app.enqueue("a:b")
    app.close()
    assert app.enqueue("a:c").id == 1
    app.close()


def test_a_relaxed_client_is_told_a_moment_later(path: Path) -> None:
    app = App(path, relaxed=True)
    app.enqueue("a:b")
    put_away(path)

    def is_told() -> bool:
        try:
            app.enqueue("a:b")
        except DatabaseBroken as error:
            return "was deleted or replaced since this process opened it" in str(error)
        return False

    until(is_told)
    app.close()


# At the start ----------------------------------------------------------------------------------------


def unchanged(path: Path, folder: Path, code: int, sentence: str) -> None:
    """Neither a runner nor a client takes the file, and not a byte of it changes."""
    before = path.read_bytes()
    with CommandRunner(folder, path) as runner:
        runner.ends(code, sentence)
    done = Cli(folder)("--db", str(path), "enqueue", "a:b")
    assert (done.returncode, path.read_bytes()) == (code, before), done.stderr
    assert sentence in done.stderr


def spoil(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path: Path) -> None:
    """Turn bits of every page round but of the first and of those that hold the schema."""
    size = path.stat().st_size
    root = min(root for (root,) in rows(path, "SELECT rootpage FROM sqlite_schema WHERE rootpage > 0"))
    with path.open("r+b") as file:
        for page in range(root - 1, size // 4096):
            file.seek(page * 4096)
            head = bytes(255 - byte for byte in file.read(64))
            file.seek(page * 4096)
            file.write(head)


@pytest.mark.parametrize(
    ("break_it", "code", "sentence"),
    [
        (lambda path: spoil(path, 0, b"no database at all"), 65, "not a SQLite database"),
        (lambda path: rows(path, "PRAGMA user_version = 999"), 65, "has schema version 999"),
        (lambda path: rows(path, "PRAGMA application_id = 7"), 65, "a database of another program"),
        (flip, 74, "is damaged"),
    ],
    ids=["a header of garbage", "a newer schema", "another program's", "flipped bits"],
)
def test_what_is_not_ours_is_left_as_it_is(
    folder: Path, path: Path, break_it: Callable[[Path], object], code: int, sentence: str
) -> None:
    Database(path, create=True).close()
    break_it(path)
    unchanged(path, folder, code, sentence)
    put_away(path)


def test_damage_names_the_doctor(folder: Path, path: Path) -> None:
    Database(path, create=True).close()
    flip(path)
    with CommandRunner(folder, path) as runner:
        runner.ends(74, f"{path} is damaged", "`jobrunner doctor` tells more")
    put_away(path)


def test_a_schema_that_was_half_made_is_not_taken_for_ours(path: Path) -> None:
    """Each step is a transaction: what others leave half-made has objects and no number."""
    Database(path, create=True).close()
    rows(path, "PRAGMA user_version = 0")
    rows(path, "PRAGMA application_id = 0")
    before = path.read_bytes()
    with pytest.raises(ForeignDatabase, match="another program"):
        Database(path, create=True)
    assert path.read_bytes() == before
    put_away(path)


# Readers ---------------------------------------------------------------------------------------------

READER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM jobs").fetchall()
print("reading", flush=True)
sys.stdin.read()
"""


def test_a_reader_that_is_stuck_is_named_and_claims_go_on(
    app: App, runner: StartRunner, path: Path, folder: Path
) -> None:
    app.enqueue("tests.tasks:touch")
    started = runner(jobs=2, max_wal=1 << 20)
    started.until_ready()
    reading = subprocess.Popen(
        [sys.executable, "-c", READER, str(path)],
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with reading:
        assert reading.stdout
        assert reading.stdin
        assert reading.stdout.readline() == "reading\n"
        app.enqueue("tests.tasks:length", {"text": "x" * 900_000}).result(timeout=60)
        app.enqueue("tests.tasks:length", {"text": "x" * 900_000}).result(timeout=60)
        until(lambda: f"until pid {reading.pid} (python" in started.stderr)
        assert app.enqueue("tests.tasks:square", {"n": 3}).result(timeout=60) == 9
        assert started.stderr.count("has grown to") == 1
        reading.stdin.close()
