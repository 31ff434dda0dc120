"""Functions that the tests have done as jobs where more are claimed than there are slots."""

import mmap
import os
import re
import signal
import threading

from jobrunner import current
from tests.tasks import app, folder


@app.task
def count_at_work(seconds: float = 0.0005) -> int:
    """How many jobs are at it at a time, in whichever process."""
    place = folder() / "working"
    place.mkdir(exist_ok=True)
    mine = place / str(current().id)
    mine.touch()
    threading.Event().wait(seconds)
    count = len(list(place.iterdir()))
    mine.unlink()
    return count


@app.task
def nothing() -> None:
    """As short as can be."""


_counts: list[mmap.mmap] = []


@app.task(on_crash="fail")
def count_at_most_once(n: int) -> None:
    """Counted in the byte `n` of a file, in memory: to write into it would let other threads of the process run."""
    if not _counts:
        with (folder() / "counts").open("r+b") as file:
            _counts.append(mmap.mmap(file.fileno(), mmap.PAGESIZE))
    _counts[0][n] += 1


@app.task
def kill_process() -> None:
    """At the first time: without a word, and before anybody else of this process can say one."""
    if current().claim == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@app.task
def hang_in_c() -> None:
    """No other thread of the process runs until it is over, which takes longer than anybody waits."""
    re.match(r"(a+)+$", "a" * 60 + "b")
