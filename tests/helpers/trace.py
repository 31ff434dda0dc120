"""What jobs write down themselves, where no database is needed to read it: the ground truth of what was executed."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

FOLDER_VARIABLE = "JOBRUNNER_TEST_FOLDER"
"""In the environment of all that a test starts: the test's own folder."""


class Mark(NamedTuple):
    """A line that a job appended: which job and claim, which process, and what happened: S it started, E it ended."""

    id: int
    claim: int
    pid: int
    event: str


def append_mark(folder: Path, mark: Mark) -> None:
    """One write to a file opened with O_APPEND: lines of several processes never mix."""
    descriptor = os.open(folder / "trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(descriptor, f"{mark.id} {mark.claim} {mark.pid} {mark.event}\n".encode())
    os.close(descriptor)


def marks(folder: Path, event: str = "S") -> list[Mark]:
    """What the jobs wrote down, in order."""
    found = (line.split() for line in whole_lines(folder / "trace"))
    return [Mark(int(one), int(claim), int(pid), what) for one, claim, pid, what in found if what == event]


def whole_lines(file: Path) -> list[str]:
    """The lines of a file that others append to: of a write that crosses a page, the first part may be seen alone."""
    return file.read_text().split("\n")[:-1] if file.exists() else []


def starts(folder: Path) -> Counter[int]:
    """How often each job was started."""
    return Counter(mark.id for mark in marks(folder))
