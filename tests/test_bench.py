"""The bench can be run; how fast anything is, no test asks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.measure import all_measures
from bench.peers import GROUP as PEERS
from bench.targets import TARGETS, Target

pytestmark = pytest.mark.heavy

TOP = Path(__file__).parent.parent


def measure(folder: Path, *words: str) -> str:
    """What a quick bench prints."""
    command = [sys.executable, "-m", "bench.main", "--quick", "--folder", str(folder), *words]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_quick_bench_measures_everything_but_the_peers(folder: Path) -> None:
    told = json.loads(measure(folder, "--json"))
    wanted = [figure.key for one in all_measures() if one.group != PEERS for figure in one.figures]
    assert [figure["key"] for figure in told["figures"]] == wanted
    assert len(told["ratios"]) > 20
    assert list(folder.iterdir()) == []


def test_the_bench_tells_its_conditions_and_marks_a_quick_run(folder: Path) -> None:
    first, second, *_ = measure(folder, "--only", "commits").splitlines()
    assert "QUICK" in first
    assert [word for word in ("Python ", "SQLite ", " cores") if word not in second] == []


def test_a_quick_bench_is_never_recorded(folder: Path) -> None:
    command = [sys.executable, "-m", "bench.main", "--quick", "--record", "--folder", str(folder)]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 2
    assert "nothing to record" in done.stderr


def test_a_target_says_whether_it_is_reached() -> None:
    ratio = Target("twice", "ours", "theirs", ">= 2")
    assert [ratio.reached(value) for value in (2.0, 1.9)] == [True, False]
    assert ratio.of({"ours": 6.0, "theirs": 3.0}) == 2.0
    assert ratio.of({"ours": 6.0}) is None
    less = Target("beyond", "ours", "theirs", "< 2", "-")
    assert less.of({"ours": 5.0, "theirs": 3.0}) == 2.0
    assert less.reached(2.0) is False


def test_every_target_names_figures_that_are_measured() -> None:
    measured = {figure.key for one in all_measures() for figure in one.figures}
    named = {key for target in TARGETS for key in (target.figure, target.beside) if key}
    assert named - measured == set()
