"""What was told is on disk, wherever the power is cut."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Say
from tests.helpers.processes import environment


def cut(folder: Path, seed: int, points: int, disk: str) -> dict[str, Any]:
    """Images at so many points of a recorded piece of work, and what is wrong with them."""
    words = [sys.executable, "-m", "tests.batteries.power_cut", str(seed), str(points), disk]
    done = subprocess.run(words, env=environment(folder), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["told"] > 30
    return found


@pytest.mark.parametrize("disk", ["full", "relaxed"])
@pytest.mark.parametrize(
    ("seed", "points"),
    [
        pytest.param(1, 60, id="short"),
        pytest.param(2, 1000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1000)]),
    ],
)
def test_what_was_told_survives_a_power_cut_and_nothing_is_half_there(
    folder: Path, say: Say, seed: int, points: int, disk: str
) -> None:
    found = cut(folder, seed, points, disk)
    assert found["wrong"] == []
    say(f"{disk}: {points} images of {found['events']} writes and syncs, nothing lost or damaged")


def test_a_disk_that_ignores_syncs_is_found_out(folder: Path) -> None:
    found = cut(folder, 1, 40, "deaf")
    assert len(found["wrong"]) > 5
