"""Who runs here: the job that is being done, and the channel to its runner."""

import contextvars
import os
from _thread import allocate_lock  # see channel
from typing import Protocol

from jobrunner.cache import Cache, SharedCache
from jobrunner.errors import JobRunnerError, error_of
from jobrunner.models import InvocationId, Job, Json
from jobrunner.worker_end import WorkerEnd


class NotInAJob(JobRunnerError):
    """What was asked for exists only while a job runs."""

    exit_code = 2


class Link(Protocol):
    """A job's way to its runner."""

    def send(self, *message: Json) -> None:
        """Say something that needs no answer."""

    def ask(self, verb: str, facts: list[Json]) -> Json:
        """Ask something and wait for the answer: ["answer", value] or ["error", facts]."""


class ProcessLink:
    """The link of a job that has a channel, and its process, to itself."""

    __slots__ = ("_channel", "_questions")

    _asking = allocate_lock()

    def __init__(self, channel: WorkerEnd) -> None:
        self._channel = channel
        self._questions = 0

    def send(self, *message: Json) -> None:
        """Say something that needs no answer."""
        self._channel.send(*message)

    def ask(self, verb: str, facts: list[Json]) -> Json:
        """One question at a time, whichever of the job's threads asks."""
        with self._asking:
            self._questions += 1
            self._channel.send("ask", verb, facts, self._questions)
            while True:
                number, *answer = self._channel.receive()
                # An exception may have made the job turn away from an earlier question, whose answer comes at any time.
                if number == self._questions:
                    return answer


class Current:
    """The job that this code is part of."""

    __slots__ = ("attempt", "claim", "id", "link", "pid", "said")

    def __init__(self, invocation_id: InvocationId, claim: int, attempt: int, link: Link | None = None) -> None:
        self.id = invocation_id
        """The job's number."""
        self.claim = claim
        """How often it was handed to a runner."""
        self.attempt = attempt
        """Which attempt this is, from 1 on."""
        self.link = link
        """None where the job runs inside its caller's own process."""
        self.pid = os.getpid()
        """A process that the job forks is not the job: it has no say on the channel."""
        self.said: tuple[float | None, str | None] | None = None

    def progress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Say how far the job is: a fraction from 0 to 1, a text, or both; costs one small message."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"progress is a fraction from 0 to 1, not {fraction}")
        said: object = message
        if said is not None and not isinstance(said, str):
            raise TypeError(f"the message of a progress is a text, not {said!r}")
        self.said = (fraction, message)
        if self.link is not None:
            self.link.send("progress", fraction, message)

    @property
    def cache(self) -> Cache:
        """A small dictionary that all jobs of the runner share: get, set, setdefault, add, delete; JSON values."""
        return Cache(self._call_cache)

    def _call_cache(self, *facts: Json) -> Json:
        if self.link is None:
            return _cache_of_this_process.call(*facts)
        kind, value = self.ask("cache", *facts)
        if kind == "error":
            raise error_of(*value)
        return value

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this job to stop: a polite job looks now and then, and returns."""
        if self.link is None:
            return False
        kind, job = self.ask("job", self.id)
        return kind == "answer" and Job(*job).cancel_at is not None

    def ask(self, verb: str, *facts: Json) -> Json:
        """Ask the runner for something and wait for its answer: ["answer", value] or ["error", facts]."""
        if self.link is None:
            raise NotInAJob(f"no runner to ask for {verb!r}: this job runs inside its caller")
        return self.link.ask(verb, list(facts))


_cache_of_this_process = SharedCache()
"""For jobs that run inside their caller, in tests."""
_current: contextvars.ContextVar[Current | None] = contextvars.ContextVar("jobrunner_current", default=None)
_process: list[Current] = []


def find_current() -> Current | None:
    """The job of this thread or asyncio task; in a process that does one job, of any of its threads."""
    found = _current.get() or (_process[0] if _process else None)
    return found if found is not None and found.pid == os.getpid() else None


def current() -> Current:
    """The job that runs here; NotInAJob outside of one."""
    found = find_current()
    if found is None:
        raise NotInAJob("current() is for code that runs as a job")
    return found


def enter_process(job: Current) -> None:
    """Say that this whole process does one job, which may have been made ready in another."""
    job.pid = os.getpid()
    _process[:] = [job]


def leave_process() -> None:
    """It does none any more."""
    _process.clear()


def enter(job: Current) -> contextvars.Token[Current | None]:
    """Say that this thread does a job now; give the token to `leave`."""
    return _current.set(job)


def leave(token: contextvars.Token[Current | None]) -> None:
    """The job is over."""
    _current.reset(token)
