"""The locks by which runners are known to live: a byte each, kept by the process itself and by none of its children."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.database_file import make_file
from jobrunner.models import RunnerId
from jobrunner.ownership import RunnerLocks
from tests.helpers.processes import environment
from tests.helpers.waiting import until

ONE, OTHER = RunnerId(1), RunnerId(2)

HOLD = """
import os, pathlib, sys
from jobrunner.models import RunnerId
from jobrunner.ownership import RunnerLocks
locks = RunnerLocks(pathlib.Path(sys.argv[1]))
assert locks.take(RunnerId(1))
child = os.fork() if len(sys.argv) > 2 else None
if child != 0:
    print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def locks(path: Path) -> Iterator[RunnerLocks]:
    make_file(path)
    with RunnerLocks(path) as opened:
        yield opened


def holder(folder: Path, path: Path, *arguments: str) -> "subprocess.Popen[str]":
    """A process that holds the byte of runner 1 until its input ends or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(folder),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_runner_that_lives_keeps_its_own_byte_and_no_other(folder: Path, path: Path, locks: RunnerLocks) -> None:
    with holder(folder, path) as process:
        assert locks.take(OTHER)
        assert not locks.take(ONE)
        process.kill()
    assert locks.take(ONE)


def test_a_child_of_a_runner_does_not_keep_its_byte(folder: Path, path: Path, locks: RunnerLocks) -> None:
    with holder(folder, path, "fork") as process:
        process.kill()
        assert process.wait() != 0
        until(lambda: locks.take(ONE), seconds=10)  # the child still lives: its input has not ended
