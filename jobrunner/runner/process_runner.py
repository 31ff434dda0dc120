"""A process for each invocation, forked from the template."""

import signal
from typing import NamedTuple

from jobrunner.models import InvocationId
from jobrunner.runner.running import Running
from jobrunner.runner.template_runner import TemplateRunner
from jobrunner.runner.waiting import ClassifiedInvocations
from jobrunner.runner.worker import run_invocation
from jobrunner.runner.worker_process import WorkerProcess

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
        self._start_process(running)

    def _signal(self, running: Running, number: int) -> None:
        worker = self._get_process_for_invocation(running.claimed.id)
        if worker is not None:
            self._signal_process(worker, number)

    def _get_process_for_invocation(self, invocation_id: InvocationId) -> WorkerProcess | None:
        return next((one.process for one in self.child_processes if one.invocation_id == invocation_id), None)

    def _pause_waiting_process(self, running: Running) -> None:
        self._signal(running, signal.SIGSTOP)

    def _resume_waiting_process(self, running: Running) -> None:
        self._signal(running, signal.SIGCONT)
