"""The inside of a worker process with many threads: each does one invocation at a time, all share the channel.

The main thread reads what the runner says; a thread that asks something waits for its answer alone.
Messages from here are those of a process worker, behind `"of", invocation, claim, number of the question`.
"""

import contextlib
import ctypes
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from jobrunner import execution
from jobrunner.context import Current, enter, leave
from jobrunner.errors import ChannelClosed, TaskUnknown
from jobrunner.models import Failure, InvocationId, Json, Outcome
from jobrunner.runner import sources
from jobrunner.runner.successes import SHORT, Successes
from jobrunner.worker_end import WorkerEnd

_OUTPUT_PIECE = 1 << 16
"""Characters of output in a message, which has its limit, and which no other thread can interrupt."""


Given = Sequence[Any]
"""Of a job that is to be done: `invocation, claim, attempt, task, arguments, policy`, the last two as JSON text."""


_NOT_BEGUN = Outcome(failure=Failure("JobInterrupted", "interrupted before it began"))


class JobInterrupted(BaseException):
    """Raised inside a job's thread when it is cancelled, has run for too long, or its runner stops."""


class _Dialogue:
    """The questions of one job, one at a time, and the answers to them."""

    def __init__(self) -> None:
        self.asking = threading.Lock()
        self.answers: queue.SimpleQueue[tuple[int, Json]] = queue.SimpleQueue()


class ThreadLink:
    """The link of one job in a thread: what it says carries its name."""

    __slots__ = ("_channel", "_claim", "_dialogue", "_id", "_questions")

    _beginning = threading.Lock()

    def __init__(self, channel: WorkerEnd, invocation_id: InvocationId, claim: int) -> None:
        self._channel = channel
        self._id = invocation_id
        self._claim = claim
        self._dialogue: _Dialogue | None = None  # most jobs ask nothing
        self._questions = 0

    def send(self, *message: Json) -> None:
        """Say something that needs no answer."""
        self._channel.send("of", self._id, self._claim, self._questions, *message)

    def ask(self, verb: str, facts: list[Json]) -> Json:
        """Ask and wait; the other threads go on, and the runner fills this one's slot meanwhile."""
        with self._beginning:
            dialogue = self._dialogue = self._dialogue or _Dialogue()
        with dialogue.asking:
            self._questions += 1
            self.send("ask", verb, facts)
            while True:
                # In short waits: an exception raised in this thread is seen only between them.
                with contextlib.suppress(queue.Empty):
                    number, answer = dialogue.answers.get(timeout=0.2)
                    # An exception may have made it turn away from an earlier question, whose answer comes now.
                    if number == self._questions:
                        return answer

    def answered(self, number: int, answer: Json) -> None:
        """The runner's answer to a question has come."""
        if self._dialogue is not None:
            self._dialogue.answers.put((number, answer))

    def output(self, stream: str, text: str) -> None:
        """Some output of this job; lone surrogates stand for bytes that are not UTF-8."""
        for start in range(0, len(text), _OUTPUT_PIECE):
            self.send("output", stream, text[start : start + _OUTPUT_PIECE])


class Work:
    """One invocation in this process, from its arrival to its outcome."""

    __slots__ = (
        "_args",
        "_attempt",
        "_interrupted",
        "_lock",
        "_policy",
        "_successes",
        "_task",
        "_thread",
        "link",
        "name",
    )

    def __init__(self, channel: WorkerEnd, successes: Successes, given: Given) -> None:
        invocation_id, claim, self._attempt, self._task, self._args, self._policy = given
        self.name = (invocation_id, claim)
        self._successes = successes
        self.link = ThreadLink(channel, invocation_id, claim)
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        """Raise JobInterrupted in its thread at the next bytecode; before the function begins, when it would begin."""
        with self._lock:
            self._interrupted = True
            if self._thread is not None:
                _raise_in(self._thread, ctypes.py_object(JobInterrupted))

    def perform(self, cpu: float) -> float:
        """Do it in this thread and send its outcome; takes and gives the seconds of CPU that the thread has used."""
        here = Current(*self.name, self._attempt, self.link)
        token = enter(here)
        started = time.monotonic()
        try:
            outcome = self._guarded()
        finally:
            leave(token)
        if os.getpid() != here.pid:
            os._exit(0)  # a child that the job forked and forgot to end: the outcome is for the job itself to tell
        now_cpu = time.thread_time()
        cpu_ms = round(1000 * (now_cpu - cpu))
        if files := sources.news():
            self.link.send("read", files)
        if isinstance(outcome, TaskUnknown):
            self.link.send("unknown", outcome.why)
        elif outcome.result is None or len(outcome.result) > SHORT:
            self.link.send("outcome", outcome.result, outcome.failure, cpu_ms)
        else:
            took_us = round(1_000_000 * (time.monotonic() - started))
            self._successes.add([*self.name, outcome.result, cpu_ms], took_us)
        return now_cpu

    def _guarded(self) -> Outcome | TaskUnknown:
        try:
            found = execution.found_before(self._task) or self._find()
            args = execution.load_args(self._args)
        except TaskUnknown as error:
            return error
        except BaseException as error:  # importing a user's module may raise anything
            return Outcome(failure=execution.describe(error))
        # The exception can strike at any bytecode until it is withdrawn: nothing after that may be lost to it.
        outcome = _NOT_BEGUN
        try:
            with self._lock:
                self._thread = threading.get_ident()
            if not self._interrupted:
                outcome = self._do(found, args)
            self._withdraw()
        except JobInterrupted:
            self._withdraw()
        return outcome

    def _find(self) -> execution.Found:
        # Not to be interrupted: an import that is broken off leaves half a module behind, to all jobs of the process.
        module = self._task.partition(":")[0]
        is_new = module not in sys.modules
        found = execution.find_for_good(self._task)
        if is_new:
            self.link.send("imported", module, False)  # with threads around, nobody can tell whether without harm
        return found

    def _withdraw(self) -> None:
        with self._lock:
            if self._thread is not None and self._interrupted:
                _raise_in(self._thread, None)
            self._thread = None

    def _do(self, found: execution.Found, args: Json) -> Outcome:
        word = execution.first_word(self._policy, found)
        if word or (self._policy is not None and '"on_crash"' in self._policy):
            # Should this one end the process, it is to be told from those that had succeeded before it.
            self._successes.send()
        if word:
            self.link.send(*word)
        return execution.perform(found.function, args)


def _raise_in(thread: int, exception: "ctypes.py_object[type[BaseException]] | None") -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)


class ThreadRunner:
    """It starts with a channel to its runner, and ends when the runner says so or is gone."""

    def __init__(self, channel: WorkerEnd, threads: int) -> None:
        self._channel = channel
        self._waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        """What is to be done; None ends the thread that gets it."""
        self._works: dict[tuple[int, int], Work] = {}  # by invocation and claim
        self._successes = Successes(channel, lambda: not self._waiting.empty())
        self._threads = [threading.Thread(target=self._live, daemon=True) for _ in range(threads)]

    def main(self) -> None:
        """Hand out what comes in; returns when it is told to end."""
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._successes.send_late_ones, daemon=True).start()
        with contextlib.suppress(ChannelClosed):
            while True:
                verb, *facts = self._channel.receive()
                if verb == "end":
                    return
                _VERBS[verb](self, *facts)

    def _do(self, *those: Given) -> None:
        for given in those:
            work = Work(self._channel, self._successes, given)
            self._works[work.name] = work
            self._waiting.put(work)

    def _reply(self, invocation_id: int, claim: int, number: int, *answer: Json) -> None:
        work = self._works.get((invocation_id, claim))
        if work is not None:
            work.link.answered(number, list(answer))

    def _interrupt(self, invocation_id: int, claim: int) -> None:
        work = self._works.get((invocation_id, claim))
        if work is not None:
            work.interrupt()

    def _give_back(self) -> None:
        """What no thread has begun yet: others may have a free one."""
        ends, names = 0, []
        with contextlib.suppress(queue.Empty):
            while True:
                work = self._waiting.get_nowait()
                if work is None:
                    ends += 1
                    continue
                del self._works[work.name]
                names.append(work.name)
        self._channel.send("returned", *names)
        for _ in range(ends):
            self._fewer_threads()

    def _more_threads(self) -> None:
        # One waits for a result and has given its slot back: another takes its place.
        threading.Thread(target=self._live, daemon=True).start()

    def _fewer_threads(self) -> None:
        self._waiting.put(None)

    def _live(self) -> None:
        cpu = time.thread_time()
        while (work := self._waiting.get()) is not None:
            try:
                cpu = work.perform(cpu)
            except ChannelClosed:
                return
            finally:
                del self._works[work.name]


_VERBS: dict[str, Callable[..., None]] = {
    "do": ThreadRunner._do,
    "reply": ThreadRunner._reply,
    "interrupt": ThreadRunner._interrupt,
    "more": ThreadRunner._more_threads,
    "fewer": ThreadRunner._fewer_threads,
    "give_back": ThreadRunner._give_back,
}


def thread_runner_process_main(channel: WorkerEnd, threads: int) -> None:
    """The life of a process of threads, on the channel to its runner, where what all processes share lives."""
    ThreadRunner(channel, threads).main()
