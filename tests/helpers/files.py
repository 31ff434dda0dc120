"""The database file as others see it: without our queries, and with the sqlite3 shell."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from jobrunner.identity import APPLICATION_ID
from tests.helpers.processes import ROOT
from tests.helpers.waiting import SECONDS


def rows(path: Path, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows of any statement, on a connection of its own; what it writes is committed."""
    # apsw and not sqlite3: two SQLite libraries in one process drop each other's locks.
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.pragma("synchronous", 0)
        connection.set_busy_timeout(round(SECONDS * 1000))
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def rows_elsewhere(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """The same in a process of its own, for tests that have the file open by another SQLite library.

    To close ours here would drop the locks of theirs, and two would write at a time.
    """
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(path), statement],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    return list(map(tuple, json.loads(done.stdout)))


_ELSEWHERE = """
import json, sys
import apsw
connection = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READWRITE)
connection.set_busy_timeout(150_000)
json.dump(connection.execute(sys.argv[2]).fetchall(), sys.stdout)
"""


def is_ours(path: Path) -> bool:
    """Whether the file is a jobrunner database."""
    return path.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4, "big")


def sqlite_shell(path: Path, script: str) -> subprocess.CompletedProcess[str]:
    """What the sqlite3 shell of the machine says to a script."""
    shell = shutil.which("sqlite3")
    if shell is None:
        pytest.skip("there is no sqlite3 shell on this machine (apt install sqlite3)")
    return subprocess.run(
        # Unlike our own programs, the shell gives up at once where somebody is writing.
        [shell, "-bail", "-cmd", ".timeout 10000", str(path)],
        input=script,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def new_database(path: Path) -> None:
    """Make a database as a person does: with the shell and schema.sql."""
    done = sqlite_shell(path, (ROOT / "schema.sql").read_text())
    assert done.returncode == 0, done.stderr
    path.chmod(0o600)
