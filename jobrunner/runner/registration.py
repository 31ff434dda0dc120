"""A runner's entry in the list of runners, and what it does for those that died."""

import json
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from jobrunner import orchestrator, ownership
from jobrunner.database import Database
from jobrunner.errors import UsageError
from jobrunner.kernel import boot_id
from jobrunner.models import Claimed, Runner, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.ownership import RunnerLocks
from jobrunner.policy import Policy
from jobrunner.runner.settings import RunSettings
from jobrunner.times import now_ms
from jobrunner.version import VERSION

HEARTBEAT_SECONDS = 10.0
"""The heartbeat is for display; it rides on transactions that are made anyway, so an idle runner writes nothing."""

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

    def rescue(self) -> int:
        """Find runners that died, kill what they left, and give their invocations back; tells how many these were."""
        others = [Runner(*row) for row in self._database.query("other_runners", runner=self.id)]
        return sum(self._rescue(other) for other in others if self._locks.take(other.id))

    def _rescue(self, dead: Runner) -> int:
        # We hold its lock now: no other rescuer does this at the same time.
        try:
            killed = self._kill_leftovers(dead.token)
            with self._database.transaction():
                orphaned = [Claimed(*row) for row in self._database.query("held_by", runner=dead.id)]
                for claimed in orphaned:
                    orchestrator.record(self._database, _orphaned(claimed), dead.id)
                self._database.query("forget_processes", runner=dead.id)
                self._database.query("stop_runner", runner=dead.id, now=now_ms(), reason="died")
        finally:
            self._locks.free(dead.id)
        log.warning(
            "runner %d had died; killed %d of its processes, took over %d jobs", dead.id, len(killed), len(orphaned)
        )
        return len(orphaned)


def _orphaned(claimed: Claimed) -> Ended:
    try:
        return Ended(claimed, Policy.from_json(claimed.policy), None, None)
    except UsageError as error:
        return orchestrator.unreadable(claimed, error)
