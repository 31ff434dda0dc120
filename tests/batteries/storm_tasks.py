"""What jobs of a storm do: they say that they began and ended, and whether somebody else was at it already."""

import fcntl
import os
import time

from jobrunner import current
from tests.tasks import app, folder, mark

OVERLAP = "O"


@app.task
def work(milliseconds: int) -> int:
    """Hold a lock of its own for so long: the kernel tells whether another execution of this job lives."""
    descriptor = os.open(folder() / f"lock-{current().id}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mark(OVERLAP)
        mark("S")
        time.sleep(milliseconds / 1000)
        mark("E")
    finally:
        os.close(descriptor)
    return milliseconds
