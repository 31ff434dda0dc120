"""Threads in several processes: for many short jobs, and for those that wait for the network.

Processes are started while queued work exceeds the free threads, and ended when they are idle for long.
"""

import logging
import time

from jobrunner.runner.pool_runner import PoolRunner
from jobrunner.runner.pool_status import PoolNews, ProcessState, ProcessStatus
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.thread_runner import thread_runner_process_main
from jobrunner.runner.wear import Wear
from jobrunner.runner.worker_process import PoolWorker

__all__ = ["MultiThreadRunner", "ProcessState", "ProcessStatus", "thread_runner_process_main"]

log = logging.getLogger("jobrunner.runner")


class MultiThreadRunner(PoolRunner):
    """Starts, ends and replaces the processes."""

    mode = "thread"
    worker_modules = ("jobrunner.runner.thread_runner",)

    def __init__(self, conf: RunSettings) -> None:
        super().__init__(conf)
        self.shared_status: dict[int, ProcessStatus] = {}
        self._news = PoolNews()
        self._wear = Wear(conf.max_memory)

    # Scaling

    def _tend(self) -> None:
        self._filling.begin(self.processes.values())
        self._cleanup_dead_processes()
        self._end_extra_threads()
        self._scale_up_processes()
        self._recycle_processes()
        self._look_ahead()
        self._update_status()
        self._terminate_idle_processes()

    def _update_status(self) -> None:
        now = time.monotonic()
        for key, pool in self.processes.items():
            state = ProcessState.ACTIVE if pool.held else ProcessState.IDLE
            before = self.shared_status.get(key)
            since = before.last_update if before is not None and before.state is state else now
            self.shared_status[key] = ProcessStatus(since, min(pool.active, pool.threads), state)

    def _cleanup_dead_processes(self) -> None:
        """Forget the state of processes that are gone; their jobs were given back when the template told of it."""
        for key in self.shared_status.keys() - self.processes.keys():
            self._safe_remove_shared_state(key)

    def _safe_remove_shared_state(self, key: int) -> None:
        """Forget the state of a process, if any is known."""
        self.shared_status.pop(key, None)

    def _has_news(self) -> bool:
        return self._news.are_there(self.processes, self.shared_status)

    def _write_news(self) -> None:
        self._news.write(self.database, self._registration.id, self.processes, self.shared_status)

    def _news_are_written(self) -> None:
        self._news.are_written()

    def _scale_up_processes(self) -> None:
        """Keep the least number of processes; more are started where work is placed and no thread is free."""
        if self._is_stopping or self._must_rest():
            return
        for _ in range(self._least_processes - self._serving):
            try:
                self._spawn_thread_runner_process()
            except OSError as error:
                log.error("no process of threads: %s", error)
                self._rest()
                return

    def _terminate_idle_processes(self) -> None:
        """End what has been idle for too long, never below the least number."""
        now = time.monotonic()
        for key, status in self.shared_status.items():
            pool = self.processes[key]
            is_idle = not pool.held and status.is_idle(now, self.conf.idle_timeout)
            if is_idle and not pool.retiring and self._serving > self._least_processes:
                self._retire(pool, "idle")

    @property
    def _least_processes(self) -> int:
        return self.max_processes if self.conf.enforce_max_processes else self.conf.min_processes

    def _recycle_processes(self) -> None:
        """Retire those that have done enough, or grown too large; end them when their last job is over."""
        for pool, why in self._wear.worn(self.processes.values()):
            self._retire(pool, why)

    def _code_is_new(self) -> None:
        """What they have, they finish with the old code."""
        for pool in self.processes.values():
            if not pool.retiring:
                self._retire(pool, "it has the old code")

    def _retire(self, pool: PoolWorker, why: str) -> None:
        log.debug("process %d takes no more work: %s", pool.pid, why)
        pool.retiring = True
        self._end_if_empty(pool)
