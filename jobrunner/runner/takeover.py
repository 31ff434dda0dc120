"""Other runners that hang: told of once, and, where the settings say so, killed, so that they can be rescued."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from jobrunner import pulse
from jobrunner.database import Database
from jobrunner.models import Runner, RunnerId
from jobrunner.ownership import RunnerLocks
from jobrunner.pulse import Sign
from jobrunner.times import words

WARN_SECONDS = 2.0
"""How long a runner stands still before that is told: several turns of an idle loop."""
_LONGEST_STEP = 0.5
"""What one look adds at most: had we been stopped ourselves, the time would prove nothing about the others."""

log = logging.getLogger("jobrunner.runner")


@dataclass
class _Watched:
    process: psutil.Process
    last: Sign
    still: float = 0.0
    told: bool = False


class Overseer:
    """A runner's eye on the others; `look` is called at the pace of the rescues."""

    def __init__(self, database: Database, locks: RunnerLocks, runner: RunnerId, after: float | None) -> None:
        self._database = database
        self._locks = locks
        self._runner = runner
        self._after = after
        self._watched: dict[RunnerId, _Watched] = {}
        self._looked_at = time.monotonic()

    def look(self, others: Iterable[Runner]) -> None:
        """See who stands still, and kill who does so for too long. Its jobs are for the rescue, once it is dead."""
        now = time.monotonic()
        step, self._looked_at = min(now - self._looked_at, _LONGEST_STEP), now
        before, self._watched = self._watched, {}
        for other in others:
            watched = self._see(other, before.get(other.id), step)
            if watched is not None:
                self._watched[other.id] = watched
                self._judge(other, watched)

    def _see(self, other: Runner, watched: _Watched | None, step: float) -> _Watched | None:
        holder = None if other.mode == "inline" else self._locks.holder(other.id)
        known = watched is not None and watched.process.pid == holder
        process = watched.process if watched and known else pulse.process_of(other, holder)
        if process is None:
            return None
        try:
            sign = pulse.sign(process)
        except psutil.Error:
            return None
        if watched is None or not known or not sign.is_still(watched.last):
            return _Watched(process, sign)
        watched.last = sign
        watched.still += step
        return watched

    def _judge(self, other: Runner, watched: _Watched) -> None:
        if not watched.told and watched.still >= WARN_SECONDS:
            watched.told = True
            log.warning(
                "runner %d does not answer (%s), and keeps its jobs: `jobrunner runner stop %d --kill` ends it",
                other.id,
                "its process is stopped" if watched.last.is_stopped else "its loop does not turn",
                other.id,
            )
        if self._after is not None and watched.still >= self._after:
            self._kill(other, watched)

    def _kill(self, other: Runner, watched: _Watched) -> None:
        why = f"killed by runner {self._runner}, since it had hung for {words(round(watched.still * 1000))}"
        log.warning("runner %d is %s", other.id, why)
        with self._database.transaction():
            self._database.query("condemn_runner", runner=other.id, reason=why)
        try:
            kill(self._locks, other, watched.process)
        except psutil.AccessDenied:
            watched.still = 0.0
            log.error("runner %d is another user's: it cannot be killed from here", other.id)


def kill(locks: RunnerLocks, runner: Runner, process: psutil.Process) -> None:
    """KILL the process if it still holds the runner's byte; psutil.AccessDenied where it is another user's."""
    if locks.holder(runner.id) != process.pid:
        return
    try:
        process.kill()  # psutil checks the start time: never a recycled pid
    except psutil.NoSuchProcess:
        return
