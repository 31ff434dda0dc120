"""The file: made privately, opened only where it is ours, shared by processes, and never half-made."""

import contextlib
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobrunner import App
from jobrunner.connection import Patience, connect
from jobrunner.database import Database, migrate
from jobrunner.database_file import make_file
from jobrunner.errors import (
    CannotCreate,
    DatabaseBusy,
    ForeignDatabase,
    JobRunnerError,
    NoDatabase,
    NotAllowed,
    NotBegun,
    UsageError,
)
from jobrunner.identity import SCHEMA_VERSION
from tests.helpers.files import rows, sqlite_shell
from tests.helpers.processes import environment, run_python
from tests.helpers.waiting import until

INSERT = "INSERT INTO jobs(task) VALUES ('a:b')"
OPEN = "import sys, pathlib; from jobrunner.database import Database; "


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_database_and_its_folder_are_private(folder: Path) -> None:
    path = folder / "deep" / "er" / "jobs.db"
    with Database(path, create=True):
        assert mode(path) == 0o600
        assert mode(path.parent) == 0o700
        assert {mode(file) for file in path.parent.iterdir()} == {0o600}, "its -wal and -shm are private too"


def test_a_wide_umask_opens_nothing_to_others(folder: Path) -> None:
    code = "import os; os.umask(0); from jobrunner import App; App('new/jobs.db').enqueue('a:b')"
    done = run_python(folder, code)
    assert done.returncode == 0, done.stderr
    assert (mode(folder / "new"), mode(folder / "new" / "jobs.db")) == (0o700, 0o600)


def test_nothing_is_made_where_something_is_to_be_read(path: Path) -> None:
    with pytest.raises(NoDatabase, match="no database at"):
        Database(path)
    assert not path.exists()


def test_a_folder_that_cannot_be_made_is_told(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(CannotCreate, match="file is no folder"):
        Database(folder / "file" / "jobs.db", create=True)


# What is not ours ------------------------------------------------------------------------------------


def unchanged(path: Path, error: type[JobRunnerError], sentence: str) -> None:
    """Opening is refused with this sentence, and not a byte is written."""
    before = path.read_bytes()
    with pytest.raises(error, match=sentence):
        Database(path, create=True)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(f"{path.name}-")] == []


def test_a_symbolic_link_is_refused(path: Path, folder: Path) -> None:
    Database(path, create=True).close()
    link = folder / "link.db"
    link.symlink_to(path)
    with pytest.raises(NotAllowed, match=f"is a symbolic link: name the file itself, {path}"):
        Database(link, create=True)
    (folder / "dangling.db").symlink_to(folder / "nowhere")
    with pytest.raises(NotAllowed, match="is a symbolic link"):
        Database(folder / "dangling.db", create=True)
    assert not (folder / "nowhere").exists()


def test_a_folder_is_no_database(folder: Path) -> None:
    with pytest.raises(NotAllowed, match="is not a file"):
        Database(folder, create=True)


@pytest.mark.parametrize("bits", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(path: Path, bits: int) -> None:
    Database(path, create=True).close()
    path.chmod(bits)
    unchanged(path, NotAllowed, "can be written by others")
    path.chmod(0o600)


def test_the_database_of_another_program_is_refused(path: Path) -> None:
    sqlite_shell(path, "CREATE TABLE notes(text); INSERT INTO notes VALUES ('mine');")
    path.chmod(0o600)
    unchanged(path, ForeignDatabase, "a database of another program")


def test_a_database_with_another_application_id_is_refused(path: Path) -> None:
    sqlite_shell(path, "PRAGMA application_id = 7; VACUUM;")
    path.chmod(0o600)
    unchanged(path, ForeignDatabase, "a database of another program")


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("these are notes, and no database at all\n" * 100)
    path.chmod(0o600)
    unchanged(path, ForeignDatabase, "not a SQLite database")


def test_a_newer_schema_is_refused(path: Path) -> None:
    Database(path, create=True).close()
    rows(path, "PRAGMA user_version = 999")
    unchanged(path, ForeignDatabase, "has schema version 999")


def test_a_copy_that_is_not_in_wal_mode_is_put_into_it(path: Path, folder: Path) -> None:
    Database(path, create=True).close()
    copy = folder / "copy.db"
    rows(path, f"VACUUM INTO '{copy}'")
    copy.chmod(0o600)
    assert rows(copy, "PRAGMA journal_mode") == [("delete",)]
    Database(copy).close()
    assert rows(copy, "PRAGMA journal_mode") == [("wal",)]


# Migrations ------------------------------------------------------------------------------------------

TWO = "CREATE TABLE two(number INTEGER) STRICT"
THREE = "CREATE TABLE three(number INTEGER) STRICT; INSERT INTO three VALUES (3)"
SLOW_THREE = """
CREATE TABLE three(number INTEGER) STRICT;
INSERT INTO three WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count) SELECT n FROM count;
"""
MIGRATE = OPEN + (
    "from jobrunner.database import migrate\n"
    "with Database(pathlib.Path(sys.argv[1])) as database: migrate(database, 1, 3, {2: sys.argv[2], 3: sys.argv[3]})"
)


def tables(path: Path) -> list[str]:
    return [name for (name,) in rows(path, "SELECT name FROM sqlite_schema WHERE name IN ('two', 'three')")]


def test_an_older_schema_is_led_step_by_step(path: Path, database: Database) -> None:
    migrate(database, SCHEMA_VERSION, SCHEMA_VERSION + 2, {SCHEMA_VERSION + 1: TWO, SCHEMA_VERSION + 2: THREE})
    assert rows(path, "PRAGMA user_version") == [(SCHEMA_VERSION + 2,)]
    assert tables(path) == ["two", "three"]
    assert rows(path, "SELECT number FROM three") == [(3,)]


def test_a_step_that_was_made_by_somebody_else_is_not_made_again(path: Path, database: Database) -> None:
    migrate(database, 1, 2, {2: TWO})
    migrate(database, 1, 3, {2: TWO, 3: THREE})
    assert rows(path, "PRAGMA user_version") == [(3,)]


def test_a_step_that_fails_leaves_nothing_of_itself(path: Path, database: Database) -> None:
    failing = "CREATE TABLE three(number INTEGER NOT NULL) STRICT; INSERT INTO three VALUES (NULL)"
    with pytest.raises(UsageError, match="NOT NULL"):
        migrate(database, 1, 3, {2: TWO, 3: failing})
    assert rows(path, "PRAGMA user_version") == [(2,)]
    assert tables(path) == ["two"]


def test_a_kill_in_the_middle_of_a_step_leaves_whole_steps(path: Path, folder: Path, database: Database) -> None:
    migrating = subprocess.Popen(
        [sys.executable, "-c", MIGRATE, str(path), TWO, SLOW_THREE], cwd=folder, env=environment(folder)
    )
    until(lambda: rows(path, "PRAGMA user_version") == [(2,)])
    migrating.kill()
    assert migrating.wait() == -signal.SIGKILL
    assert rows(path, "PRAGMA user_version") == [(2,)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert tables(path) == ["two"]
    migrate(database, 1, 3, {2: TWO, 3: THREE})
    assert (rows(path, "PRAGMA user_version"), tables(path)) == ([(3,)], ["two", "three"])


# Several processes -----------------------------------------------------------------------------------

MAKER = OPEN + (
    "\nfor line in sys.stdin:"
    "\n    Database(pathlib.Path(line.strip()), create=True).close()"
    "\n    print('made', flush=True)"
)


def test_two_processes_may_make_the_same_file_at_once(folder: Path) -> None:
    makers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", MAKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=folder,
            env=environment(folder),
        )
        for _ in range(2)
    ]
    for number in range(20):
        path = folder / f"round{number}" / "jobs.db"
        for maker in makers:
            assert maker.stdin
            maker.stdin.write(f"{path}\n")
        for maker in makers:
            assert maker.stdout
            assert maker.stdout.readline() == "made\n", f"round {number}"
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        assert rows(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    for maker in makers:
        maker.communicate()
        assert maker.returncode == 0


def test_who_waits_too_long_for_the_write_lock_is_told_so(path: Path) -> None:
    with Database(path, create=True) as one, Database(path) as other:
        other.patience.seconds = 0.05
        with one.transaction(), pytest.raises(DatabaseBusy, match="another process holds the write lock"):
            insert(other)
        insert(other)


def test_a_transaction_has_the_write_lock_from_its_beginning(path: Path) -> None:
    with Database(path, create=True) as one, Database(path) as other:
        other.patience.seconds = 0.05
        with one.transaction(), pytest.raises(NotBegun), other.transaction():
            pytest.fail("two transactions have begun")


FORK = """
import os, sys
from jobrunner import App
app = App("jobs.db")
app.enqueue("parent:before")
child = os.fork()
app.enqueue("child:after" if child == 0 else "parent:after")
if child:
    assert os.waitpid(child, 0)[1] == 0
"""

FORK_AND_LOOK = """
import os
from jobrunner import App
app = App("jobs.db")
app.enqueue("parent:before")
if os.fork() == 0:
    opened = [os.readlink(f"/proc/self/fd/{one.name}") for one in os.scandir("/proc/self/fd") if one.is_symlink()]
    os._exit(any("jobs.db" in one for one in opened))
assert os.wait()[1] == 0, "the child has the parent's descriptors of the file"
"""

FORK_INSIDE = """
import os, pathlib
from jobrunner.database import Database
from jobrunner.errors import JobRunnerError
with Database(pathlib.Path("jobs.db"), create=True) as database:
    with database.transaction():
        database.script("INSERT INTO jobs(task) VALUES ('parent:inside')")
        child = os.fork()
        if child == 0:
            try:
                database.query("counts")
            except JobRunnerError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


def test_after_a_fork_parent_and_child_both_go_on(folder: Path, path: Path) -> None:
    done = run_python(folder, FORK)
    assert done.returncode == 0, done.stderr
    assert {task for (task,) in rows(path, "SELECT task FROM jobs")} == {
        "parent:before",
        "parent:after",
        "child:after",
    }
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells which files are open")
def test_a_child_has_no_descriptor_of_the_file(folder: Path) -> None:
    done = run_python(folder, FORK_AND_LOOK)
    assert done.returncode == 0, done.stderr


def test_a_transaction_carried_over_a_fork_stays_the_parents(folder: Path, path: Path) -> None:
    done = run_python(folder, FORK_INSIDE)
    assert done.returncode == 0, done.stderr
    assert rows(path, "SELECT task FROM jobs") == [("parent:inside",)]


# Transactions ----------------------------------------------------------------------------------------


def insert(database: Database) -> None:
    with database.transaction():
        database.script(INSERT)


def insert_and_fail(database: Database) -> None:
    with database.transaction():
        database.script(INSERT)
        insert(database)
        raise ZeroDivisionError


def test_a_nested_transaction_rolls_back_alone(database: Database, path: Path) -> None:
    with database.transaction():
        insert(database)
        with pytest.raises(ZeroDivisionError):
            insert_and_fail(database)
        insert(database)
    assert rows(path, "SELECT count(*) FROM jobs") == [(2,)]


def test_a_transaction_that_is_left_by_an_exception_was_none(database: Database, path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        insert_and_fail(database)
    assert rows(path, "SELECT count(*) FROM jobs") == [(0,)]
    insert(database)
    assert rows(path, "SELECT count(*) FROM jobs") == [(1,)]


def test_a_snapshot_sees_one_state(database: Database, path: Path) -> None:
    with database.snapshot():
        before = database.query("counts")
        rows(path, INSERT)
        assert database.query("counts") == before
    assert database.query("counts") != before


def test_who_is_interrupted_while_it_enqueues_keeps_no_other_thread_out(path: Path) -> None:
    class Rings(Exception):
        pass

    def ring(*_: object) -> None:
        raise Rings

    app = App(path, relaxed=True)
    app.enqueue("tests.tasks:touch")
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for number in range(1000):  # at ever other places
            with contextlib.suppress(Rings):
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + number / 10_000_000)
                while True:
                    app.enqueue("tests.tasks:touch")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    other = threading.Thread(target=app.enqueue, args=["tests.tasks:touch"], daemon=True)
    other.start()
    other.join(30)
    assert not other.is_alive()
    app.close()


def test_threads_share_a_connection_one_at_a_time(database: Database, path: Path) -> None:
    errors: list[BaseException] = []

    def insert_many() -> None:
        try:
            for _ in range(50):
                with database.transaction():
                    insert(database)
                    insert(database)
        except BaseException as error:  # noqa: BLE001  # told below
            errors.append(error)

    threads = [threading.Thread(target=insert_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert rows(path, "SELECT count(*) FROM jobs") == [(400,)]


def test_the_version_changes_with_the_commits_of_others_alone(database: Database, path: Path) -> None:
    version = database.version
    database.script(INSERT)
    assert database.version == version
    rows(path, INSERT)
    assert database.version != version


def test_a_closed_database_says_so(path: Path) -> None:
    database = Database(path, create=True)
    database.close()
    database.close()
    with pytest.raises(JobRunnerError, match="was closed"):
        database.query("counts")


def test_what_is_committed_is_on_disk_unless_it_was_said_otherwise(path: Path) -> None:
    code = OPEN + "Database(pathlib.Path(sys.argv[1]), create=True, relaxed={relaxed}).script(sys.argv[2])"
    synced = {}
    for relaxed in (False, True):
        trace = path.with_name(f"strace-{relaxed}")
        watched = ["strace", "-o", str(trace), "-e", "trace=fdatasync,fsync"]
        program = [sys.executable, "-c", code.format(relaxed=relaxed), str(path), INSERT]
        try:
            subprocess.run([*watched, *program], env=environment(path.parent), check=True)
        except (FileNotFoundError, subprocess.CalledProcessError):
            pytest.skip("strace is missing or may not be used on this machine (apt install strace)")
        synced[relaxed] = trace.read_text().count("sync(")
    assert synced[False] > synced[True]


def test_an_app_opens_nothing_before_it_is_needed(path: Path) -> None:
    App(path).close()
    assert not path.exists()


@pytest.mark.parametrize(("relaxed", "synchronous"), [(False, 2), (True, 1)])
def test_synchronous_is_full_unless_relaxed(path: Path, relaxed: bool, synchronous: int) -> None:
    make_file(path)
    connection = connect(path, Patience(1.0), relaxed=relaxed, checkpoint_pages=1000).connection
    assert connection.pragma("synchronous") == synchronous
    connection.close()
