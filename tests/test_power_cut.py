"""What was told is on disk, wherever the power is cut."""

import json
import os
import shutil
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


@pytest.mark.parametrize("kind", ["full", "relaxed"])
@pytest.mark.parametrize(
    ("seed", "rounds"),
    [
        pytest.param(1, 5, id="short"),
        pytest.param(2, 150, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1000)]),
    ],
)
def test_what_was_told_survives_where_a_real_filesystem_loses_its_power(
    folder: Path, say: Say, seed: int, rounds: int, kind: str
) -> None:
    found = cut_ext4(folder, seed, rounds, kind)
    assert found["wrong"] == []
    assert found["told"] > 10 * rounds
    say(f"ext4, {kind}: power cut {rounds} times after {found['told']} were told of, nothing lost or damaged")


def test_who_tells_too_early_is_found_out_by_a_real_filesystem(folder: Path) -> None:
    # On a busy machine what is cut off may not be what was told of: then it is cut again.
    assert any(cut_ext4(folder, seed, 5, "liar")["wrong"] for seed in range(1, 6))


def cut_ext4(folder: Path, seed: int, rounds: int, kind: str) -> dict[str, Any]:
    """So many times a filesystem that loses its power in the middle of work, and what is wrong after it."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None or not Path("/dev/loop-control").exists():
        pytest.skip("mounting ext4 from a file takes root, loop devices and mkfs.ext4 (apt install e2fsprogs)")
    words = [sys.executable, "-m", "tests.batteries.ext4_cut", str(seed), str(rounds), kind, str(folder)]
    done = subprocess.run(words, env=environment(folder), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
