"""A process for each invocation, forked from the template."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from jobrunner.errors import ChannelClosed, JobRunnerError
from jobrunner.models import Exit, InvocationId, Outcome
from jobrunner.policy import Policy
from jobrunner.runner import journal, messages
from jobrunner.runner.base_runner import BaseRunner
from jobrunner.runner.messages import BadMessage
from jobrunner.runner.running import Running
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.template_process import TemplateProcess
from jobrunner.runner.worker_process import WorkerProcess

_READ = 1 << 18
_TOO_SOON_SECONDS = 2.0
_MANY_DEATHS = 5

log = logging.getLogger("jobrunner.runner")


class ChildProcessInfo(NamedTuple):
    """A worker process and the invocation that it does."""

    process: WorkerProcess
    invocation_id: InvocationId


class ProcessRunner(BaseRunner):
    """Places every invocation in a process of its own: isolated, killable, measured."""

    mode = "process"

    def __init__(self, settings: RunSettings) -> None:
        super().__init__(settings)
        self._workers: dict[int, WorkerProcess] = {}
        self._preloaded: set[str] = set()
        self._next_key = 1
        self._deaths = 0

    @staticmethod
    def mem_compatible() -> bool:
        """False: jobs run in processes, with memory of their own."""
        return False

    @property
    def max_parallel_slots(self) -> int:
        """How many processes at a time: the setting, by default the number of processors."""
        return self.settings.jobs

    def get_active_child_runner_ids(self) -> list[str]:
        """The workers that are alive, each as runner:pid."""
        return [f"{self._registration.id}:{worker.pid}" for worker in self._workers.values() if worker.pid]

    # The template

    def _on_start(self) -> None:
        self._start_template()
        while (message := self._first_word())[0] != "ready":
            _, module, why, traceback = message
            raise JobRunnerError(f"--import {module} failed: {why}\n{traceback or ''}".rstrip())

    def _first_word(self) -> list[Any]:
        try:
            return self._template.receive()
        except ChannelClosed:
            raise JobRunnerError("the template process ended while it imported the task modules") from None

    def _start_template(self) -> None:
        settings = self.settings
        self._template = TemplateProcess(self.token, settings.database, settings.app_dir, settings.imports)
        self._template_started = time.monotonic()
        self._listen(self._template.fileno(), lambda _: self._hear_template())

    def _hear_template(self) -> None:
        try:
            for verb, *facts in self._template.read():
                _TEMPLATE_VERBS[verb](self, *facts)
        except ChannelClosed:
            self._replace_template()

    def _replace_template(self) -> None:
        """The template died, and its workers with it: sweep up, give the work back, start another."""
        lived = time.monotonic() - self._template_started
        self._deaths = self._deaths + 1 if lived < _TOO_SOON_SECONDS else 1
        self._selector.unregister(self._template.fileno())
        self._template.close()
        log.error("the template process %d died, and %d workers with it", self._template.pid, len(self._workers))
        for worker in list(self._workers.values()):
            self._exited(worker.key, worker.pid, None, int(signal.SIGKILL), None, None)
        if self._deaths >= _MANY_DEATHS:
            raise JobRunnerError("the template process dies again and again right after its start")
        self._start_template()

    def _on_stop(self) -> None:
        if hasattr(self, "_template"):
            self._template.close()
        for worker in list(self._workers.values()):
            self._forget(worker)

    # Placing and signalling

    def _start(self, running: Running) -> None:
        worker, theirs = WorkerProcess.open(self._next_key, running)
        self._next_key += 1
        self._workers[worker.key] = worker
        self._listen(worker.channel.fileno(), partial(self._hear_worker, worker))
        for stream in worker.streams:
            self._listen(stream, partial(self._take_output, worker, stream))
        with theirs as descriptors:
            self._tell(worker, "do", *running.claimed)
            try:
                self._template.spawn(worker.key, descriptors)
            except OSError:
                self._workers.pop(worker.key)
                self._forget(worker)
                raise

    def _signal(self, running: Running, number: int) -> None:
        for worker in self._workers.values():
            if worker.running is running:
                with contextlib.suppress(ChannelClosed):  # the template is gone, and its workers with it
                    self._template.signal(worker.key, number)

    def _tell(self, worker: WorkerProcess, *message: Any) -> None:
        if worker.channel.fileno() in self._selector.get_map():
            worker.channel.post(*message)
            self._listen_for_room(worker.channel.fileno(), wanted=worker.channel.has_more_to_send)

    def _get_process_for_invocation(self, invocation_id: InvocationId) -> WorkerProcess | None:
        """The worker that does the invocation."""
        return next((one for one in self._workers.values() if one.running.claimed.id == invocation_id), None)

    def _pause_waiting_process(self, running: Running) -> None:
        self._signal(running, signal.SIGSTOP)

    def _resume_waiting_process(self, running: Running) -> None:
        self._signal(running, signal.SIGCONT)

    # Hearing the template

    def _forked(self, key: int, pid: int) -> None:
        worker = self._workers[key]
        worker.pid = pid
        journal.started(worker.running.claimed, pid)

    def _not_forked(self, key: int, why: str) -> None:
        log.error("no process can be forked: %s", why)
        worker = self._workers.pop(key)
        self._forget(worker)
        self._give_back(worker.running)

    def _exited(self, key: int, pid: int, *facts: Any) -> None:
        worker = self._workers.pop(key)
        self._hear_worker(worker, 0)
        for stream in list(worker.streams):
            self._take_output(worker, stream, 0)
        self._forget(worker)
        worker.running.exit = Exit(pid, *facts)
        self._conclude(worker.running)

    def _import_failed(self, module: str, why: str, _: str | None) -> None:
        log.error("%s cannot be imported any more: %s", module, why)

    # Hearing a worker

    def _hear_worker(self, worker: WorkerProcess, _: int) -> None:
        if worker.channel.fileno() not in self._selector.get_map():
            return
        try:
            if worker.channel.has_more_to_send:
                self._tell_rest(worker)
            for message in worker.channel.read():
                self._heed(worker, messages.parse(message))
        except ChannelClosed:
            self._ignore(worker.channel.fileno())
        except BadMessage as error:
            log.error("job %d is killed: it wrote into its channel: %s", worker.running.claimed.id, error)
            self._ignore(worker.channel.fileno())
            self._signal(worker.running, signal.SIGKILL)

    def _tell_rest(self, worker: WorkerProcess) -> None:
        worker.channel.flush()
        self._listen_for_room(worker.channel.fileno(), wanted=worker.channel.has_more_to_send)

    def _heed(self, worker: WorkerProcess, said: messages.Said) -> None:
        match said:
            case Outcome():
                worker.running.outcome = said
            case messages.Asks(verb, facts):
                self._recorder.asked(worker.running, partial(self._tell, worker), verb, facts)
            case messages.Waits(ids, timeout):
                self._waiting_for_results(worker.running, ids, partial(self._tell, worker), timeout)
            case messages.Progressed(fraction, text):
                self._recorder.progress(worker.running, fraction, text)
            case Policy():
                worker.running.declare(said)
            case messages.Imported(module):
                self._preload(module)

    def _preload(self, module: str) -> None:
        if module not in self._preloaded:
            self._preloaded.add(module)
            self._template.preload(module)

    def _take_output(self, worker: WorkerProcess, stream: int, _: int) -> None:
        if stream not in worker.streams:
            return
        while True:
            try:
                data = os.read(stream, _READ)
            except BlockingIOError:
                return
            if not data:
                self._ignore(stream)
                worker.close_stream(stream)
                return
            worker.running.capture.add(worker.streams[stream], data)
            if len(data) < _READ:
                return

    def _forget(self, worker: WorkerProcess) -> None:
        for descriptor in (worker.channel.fileno(), *worker.streams):
            if descriptor in self._selector.get_map():
                self._ignore(descriptor)
        worker.close()


_TEMPLATE_VERBS: dict[str, Callable[..., None]] = {
    "ready": lambda *_: None,
    "forked": ProcessRunner._forked,
    "not_forked": ProcessRunner._not_forked,
    "exit": ProcessRunner._exited,
    "import_failed": ProcessRunner._import_failed,
}
