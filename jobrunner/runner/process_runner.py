"""A process for each invocation, forked from the template."""

from typing import NamedTuple

from jobrunner.models import InvocationId
from jobrunner.runner.running import Running
from jobrunner.runner.template_runner import TemplateRunner
from jobrunner.runner.waiting import ClassifiedInvocations
from jobrunner.runner.worker import run_invocation
from jobrunner.runner.worker_process import SingleWorker, WorkerProcess

__all__ = ["ChildProcessInfo", "ClassifiedInvocations", "ProcessRunner", "run_invocation"]


class ChildProcessInfo(NamedTuple):
    """A worker process and the invocation that it does."""

    process: WorkerProcess
    invocation_id: InvocationId


class ProcessRunner(TemplateRunner):
    """Places every invocation in a process of its own: isolated, killable, measured."""

    mode = "process"

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
            self._start_process(running)
        else:
            self._employ(spare, running)

    # A spare: a process that is forked before there is work, since that takes longer than anything else here

    @property
    def _spare(self) -> SingleWorker | None:
        singles = (worker for worker in self._workers.values() if isinstance(worker, SingleWorker))
        return next((worker for worker in singles if worker.is_spare), None)

    def _get_ready(self) -> None:
        # Only while nothing is in hand: so it has all modules that jobs have had the template import.
        if self._attempts or self._is_stopping or self._must_rest() or self._spare is not None:
            return
        try:
            self._spawn(SingleWorker(self._next_key), "spare")
        except OSError:  # there is no work that waits for it
            self._rest()

    def _employ(self, spare: SingleWorker, running: Running) -> None:
        spare.running = running
        self._tell(spare, "do", *running.claimed)
        if spare.pid:
            self._begun(spare)

    def _code_is_new(self) -> None:
        if spare := self._spare:
            self._forget(spare)  # it ends, since nobody speaks to it any more; another takes its place

    def _signal(self, running: Running, number: int) -> None:
        worker = self._get_process_for_invocation(running.claimed.id)
        if worker is not None:
            self._signal_process(worker, number)

    def _get_process_for_invocation(self, invocation_id: InvocationId) -> WorkerProcess | None:
        return next((one.process for one in self.child_processes if one.invocation_id == invocation_id), None)

    def _pause_waiting_process(self, running: Running) -> None:
        running.halt_soon()

    def _resume_waiting_process(self, running: Running) -> None:
        self._go_on(running)
