"""Killed at each of its writes in turn, a commit is whole or was none, and what was told is there."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobrunner import App
from tests import tasks
from tests.helpers.files import rows
from tests.helpers.processes import ROOT, RunnerProcess, environment
from tests.helpers.trace import starts

Drain = Callable[..., RunnerProcess]
BATCH = 50
ENQUEUE = f"""
from tests import tasks
tasks.touch.enqueue()
jobs = tasks.touch.enqueue_many({{}} for _ in range({BATCH}))
print(*[job.id for job in jobs], flush=True)
"""
FEWEST = {"pwrite64": 50, "fdatasync": 9}
"""So many of these calls an enqueuer and a runner make at least: up to there, each of them was killed."""
SHORT = [("pwrite64", number) for number in (1, 2, 7, 13, 30, 60, 90)] + [("fdatasync", number) for number in (1, 2, 3)]
LONG = [(call, number) for call, most in (("pwrite64", 160), ("fdatasync", 12)) for number in range(1, most)]
CALLS = [
    *SHORT,
    *(pytest.param(*one, marks=[pytest.mark.long]) for one in LONG if one not in SHORT),
]


def killed_at(folder: Path, call: str, number: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program that is killed when it makes this system call for the nth time, if it makes it as often."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("there is no strace on this machine (apt install strace)")
    inject = f"inject={call}:signal=KILL:when={number}"
    done = subprocess.run(
        [strace, "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, *words],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if "strace:" in done.stderr:
        pytest.skip(f"strace may not be used on this machine: {done.stderr.strip()}")
    killed = done.returncode == -signal.SIGKILL
    assert killed or done.returncode == 0, done.stderr
    assert killed or number > FEWEST[call], "it makes this call as often, and was not killed at it"
    return done


def check_file(path: Path) -> None:
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(("call", "number"), CALLS)
def test_an_enqueuer_that_is_killed_at_a_write(
    app: App, folder: Path, path: Path, drain: Drain, call: str, number: int
) -> None:
    done = killed_at(folder, call, number, sys.executable, "-c", ENQUEUE)
    if not path.exists():
        assert done.returncode != 0
        return
    app.close()
    ids = [job.id for job in map(app.invocation, range(1, sum(app.counts().values()) + 1))]
    check_file(path)
    assert len(ids) in {0, 1, 1 + BATCH}
    assert {int(word) for word in done.stdout.split()} <= set(ids)
    assert done.returncode != 0 or len(ids) == 1 + BATCH
    drain()
    assert starts(folder) == dict.fromkeys(ids, 1)


@pytest.mark.parametrize(("call", "number"), CALLS)
def test_a_runner_that_is_killed_at_a_write(
    app: App, folder: Path, path: Path, drain: Drain, call: str, number: int
) -> None:
    jobs = tasks.touch.enqueue_many({} for _ in range(3))
    app.close()
    words = [sys.executable, "-m", "jobrunner", "run", "--drain", "-j", "1", "--app-dir", str(ROOT)]
    killed_at(folder, call, number, *words)
    check_file(path)
    drain()
    assert set(starts(folder)) == {job.id for job in jobs}
    assert {job.details.status for job in jobs} == {"success"}
    succeeded = "SELECT invocation, count(*) FROM jr_attempt WHERE outcome = 'success' GROUP BY invocation"
    assert dict(rows(path, succeeded)) == dict.fromkeys((job.id for job in jobs), 1)
