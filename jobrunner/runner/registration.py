"""A runner's entry in the list of runners, and its look at the others."""

import json
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from jobrunner import ownership
from jobrunner.database import Database
from jobrunner.kernel import boot_id
from jobrunner.models import Runner, RunnerId
from jobrunner.ownership import RunnerLocks
from jobrunner.runner.rescue import rescue
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.takeover import Overseer
from jobrunner.times import now_ms
from jobrunner.version import VERSION

HEARTBEAT_SECONDS = 10.0
"""The heartbeat is for display; it rides on transactions that are made anyway, so an idle runner writes nothing."""

RESCUE_SECONDS = 0.4
"""How often to look for runners that died: a locked byte each, no write."""

log = logging.getLogger("jobrunner.runner")


class Introduction(NamedTuple):
    """What a runner says of itself beside its settings."""

    mode: str
    slots: int
    token: str


class Registration:
    """From the moment at which others can see the runner to the one at which it says that it stopped."""

    def __init__(
        self,
        database: Database,
        locks: RunnerLocks,
        settings: RunSettings,
        said: Introduction,
        kill_leftovers: Callable[[str], list[int]] = ownership.kill_leftovers,
    ) -> None:
        self._database = database
        self._locks = locks
        self._kill_leftovers = kill_leftovers
        self._beat_at = time.monotonic()
        self._rescued_at = 0.0
        with database.transaction():
            row = database.query(
                "register_runner",
                mode=said.mode,
                slots=said.slots,
                queues=json.dumps(settings.queues),
                host=socket.gethostname(),
                pid=os.getpid(),
                boot_id=boot_id(),
                token=said.token,
                version=VERSION,
                now=now_ms(),
            )[0]
            self.id = RunnerId(row[0])
            # Before the commit: nobody may ever see the row without the lock, and take us for dead.
            locks.take(self.id)
        self._overseer = Overseer(database, locks, self.id, settings.takeover_after)

    def beat(self) -> None:
        """Say that we live, where that was long ago."""
        if time.monotonic() - self._beat_at >= HEARTBEAT_SECONDS:
            self._beat_at = time.monotonic()
            self._database.query("heartbeat", runner=self.id, now=now_ms())

    def stop(self, reason: str) -> None:
        """Say that we are done; nothing may be ours any more."""
        with self._database.transaction():
            self._database.query("forget_processes", runner=self.id)
            self._database.query("stop_runner", runner=self.id, now=now_ms(), reason=reason)

    def is_time_to_rescue(self) -> bool:
        """Whether the last look for the dead is long enough ago; from now on it is not."""
        is_time = time.monotonic() - self._rescued_at >= RESCUE_SECONDS
        self._rescued_at = time.monotonic() if is_time else self._rescued_at
        return is_time

    def rescue(self) -> int:
        """Find runners that died, kill what they left, and give their invocations back; tells how many these were."""
        others = [Runner(*row) for row in self._database.query("other_runners", runner=self.id)]
        self._overseer.look(others)
        return sum(self._rescue(other) for other in others if self._locks.take(other.id))

    def _rescue(self, dead: Runner) -> int:
        rescued = rescue(self._database, self._locks, dead, self._kill_leftovers)
        if rescued is None:
            return 0
        killed, jobs = rescued
        log.warning("runner %d had died; killed %d of its processes, took over %d jobs", dead.id, killed, jobs)
        return jobs
