"""Plants each fault in a copy of the checkout and demands that a test of those named for it fails there.

`python -m tests.mutations.gate [WORD...]`: all of them, or those whose name has one of the words in it.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import psutil

from tests.helpers.processes import ROOT

FAULTS = Path(__file__).parent / "faults.toml"
COPIED = ("jobrunner", "tests", "schema.sql", "pyproject.toml", "README.md", "docs")
OWN_COPY = "tests/test_mutations.py::test_what_is_tested_is_the_package_beside_the_tests"
MARK = "JOBRUNNER_FAULT"
"""In the environment of all that is started beside a planted fault: the folder of the copy."""
SECONDS = 300
NO_NOTICE = ("SQLError", "SyntaxError", "ImportError", "IndentationError", "NameError")
"""A test that fails so has noticed that the planted text is no program, and not the fault."""


class Edit(NamedTuple):
    """What is replaced by what, in which file."""

    file: str
    find: str
    replace: str


class Fault(NamedTuple):
    """Something that could be wrong, and the tests that must notice it."""

    name: str
    edits: list[Edit]
    tests: list[str]
    quick: bool = False
    """Cheap enough to be planted by the suite itself."""


class Verdict(NamedTuple):
    """Which test noticed the fault, None where none did; and how long that took."""

    fault: Fault
    caught_by: str | None
    seconds: float


class NotPlanted(AssertionError):
    """The text to replace is not there, or several times, or the copy is not what is tested."""


def faults() -> list[Fault]:
    """All that are known."""
    return [
        Fault(one["name"], [Edit(**edit) for edit in one["edits"]], one["tests"], one.get("quick", False))
        for one in tomllib.loads(FAULTS.read_text())["fault"]
    ]


def plant(fault: Fault, copy: Path) -> None:
    """Make a copy of the checkout with the fault in it."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    for name, text in planted(fault).items():
        (copy / name).write_text(text)


def planted(fault: Fault) -> dict[str, str]:
    """The files that the fault is in, with it."""
    texts: dict[str, str] = {}
    for edit in fault.edits:
        text = texts.get(edit.file) or (ROOT / edit.file).read_text()
        if text.count(edit.find) != 1:
            raise NotPlanted(
                f"{fault.name}: {edit.file} has it {text.count(edit.find)} times, and not once: {edit.find}"
            )
        texts[edit.file] = text.replace(edit.find, edit.replace)
    return texts


def judge(fault: Fault) -> Verdict:
    """Plant it, run the tests that are named for it, and see."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="jobrunner-fault-") as folder:
        copy, report = Path(folder, "copy"), Path(folder, "report.xml")
        copy.mkdir()
        plant(fault, copy)
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "", f"--junitxml={report}"]
        try:
            done = subprocess.run(
                [*pytest, "--maxfail=1", f"--basetemp={folder}/tests", OWN_COPY, *fault.tests],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy), MARK: folder},
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        finally:
            _sweep(folder)
        if not report.exists():
            raise NotPlanted(f"{fault.name}: its tests cannot be run:\n{done.stdout}{done.stderr}")
        caught_by = _first_failure(fault, report)
    return Verdict(fault, caught_by, time.monotonic() - began)


def _sweep(folder: str) -> None:
    """End what a broken runner has left behind."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == folder:
                process.kill()


def _first_failure(fault: Fault, report: Path) -> str | None:
    own_copy = OWN_COPY.rpartition("::")[2]
    tried = [(str(case.get("name")), _said_of(case)) for case in ET.parse(report).iter("testcase")]
    if (own_copy, []) not in tried:
        raise NotPlanted(f"{fault.name}: it is not the copy that is tested, or nothing was")
    if len(tried) == 1:
        raise NotPlanted(f"{fault.name}: none of its tests was run")
    caught_by = None
    for name, said in tried:
        for kind, text in said:
            if kind == "skipped" or (kind == "error" and "on teardown" not in text):
                raise NotPlanted(f"{fault.name}: {name} cannot be run, so that it cannot notice: {text}")
            if any(word in text for word in NO_NOTICE):
                raise NotPlanted(f"{fault.name}: what was planted is no program: {text}")
            caught_by = caught_by or name
    return caught_by


def _said_of(case: ET.Element) -> list[tuple[str, str]]:
    """Why a test did not simply pass: failure, error or skipped, and the text."""
    return [(one.tag, one.get("message", "")) for one in case if one.tag in {"failure", "error", "skipped"}]


def main(words: list[str]) -> int:
    """Try all, say of each what caught it, and fail where nothing did."""
    wanted = [one for one in faults() if not words or any(word in one.name for word in words)]
    workers = int(os.environ.get("WORKERS", "2"))
    began = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        verdicts = []
        for verdict in pool.map(judge, wanted):
            verdicts.append(verdict)
            _tell(f"{verdict.fault.name:44} {verdict.caught_by or 'NOBODY NOTICED':70} {verdict.seconds:6.1f} s")
    missed = [one.fault.name for one in verdicts if one.caught_by is None]
    _tell(f"{len(verdicts) - len(missed)} of {len(verdicts)} faults were noticed, in {time.monotonic() - began:.0f} s")
    return 1 if missed or not verdicts else 0


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
