"""What all runners share whose workers are forked from a template: their start, the hearing of them, their end."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from jobrunner import orchestrator
from jobrunner.channel import Message
from jobrunner.errors import ChannelBroken, ChannelClosed
from jobrunner.models import Exit
from jobrunner.policy import Policy
from jobrunner.runner import journal, messages
from jobrunner.runner.ahead import Ahead
from jobrunner.runner.messages import BadMessage
from jobrunner.runner.ready import PLAIN
from jobrunner.runner.running import Running
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.template_keeper import TemplateKeeper
from jobrunner.runner.worker_process import SingleWorker, WorkerProcess

_READ = 1 << 18
_SHORT = 16_384
"""Characters of arguments that the template may carry to a worker; longer ones it need not read."""
_REST_SECONDS = 1.0

log = logging.getLogger("jobrunner.runner")


class TemplateRunner(TemplateKeeper):
    """Owns the workers that its templates fork."""

    _ahead: Ahead

    def __init__(self, conf: RunSettings) -> None:
        super().__init__(conf)
        self._workers: dict[int, WorkerProcess] = {}
        self._next_key = 1
        self._rests_until = 0.0

    @staticmethod
    def mem_compatible() -> bool:
        """False: jobs run in processes, with memory of their own."""
        return False

    def get_active_child_runner_ids(self) -> list[str]:
        """The workers that are alive and not over, each as runner:pid."""
        return [
            f"{self._registration.id}:{worker.pid}"
            for worker in self._workers.values()
            if worker.pid and not worker.is_over
        ]

    def _claims_ahead(self) -> int:
        return max(0, self._ahead.most - self._lined_up)

    def _on_stop(self) -> None:
        self._templates.close()
        for worker in list(self._workers.values()):
            self._forget(worker)
        self._workers.clear()

    # Workers

    def _spawn(self, worker: WorkerProcess, *first: Any, at_once: bool = True) -> None:
        """Have the worker forked, `at_once` or when its template has a place, with its first message on its way."""
        self._next_key += 1
        self._workers[worker.key] = worker
        self._hearing.listen(worker.channel.fileno(), partial(self._hear_worker, worker))
        for stream in worker.streams:
            self._hearing.listen(stream, partial(self._take_output, worker, stream))
        with worker.lend() as descriptors:
            is_short = len(worker.runnings) == 0 or len(worker.runnings[0].claimed.args or "") < _SHORT
            if not is_short:
                self._tell(worker, *first)
            try:
                self._templates.spawn(worker, descriptors, list(first) if is_short else [], at_once=at_once)
            except OSError:
                self._workers.pop(worker.key)
                self._forget(worker)
                raise

    def _start_process(self, running: Running, verb: str = PLAIN, *, at_once: bool = True) -> None:
        """A process for this attempt alone."""
        self._spawn(SingleWorker(self._next_key, running), verb, *running.claimed, at_once=at_once)

    def _worker_of(self, running: Running) -> WorkerProcess | None:
        return next((worker for worker in self._workers.values() if running in worker.runnings), None)

    def _signal_process(self, worker: WorkerProcess, number: int) -> None:
        self._templates.signal(worker, number)

    def _tell(self, worker: WorkerProcess, *message: Any) -> None:
        worker.channel.queue(*message)
        self._flush(worker)

    def _flush(self, worker: WorkerProcess) -> None:
        if self._hearing.listens_to(worker.channel.fileno()):
            worker.channel.flush()
            self._hearing.listen_for_room(worker.channel.fileno(), wanted=worker.channel.has_more_to_send)

    # Hearing the template

    def _forked(self, key: int, pid: int) -> None:
        self._deaths = 0  # it works: where a job kills it, the job's own crash budget ends that
        worker = self._workers[key]
        worker.pid = pid
        self._begun(worker)

    def _begun(self, worker: WorkerProcess) -> None:
        """It is there, and has what it is to do."""
        for running in worker.runnings:
            journal.started(running.claimed, worker.pid)
            if running.claimed.kind != "function":  # a function says itself when its module is imported
                running.start_clock()

    def _not_forked(self, key: int, why: str) -> None:
        log.error("no process can be forked: %s", why)
        self._rest()
        self._templates.reaped(key)
        worker = self._workers.pop(key)
        self._forget(worker)
        for running in worker.runnings:
            self._attempts.give_back(running)

    def _rest(self) -> None:
        """A process could not be had: there may be one in a moment, and not before."""
        self._rests_until = time.monotonic() + _REST_SECONDS

    def _must_rest(self) -> bool:
        return time.monotonic() < self._rests_until

    def _unused(self, key: int) -> None:
        self._workers[key].is_unused = True

    def _dropped(self, key: int) -> None:
        self._unused(key)
        self._exited(key, 0)

    def _exited(self, key: int, pid: int, *facts: Any) -> None:
        worker = self._workers.pop(key)
        self._hear_worker(worker, 0, to_the_end=True)
        self._templates.reaped(key)  # not before: what the worker says of an import is for its own template
        for stream in list(worker.streams):
            self._take_output(worker, stream, 0)
        self._forget(worker)
        if not (worker.runnings or worker.is_over):
            self._rest()  # a spare that is not wanted, or cannot live here
        unstarted = worker.unstarted
        started = [one for one in worker.runnings if one not in unstarted]
        for running in started:
            running.exit = Exit(pid, *facts) if len(started) == 1 else Exit(pid, *facts)._replace(shared=True)
            self._attempts.conclude(running)
        for running in unstarted:
            self._attempts.put_back(running)

    def _died_with_template(self, key: int) -> None:
        self._exited(key, self._workers[key].pid, None, int(signal.SIGKILL), None, None)

    # Hearing a worker

    def _hear_worker(self, worker: WorkerProcess, _: int, *, to_the_end: bool = False) -> None:
        if worker.is_heard_out:
            return
        try:
            if worker.channel.has_more_to_send:
                self._flush(worker)
            for message in worker.channel.read(to_the_end=to_the_end):
                self._heed_message(worker, message)
        except (BadMessage, ChannelBroken) as error:
            log.error("process %d is killed: a job of it wrote into its channel: %s", worker.pid, error)
            self._hear_out(worker)
            self._signal_process(worker, signal.SIGKILL)
        except ChannelClosed:
            self._hear_out(worker)

    def _hear_out(self, worker: WorkerProcess) -> None:
        worker.is_heard_out = True
        self._ignore(worker.channel.fileno())

    def _ignore(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            if self._hearing.listens_to(descriptor):
                self._hearing.ignore(descriptor)

    def _heed_message(self, worker: WorkerProcess, message: Message) -> None:
        running, said, answer = worker.addressed(message)
        if running is not None:
            self._heed(worker, running, messages.parse(said), partial(self._tell, worker, *answer))

    def _heed(self, worker: WorkerProcess, running: Running, said: messages.Said, reply: Callable[..., None]) -> None:
        match said:
            case messages.Delivered():
                self._take_outcome(worker, running, said)
            case messages.Asks(verb, facts):
                self._recorder.asked(running, reply, verb, facts)
            case messages.Waits(ids, timeout, for_result):
                self._waiting_for_results(running, ids, reply, timeout, for_result=for_result)
            case messages.Progressed(fraction, text):
                self._recorder.progress(running, fraction, text)
            case messages.Began():
                running.start_clock()
            case messages.Wrote(stream, data):
                running.wrote(stream, data)
            case Policy():
                running.declare(said)
                self._recorder.declared(running)
            case messages.Unknown(why):
                self._is_unknown(worker, running, why)
            case messages.Imported() | messages.Read():
                self._has_imported(worker, running, said)

    def _take_outcome(self, worker: WorkerProcess, running: Running, said: messages.Delivered) -> None:
        running.outcome = said.outcome
        if running.paused_at is not None:
            # One thread of it waits for others, and another has ended it: it need not wait any more.
            self._waiting.forget(running)
            self._attempts.go_on(running)
        self._delivered(worker, running, said.cpu_ms, said.peak_kb)

    def _delivered(
        self, worker: WorkerProcess, running: Running, cpu_ms: int | None = None, peak_kb: int | None = None
    ) -> None:
        """The outcome has come; a process for one attempt is over only when it is reaped."""

    def _is_unknown(self, worker: WorkerProcess, running: Running, why: str) -> None:
        running.outcome = orchestrator.unknown(why)
        running.stopped = running.stopped or "unknown"
        self._delivered(worker, running)

    def _has_imported(self, worker: WorkerProcess, running: Running, said: messages.Imported | messages.Read) -> None:
        if isinstance(said, messages.Read):
            if self.conf.reload:
                self._renewal.watched.also_read(said.files)
            return
        if said.module == running.claimed.task.partition(":")[0]:
            self._renewal.imported(said.module)
        if said.is_clean and said.module not in self._preloaded and self._templates.has_forked(worker):
            self._preloaded.add(said.module)
            with contextlib.suppress(ChannelClosed):  # the template is gone: this is not about the worker
                self._templates.current.preload(said.module)

    def _take_output(self, worker: WorkerProcess, stream: int, _: int) -> None:
        while stream in worker.streams:
            try:
                data = os.read(stream, _READ)
            except BlockingIOError:
                return
            if not data:
                self._ignore(stream)
                worker.close_stream(stream)
                return
            self._wrote(worker, worker.streams[stream], data)
            if len(data) < _READ:
                return

    def _wrote(self, worker: WorkerProcess, stream: str, data: bytes) -> None:
        """Output of the process itself; where it does several jobs, nobody can tell whose it is."""
        if len(worker.runnings) == 1:
            worker.runnings[0].wrote(stream, data)
        else:
            log.info("process %d %s: %s", worker.pid, stream, journal.shown(data))

    def _forget(self, worker: WorkerProcess) -> None:
        self._ignore(worker.channel.fileno(), *worker.streams)
        worker.close()
