"""A process for each invocation, forked from the template."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jobrunner.models import Exit, InvocationId
from jobrunner.runner import messages
from jobrunner.runner.ahead import Ahead
from jobrunner.runner.backlog import Backlog
from jobrunner.runner.ready import MEASURED, PLAIN
from jobrunner.runner.running import Running
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.template_runner import TemplateRunner
from jobrunner.runner.waiting import ClassifiedInvocations
from jobrunner.runner.worker import run_invocation
from jobrunner.runner.worker_process import SingleWorker, WorkerProcess

__all__ = ["ChildProcessInfo", "ClassifiedInvocations", "ProcessRunner", "run_invocation"]

MOST_AHEAD = 32
SHORT_SECONDS = 0.05
"""Jobs are claimed beyond the free places only where one takes less than this, its fork included."""
ENOUGH_SECONDS = 0.06
"""So long the processes are to have enough to do without us: the template forks several in a row then."""
GATHER_SECONDS = 0.02
"""So long the ends of short jobs are gathered before a turn, while the template has others to begin."""


class ChildProcessInfo(NamedTuple):
    """A worker process and the invocation that it does."""

    process: WorkerProcess
    invocation_id: InvocationId


class ProcessRunner(TemplateRunner):
    """Places every invocation in a process of its own: isolated, killable, measured."""

    mode = "process"

    def __init__(self, conf: RunSettings) -> None:
        super().__init__(conf)
        self._spare_key = 0
        self._ahead = Ahead(MOST_AHEAD, SHORT_SECONDS, ENOUGH_SECONDS)
        self._backlog = Backlog()
        """What waits in the template for a place."""
        self._is_asked = False
        """Whether a job waits for an answer of this runner."""

    @property
    def max_parallel_slots(self) -> int:
        """How many processes at a time: the setting, by default the number of processors."""
        return self.conf.jobs

    @property
    def child_processes(self) -> list[ChildProcessInfo]:
        """The workers, and what they do."""
        return [
            ChildProcessInfo(worker, running.claimed.id)
            for worker in self._workers.values()
            for running in worker.runnings
        ]

    def _start(self, running: Running) -> None:
        spare = self._spare
        if spare is None:
            self._start_in_turn(running)
        else:
            self._employ(spare, running)

    @property
    def _verb(self) -> str:
        # To measure itself costs a process a tenth of a fork, and what is lined up behind others goes on without it.
        return PLAIN if self._lined_up else MEASURED

    # Claimed ahead: while jobs are short, the template has some more than there are places, to begin them at once

    def _start_in_turn(self, running: Running) -> None:
        try:
            self._start_process(running, self._verb, at_once=False)
        except OSError:
            if self._lined_up:  # each has three descriptors
                self._ahead.fewer_than(self._lined_up)
            raise

    @property
    def _lined_up(self) -> int:
        """How many were claimed ahead, and wait in the template for a place."""
        return max(0, self._attempts.holding_slots - self.max_parallel_slots)

    def _reclaim_available_slots(self) -> int:
        return max(0, super()._reclaim_available_slots())

    def _tend(self) -> None:
        self._is_asked = False
        self._ahead.turn(self.max_parallel_slots)
        self._ahead.heed(self._attempts)
        if self._templates.are_several:
            self._ahead.none()  # how many places a template has, it knows alone
        others_first = self._attempts.some_wait or self._templates.are_several
        if not self._lined_up:
            self._backlog.moved()
        elif self._backlog.is_stuck or (others_first and not self._backlog.is_asked_back):
            self._ahead.none()
            self._backlog.asked_back()
            self._templates.ask_back()

    def _exited(self, key: int, pid: int, *facts: Any) -> None:
        worker = self._workers[key]
        if pid and (worker.runnings or worker.is_over):
            self._backlog.moved()
            if worker.begun_at:  # it may have died before
                self._ahead.delivered(1, time.monotonic() - worker.begun_at)
        super()._exited(key, pid, *facts)

    def _moments(self) -> Iterator[float | None]:
        yield from super()._moments()
        if self._lined_up:
            yield self._backlog.next_moment

    # A turn costs as much as a short job: while there are places and work, the ends of several are recorded in one

    def _has_time(self) -> bool:
        return bool(self._lined_up) or super()._has_time()  # what was said is gathered with the rest

    def _collect_messages(self) -> None:
        if self._lined_up:
            self._gather()
        super()._collect_messages()

    def _gather(self) -> None:
        until = time.monotonic() + min(self._patience(), GATHER_SECONDS)
        while self._lined_up and not self._is_asked and (left := until - time.monotonic()) > 0:
            if self._watch.descriptor in self._hearing.hear(left):
                break

    def _delivered(
        self, worker: WorkerProcess, running: Running, cpu_ms: int | None = None, peak_kb: int | None = None
    ) -> None:
        # It ends now. What it says or writes until then is read when it is reaped: each piece that is heard wakes us.
        self._ignore(worker.channel.fileno(), *worker.streams)
        if peak_kb is None or self._lined_up or not _is_done_with(running):
            return
        if isinstance(worker, SingleWorker) and worker.pid:
            running.exit = Exit(worker.pid, 0, cpu_ms=cpu_ms, peak_kb=peak_kb)
            self._conclude_early(worker, running)

    def _conclude_early(self, worker: SingleWorker, running: Running) -> None:
        """Nothing of it goes on, and somebody may wait for it: that its process is reaped takes longer than a turn."""
        for stream in list(worker.streams):
            self._take_output(worker, stream, 0)
        worker.running, worker.is_over = None, True
        self._attempts.conclude(running)

    def _heed(self, worker: WorkerProcess, running: Running, said: messages.Said, reply: Callable[..., None]) -> None:
        super()._heed(worker, running, said, reply)
        self._is_asked |= isinstance(said, messages.Asks | messages.Waits)

    # A spare: a process that is forked before there is work, since that takes longer than anything else here

    @property
    def _spare(self) -> SingleWorker | None:
        worker = self._workers.get(self._spare_key)
        return worker if isinstance(worker, SingleWorker) and worker.is_spare else None

    def _get_ready(self) -> None:
        # Only while nothing is in hand: so it has all modules that jobs have had the template import.
        if self._attempts or self._is_stopping or self._must_rest() or self._spare is not None:
            return
        self._spare_key = self._next_key
        try:
            self._spawn(SingleWorker(self._next_key), "spare")
        except OSError:  # there is no work that waits for it
            self._rest()

    def _employ(self, spare: SingleWorker, running: Running) -> None:
        spare.running = running
        self._tell(spare, self._verb, *running.claimed)
        if spare.pid:
            self._begun(spare)

    def _begun(self, worker: WorkerProcess) -> None:
        worker.begun_at = time.monotonic()
        super()._begun(worker)

    def _code_is_new(self) -> None:
        if spare := self._spare:
            self._forget(spare)  # it ends, since nobody speaks to it any more; another takes its place

    # Signals

    def _signal(self, running: Running, number: int) -> None:
        worker = self._get_process_for_invocation(running.claimed.id)
        if worker is not None:
            self._signal_process(worker, number)

    def _get_process_for_invocation(self, invocation_id: InvocationId) -> WorkerProcess | None:
        return next((one.process for one in self.child_processes if one.invocation_id == invocation_id), None)

    def _pause_waiting_process(self, running: Running) -> None:
        self._templates.ask_back()  # its place is for what it waits for, which is placed next
        self._attempts.halt_later(running)

    def _resume_waiting_process(self, running: Running) -> None:
        self._attempts.go_on(running)

    def _send_off(self) -> None:
        # A process that is stopped holds no slot, and no place.
        some_wait = self._attempts.holding_slots < len(self._attempts)
        workers = self._workers.values() if some_wait else ()
        self._templates.set_apart(one for one in workers if any(job.paused_at is not None for job in one.runnings))


def _is_done_with(running: Running) -> bool:
    """Whether all that it can come to is its success, and none may begin only when its process is gone."""
    has_succeeded = running.outcome is not None and running.outcome.failure is None
    return has_succeeded and running.stopped is None and running.paused_at is None and running.claimed.limit_key is None
