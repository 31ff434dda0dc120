"""The demo: the main job on real input, which checks its own totals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.check import differences, plain_loop

pytestmark = pytest.mark.heavy

TOP = Path(__file__).parent.parent
FEW = "25"


def demonstrate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it on a few files, with its temporary folder inside of ours."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "demo.main", "--limit", FEW, *words]
    return subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False, timeout=100)


def test_the_totals_of_the_demo_agree_and_nothing_is_left_of_it(folder: Path) -> None:
    done = demonstrate(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("the totals agree: ")
    assert "broken.py  SyntaxError: " in done.stdout
    assert list(folder.iterdir()) == []


def test_the_demo_keeps_its_database_on_request(folder: Path) -> None:
    done = demonstrate(folder, "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    (kept,) = folder.iterdir()
    assert (kept / "jobs.db").exists()


def test_the_demo_tells_which_file_was_counted_wrong(folder: Path) -> None:
    right, wrong = folder / "right.py", folder / "wrong.py"
    for file in (right, wrong):
        file.write_text("def f():\n    pass\n", "utf-8")
    expected = plain_loop([str(right), str(wrong)])
    told = {**expected, str(wrong): "SyntaxError: no"}
    totals_differ, file_differs = differences(expected, told)
    assert "unparsable=1" in totals_differ
    assert file_differs.startswith(f"{wrong}: the plain loop says ")
    assert list(differences(expected, expected)) == []
