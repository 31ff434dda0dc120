"""The wall clock is set forward or back by an hour while a runner works."""

import shutil
import subprocess
from pathlib import Path

import pytest

from jobrunner import App, Retry, Status
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import ROOT
from tests.helpers.trace import marks, starts
from tests.helpers.waiting import until

HOUR = 3600


@pytest.fixture
def clock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says by how many seconds the clock of what is started from now on is moved."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler on this machine (apt install gcc libc6-dev)")
    shim, moved = folder / "shim.so", folder / "moved"
    source = ROOT / "tests/helpers/clock_shim.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    moved.write_text("0")
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("CLOCK_MOVED_BY", str(moved))
    return moved


@pytest.mark.parametrize("hours", [1, -1])
@pytest.mark.parametrize("mode", ["process", "thread"])
def test_timeouts_graces_and_rescues_do_not_depend_on_the_wall_clock(
    app: App, runner: StartRunner, folder: Path, path: Path, clock: Path, mode: str, hours: int
) -> None:
    late = app.enqueue("tests.together:polite", timeout="2s")
    steady = app.enqueue("tests.tasks:wait_for_file", {"name": "go"}, timeout="50s")
    first = runner(mode=mode, jobs=2, kill_grace=0.5)
    until(lambda: len(marks(folder)) == 2)
    clock.write_text(str(hours * HOUR))
    after = app.enqueue("tests.tasks:square", {"n": 3})
    assert after.result(timeout=30) == 9
    started = rows(path, "SELECT started_at - created_at FROM jr_invocation WHERE id = ?", after.id)[0][0]
    assert abs(started - 1000 * HOUR * hours) < 60_000, "the clock was really moved"
    app.wait([late], timeout=30)
    assert (late.status, late.details.error_message) == (Status.FAILED, "ran longer than its timeout of 2 s")
    assert steady.status is Status.RUNNING, "an hour forward is no hour of work"
    first.kill()
    runner(mode=mode, jobs=2)
    until(lambda: starts(folder)[steady.id] == 2)
    (folder / "go").touch()
    assert steady.result(timeout=30) == "go"


@pytest.mark.parametrize("hours", [1, -1])
def test_a_retry_comes_when_it_had_to_come_and_a_chosen_moment_stays(
    app: App, runner: StartRunner, path: Path, clock: Path, hours: int
) -> None:
    later = app.enqueue("tests.tasks:square", {"n": 2}, delay="2h")
    retried = app.enqueue("tests.tasks:fail_later", retry=Retry(attempts=2, base="6s", jitter=0))
    runner(jobs=2)
    runner(jobs=2)  # both notice, and one moves it
    until(lambda: retried.status is Status.SCHEDULED)
    waits, chosen = (
        rows(path, "SELECT run_at FROM jr_invocation WHERE id = ?", one.id)[0][0] for one in (retried, later)
    )
    clock.write_text(str(hours * HOUR))
    app.wait([retried], timeout=30)
    first, second = rows(path, "SELECT started_at, finished_at FROM jr_attempt WHERE invocation = ?", retried.id)
    waited = second[0] - first[1] - 1000 * HOUR * hours
    assert 5_000 < waited < 20_000, f"it waited {waited} ms, and was to wait 6 s"
    now = rows(path, "SELECT run_at FROM jr_invocation WHERE id IN (?, ?) ORDER BY id", later.id, retried.id)
    assert now[0][0] == chosen
    assert abs(now[1][0] - waits - 1000 * HOUR * hours) < 1000
    assert rows(path, "SELECT jumps FROM jr_clock") == [(1,)]
