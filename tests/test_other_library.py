"""Python's sqlite3 and jobrunner on one file in one process: refused where it can be seen, and nothing is broken."""

import shutil
from pathlib import Path

import pytest

from jobrunner import App
from tests.helpers.files import rows
from tests.helpers.processes import run_python

REFUSED = """
import sqlite3, subprocess, sys
from jobrunner import App
from jobrunner.errors import OtherLibrary
other = sqlite3.connect("jobs.db", isolation_level=None)
other.execute("BEGIN IMMEDIATE")
other.execute("INSERT INTO jobs(task) VALUES ('theirs:task')")
app = App("jobs.db")
def refused(do):
    try:
        do()
    except OtherLibrary as error:
        assert "close it first" in str(error), error
        assert error.exit_code == 2
    else:
        raise AssertionError("it was let in")
refused(lambda: app.enqueue("ours:task"))
refused(app.counts)
refused(app.drain)
refused(app.run)
locked = subprocess.run(["sqlite3", "jobs.db", "BEGIN IMMEDIATE"], capture_output=True, text=True)
assert "locked" in locked.stderr, locked
other.execute("COMMIT")
other.close()
app.enqueue("ours:task")
"""

OURS = """
import apsw
from jobrunner import App
mine = apsw.Connection("jobs.db")
one, two = App("jobs.db"), App("jobs.db")
one.enqueue("a:one")
two.enqueue("a:two")
one.close()
two.enqueue("a:three")
mine.close()
App("jobs.db").enqueue("a:four")
"""

ELSEWHERE = """
import sqlite3
from jobrunner import App
other = sqlite3.connect("other.db")
other.execute("CREATE TABLE notes(text)")
App("jobs.db").enqueue("a:b")
"""


def test_a_process_that_has_the_file_open_by_sqlite3_is_refused(app: App, folder: Path, path: Path) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("there is no sqlite3 shell on this machine (apt install sqlite3)")
    app.counts()
    app.close()
    done = run_python(folder, REFUSED)
    assert done.returncode == 0, done.stderr
    assert rows(path, "SELECT task FROM jobs") == [("theirs:task",), ("ours:task",)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_connections_of_the_same_library_may_be_many(app: App, folder: Path, path: Path) -> None:
    app.counts()
    app.close()
    done = run_python(folder, OURS)
    assert done.returncode == 0, done.stderr
    assert len(rows(path, "SELECT id FROM jobs")) == 4


def test_other_files_are_of_no_concern(folder: Path, path: Path) -> None:
    done = run_python(folder, ELSEWHERE)
    assert done.returncode == 0, done.stderr
    assert rows(path, "SELECT task FROM jobs") == [("a:b",)]
    (folder / "other.db").unlink()
