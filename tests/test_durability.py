"""What is made survives a power cut right after it was told: files, folders, and the names of both."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import environment

RELAXED = (
    "import sys; from jobrunner import App; App(sys.argv[1], relaxed=True).counts(); sys.stdout.write(sys.argv[1])"
)


def traced(folder: Path, *arguments: str) -> list[str]:
    """The syncs and writes of a Python program, in order."""
    trace = folder / "strace"
    watched = ["strace", "-y", "-s", "500", "-o", str(trace), "-e", "trace=fsync,fdatasync,write,pwrite64"]
    command = [*watched, sys.executable, *arguments]
    try:
        subprocess.run(command, env=environment(folder), check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("strace is missing or may not be used on this machine (apt install strace)")
    return trace.read_text().splitlines()


@pytest.mark.parametrize("way", ["init", "the first use of a relaxed app"])
def test_what_is_made_is_on_disk_before_it_is_told(folder: Path, way: str) -> None:
    path = folder / "deep" / "er" / "jobs.db"
    words = ["-m", "jobrunner", "--db", str(path), "init"] if way == "init" else ["-c", RELAXED, str(path)]
    lines = traced(folder, *words)
    told = next(number for number, line in enumerate(lines) if line.startswith("write(1<") and str(path) in line)
    synced = {found[1] for line in lines[:told] if (found := re.match(r"f(?:data)?sync\(\d+<(.*)>\)", line))}
    assert {str(place) for place in (folder, path.parents[1], path.parent, path, f"{path}-wal")} <= synced


def test_nothing_is_written_after_the_last_sync_of_a_made_schema(folder: Path) -> None:
    path = folder / "jobs.db"
    ours = [line for line in traced(folder, "-m", "jobrunner", "init") if f"<{path}" in line]
    assert any("sync(" in line for line in ours)
    assert "sync(" in ours[-1], ours[-3:]
