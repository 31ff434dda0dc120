"""What a process of threads is doing, for the runner that scales by it, and in the table for people."""

import time
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from jobrunner import state_backend
from jobrunner.database import Database
from jobrunner.models import Process, RunnerId
from jobrunner.runner.worker_process import PoolWorker
from jobrunner.times import now_ms

_NEWS_SECONDS = 0.1


class ProcessState(Enum):
    """Whether a process has work."""

    ACTIVE = "active"
    IDLE = "idle"


class ProcessStatus(NamedTuple):
    """A process of threads: when its state last changed (monotonic seconds), how many attempts it does, its state."""

    last_update: float
    active_count: int
    state: ProcessState

    def is_idle(self, now: float, idle_timeout: float) -> bool:
        """Whether it has been idle for longer than `idle_timeout` seconds."""
        return self.state is ProcessState.IDLE and now - self.last_update > idle_timeout


class PoolNews:
    """What people see of the processes, written at most ten times a second and only where it has changed."""

    def __init__(self) -> None:
        self._told: list[tuple[int, ProcessStatus]] = []
        self._telling: list[tuple[int, ProcessStatus]] | None = None
        self._told_at = 0.0

    def are_there(self, pools: Mapping[int, PoolWorker], status: Mapping[int, ProcessStatus]) -> bool:
        """Whether `write` has something to tell."""
        return time.monotonic() - self._told_at >= _NEWS_SECONDS and self._told != _seen(pools, status)

    def write(
        self,
        database: Database,
        runner: RunnerId,
        pools: Mapping[int, PoolWorker],
        status: Mapping[int, ProcessStatus],
    ) -> None:
        """Inside a transaction: write it down, where there is news; `are_written` follows."""
        self._telling = None
        if self.are_there(pools, status):
            self._telling = _seen(pools, status)
            ago = now_ms() - round(1000 * time.monotonic())
            rows = [
                Process(
                    runner,
                    key,
                    pools[key].pid,
                    pools[key].threads,
                    one.active_count,
                    one.state.value,
                    ago + round(1000 * one.last_update),
                )
                for key, one in status.items()
                if key in pools
            ]
            state_backend.put_processes(database, runner, rows)

    def are_written(self) -> None:
        """The commit is certain."""
        if self._telling is not None:
            self._told, self._told_at = self._telling, time.monotonic()


def _seen(pools: Mapping[int, PoolWorker], status: Mapping[int, ProcessStatus]) -> list[tuple[int, ProcessStatus]]:
    return [(pool.pid, status[key]) for key, pool in pools.items() if key in status]
