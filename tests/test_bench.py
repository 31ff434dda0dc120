"""The bench can be run; how fast anything is, no test asks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.measure import all_measures
from bench.peers import GROUP as PEERS

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
