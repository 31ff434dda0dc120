"""Who is alive: a runner holds a byte of a lock file for life, and what it started carries its token.

The kernel frees the byte when the process ends, however it ends, keeps it while the process is merely
stopped, and does not hand it on over a fork. So a free byte proves a death; no clock is asked.
"""

import fcntl
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

from jobrunner.database_file import open_beside
from jobrunner.lifetime import Closing
from jobrunner.models import RunnerId

TOKEN_VARIABLE = "JOBRUNNER_RUNNER"
"""In the environment of every process that a runner started: the runner's token."""

LEFTOVER_SECONDS = 5.0
"""How long to wait for killed processes to be gone; one that hangs in the kernel is left to it."""


def new_token() -> str:
    """A name that no other runner has had."""
    return os.urandom(16).hex()


class RunnerLocks(Closing):
    """The file `<database>-runners`. One open descriptor for the life of the process: closing any frees all locks."""

    def __init__(self, database: Path) -> None:
        self._descriptor = open_beside(database, "-runners", os.O_RDWR | os.O_CREAT)

    def close(self) -> None:
        """Free every lock that this process holds on the file."""
        os.close(self._descriptor)

    def take(self, runner: RunnerId) -> bool:
        """Lock the runner's byte; False where a living process has it."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, runner)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def free(self, runner: RunnerId) -> None:
        """Give the runner's byte back."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, runner)

    def holder(self, runner: RunnerId) -> int | None:
        """Who else has the runner's byte, as `holders` tells it."""
        return _holder(self._descriptor, runner)


def holders(database: Path, runners: Iterable[RunnerId]) -> dict[RunnerId, int]:
    """The pids that hold the bytes of these runners, of those that live.

    A pid is 0 or less where the holder is in a pid namespace that cannot be seen from here. For clients: in a
    runner's own process it would free its lock.
    """
    try:
        descriptor = open_beside(database, "-runners", os.O_RDONLY)
    except FileNotFoundError:
        return {}
    try:
        found = {one: _holder(descriptor, one) for one in runners}
        return {one: pid for one, pid in found.items() if pid is not None}
    finally:
        os.close(descriptor)


# struct flock: Linux has its type first, the BSDs have it last.
_FLOCK = struct.Struct("hhqqi4x" if sys.platform == "linux" else "qqihh")


def _holder(descriptor: int, runner: RunnerId) -> int | None:
    """Asks without locking, so nobody that tries the byte at this moment is turned away."""
    if sys.platform == "linux":
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, runner, 1, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    else:
        asked = _FLOCK.pack(runner, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
        _, _, pid, kind, _ = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)


def kill_leftovers(token: str, spares: Callable[[Mapping[str, str]], bool] = lambda _: False) -> list[int]:
    """Kill every process that carries the token of a dead runner or template; gives their pids.

    `spares` is asked, with its environment, whether one belongs to what still lives.
    """
    killed: list[int] = []
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while (found := _carriers(token, spares)) and time.monotonic() < deadline:
        for process in found:
            try:
                process.send_signal(signal.SIGKILL)  # psutil checks the start time: never a recycled pid
            except psutil.Error:
                continue
            killed.append(process.pid)
        psutil.wait_procs(found, timeout=LEFTOVER_SECONDS)
    return killed


def _carriers(token: str, spares: Callable[[Mapping[str, str]], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ() if process.pid != os.getpid() else {}
            is_ours = environment.get(TOKEN_VARIABLE) == token and not spares(environment)
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
