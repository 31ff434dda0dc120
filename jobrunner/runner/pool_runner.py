"""What a runner does with jobs that are done in threads: it places them, hears of them, and claims some ahead.

Programs get a process of their own here, too.
"""

import functools
import logging
import signal
from collections.abc import Iterator

from jobrunner.channel import Message
from jobrunner.models import Exit
from jobrunner.runner import messages
from jobrunner.runner.ahead import Ahead
from jobrunner.runner.filling import Filling, needs_its_own_process
from jobrunner.runner.running import Running
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.template_runner import TemplateRunner
from jobrunner.runner.worker_process import PoolWorker, WorkerProcess

MOST_AHEAD = 256
SHORT_SECONDS = 0.005
"""Jobs are claimed beyond the free threads only where one takes less than this."""
MANY_WAITING = 100
"""So many threads of a process that wait for results are worth a warning."""
ENOUGH_SECONDS = 0.02
"""So long the threads are to have enough to do without us."""

log = logging.getLogger("jobrunner.runner")


class PoolRunner(TemplateRunner):
    """Places functions in threads of up to `jobs` processes, `threads` in each."""

    WAITING_FOR_RESULTS_WARNING = (
        "%d threads of process %d wait for results, and each keeps its stack and what its job holds: "
        "jobs that wait so much are better done by a runner with --mode process, which stops them meanwhile"
    )

    def __init__(self, conf: RunSettings) -> None:
        super().__init__(conf)
        self._filled: set[PoolWorker] = set()
        self._filling = Filling(self.max_processes)
        self._ahead = Ahead(MOST_AHEAD, SHORT_SECONDS, ENOUGH_SECONDS)

    @property
    def max_parallel_slots(self) -> int:
        """How many invocations at a time: processes times threads."""
        return self.max_processes * self.conf.threads

    @property
    def max_processes(self) -> int:
        """How many processes take work at a time; those that only finish what they have are not counted."""
        return self.conf.jobs

    @property
    def processes(self) -> dict[int, PoolWorker]:
        """The processes of threads, by key."""
        return {key: worker for key, worker in self._workers.items() if isinstance(worker, PoolWorker)}

    @property
    def _serving(self) -> int:
        return sum(not pool.retiring for pool in self.processes.values())

    # Placing

    def _start(self, running: Running) -> None:
        is_alone = needs_its_own_process(running)
        pool = None if is_alone else self._filling.choose()
        begins = pool is None or (not self._filling.is_crowding and pool.has_room)
        if begins and self._has_too_many_at_work():
            self._put_off(running)
        elif is_alone:
            self._start_process(running)
        else:
            pool = pool or self._spawn_thread_runner_process()
            pool.give(running)
            self._filled.add(pool)

    def _send_off(self) -> None:
        # Together: each message that is sent wakes its process, which takes longer than anything else here.
        for pool in self._filled:
            pool.hand_over()
            self._flush(pool)
        self._filled.clear()

    def _spawn_thread_runner_process(self) -> PoolWorker:
        pool = PoolWorker(self._next_key, self.conf.threads, self.conf.max_tasks_per_child)
        self._spawn(pool, "pool", self.conf.threads)
        self._filling.started(pool)
        return pool

    def _heed_message(self, worker: WorkerProcess, message: Message) -> None:
        match worker, message[0]:
            case PoolWorker(), "done":
                self._have_succeeded(worker, messages.parse_done(message))
            case PoolWorker(), "returned":
                self._returned(worker, messages.parse_returned(message))
            case _:
                super()._heed_message(worker, message)

    def _have_succeeded(self, worker: PoolWorker, done: messages.Done) -> None:
        self._ahead.delivered(len(done.jobs), done.took_us / 1_000_000)
        ended = []
        for invocation_id, claim, outcome, cpu_ms in done.jobs:
            running = worker.held.get(invocation_id)
            if running is None or running.claimed.claim != claim:
                continue
            if running.paused_at is not None:
                self._take_outcome(worker, running, messages.Delivered(outcome, cpu_ms))
                continue
            del worker.held[invocation_id]
            running.outcome, running.exit = outcome, _exit(worker.pid, cpu_ms)
            ended.append(running)
        if ended:
            self._have_ended(worker, *ended)

    def _delivered(
        self, worker: WorkerProcess, running: Running, cpu_ms: int | None = None, peak_kb: int | None = None
    ) -> None:
        if isinstance(worker, PoolWorker):
            del worker.held[running.claimed.id]
            running.exit = _exit(worker.pid, cpu_ms)
            self._have_ended(worker, running)

    def _have_ended(self, pool: PoolWorker, *those: Running) -> None:
        # Together: to tell everybody of each takes longer than a short job.
        pool.done += len(those)
        pool.backlog.moved()
        self._attempts.conclude(*those)
        self._end_if_empty(pool)

    def _end_if_empty(self, pool: PoolWorker) -> None:
        if pool.retiring and not pool.held:
            self._tell(pool, "end")

    # Claimed ahead

    @property
    def _lined_up(self) -> int:
        return sum(pool.queued for pool in self.processes.values())

    def _reclaim_available_slots(self) -> int:
        """How many threads are free, or can be had.

        What is on its way back from one that was asked for it keeps its slots: others wait for it, perhaps.
        """
        staying = sum(pool.queued for pool in self.processes.values() if not pool.backlog.is_coming_back)
        return super()._reclaim_available_slots() + staying

    def _has_too_many_at_work(self) -> bool:
        """Whether there is no slot for the one that is to be placed: it was claimed ahead, and would begin at once."""
        return self._attempts.holding_slots - self._lined_up > self.max_parallel_slots

    def _put_off(self, running: Running) -> None:
        self._ahead.rest()  # the next ones are probably like it
        self._attempts.put_back(running)

    def _claims_ahead(self) -> int:
        behind = self._filling.room_behind() - self._reclaim_available_slots()
        return max(0, min(super()._claims_ahead(), behind))

    def _look_ahead(self) -> None:
        """Claim ahead while jobs are short; what waits behind long ones is given back, for any free thread to take."""
        self._ahead.turn(self.conf.threads * max(1, self._serving))
        self._ahead.heed(self._attempts)
        if any(not isinstance(one, PoolWorker) or (one.retiring and one.held) for one in self._workers.values()):
            self._ahead.none()  # they have some of the slots: there are free threads that would begin it at once
        for pool in self.processes.values():
            if pool.queued and pool.backlog.is_stuck:
                self._ahead.none()
                pool.backlog.asked_back()
                self._ask_back(pool)

    def _ask_back(self, pool: PoolWorker) -> None:
        pool.ask_back()
        self._flush(pool)

    def _returned(self, pool: PoolWorker, those: list[tuple[int, int]]) -> None:
        pool.backlog.came_back()
        for invocation_id, claim in those:
            running = pool.held.get(invocation_id)
            if running is not None and running.claimed.claim == claim:
                del pool.held[invocation_id]
                self._attempts.put_back(running)
        self._end_if_empty(pool)

    def _moments(self) -> Iterator[float | None]:
        yield from super()._moments()
        for pool in self.processes.values():
            if pool.queued:
                yield pool.backlog.next_moment

    # Signals to threads

    def _signal(self, running: Running, number: int) -> None:
        worker = self._worker_of(running)
        if isinstance(worker, PoolWorker):
            self._signal_thread(worker, running, number)
        elif worker is not None:
            self._signal_process(worker, number)

    def _signal_thread(self, pool: PoolWorker, running: Running, number: int) -> None:
        """TERM is an exception in the thread. KILL ends the process, once the other jobs in it are over."""
        if number == signal.SIGTERM:
            self._tell(pool, "interrupt", running.claimed.id, running.claimed.claim)
        if number == signal.SIGKILL:
            pool.retiring = True
            unstarted = pool.unstarted  # they would wait for ever where a job lets no other thread run
            begun = [one for one in pool.runnings if one not in unstarted]
            if all(one.stopped is not None or one.paused_at is not None for one in begun):
                for one in begun:
                    one.stopped = one.stopped or "neighbour"
                self._signal_process(pool, signal.SIGKILL)

    def _pause_waiting_process(self, running: Running) -> None:
        """A thread that waits just waits; another takes its place, so that its slot is free."""
        worker = self._worker_of(running)
        for pool in self.processes.values():
            if pool is worker or pool.queued:  # the slot is for what it waits for: it is placed next, or waits in there
                self._ask_back(pool)
        if not isinstance(worker, PoolWorker):
            self._attempts.halt_later(running)
            return
        if worker.grow() and worker.extra == MANY_WAITING:
            log.warning(self.WAITING_FOR_RESULTS_WARNING, MANY_WAITING, worker.pid)
        self._flush(worker)

    def _end_extra_threads(self) -> None:
        """One that has waited goes on or is over, and the thread that took its place is one too many."""
        for pool in self.processes.values():
            if pool.extra:
                pool.shrink()
                self._flush(pool)

    def _resume_waiting_process(self, running: Running) -> None:
        if not isinstance(self._worker_of(running), PoolWorker):
            self._attempts.go_on(running)


@functools.lru_cache(256)  # of many short jobs, most took no whole millisecond
def _exit(pid: int, cpu_ms: int | None) -> Exit:
    return Exit(pid, cpu_ms=cpu_ms)
