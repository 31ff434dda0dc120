"""Who runs here: the job that is being done, and the channel to its runner."""

import contextvars
import threading

from jobrunner.channel import Channel
from jobrunner.errors import JobRunnerError
from jobrunner.models import InvocationId, Json


class NotInAJob(JobRunnerError):
    """What was asked for exists only while a job runs."""

    exit_code = 2


class Current:
    """The job that this code is part of."""

    def __init__(self, invocation_id: InvocationId, claim: int, attempt: int, channel: Channel | None = None) -> None:
        self.id = invocation_id
        """The job's number."""
        self.claim = claim
        """How often it was handed to a runner."""
        self.attempt = attempt
        """Which attempt this is, from 1 on."""
        self._channel = channel  # None where the job runs inside its caller's own process
        self._asking = threading.Lock()
        self.said: tuple[float | None, str | None] | None = None

    def progress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Say how far the job is: a fraction from 0 to 1, a text, or both; costs one small message."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"progress is a fraction from 0 to 1, not {fraction}")
        self.said = (fraction, message)
        if self._channel is not None:
            self._channel.send("progress", fraction, message)

    @property
    def has_runner(self) -> bool:
        """Whether a runner is at the other end of a channel."""
        return self._channel is not None

    def ask(self, verb: str, *facts: Json) -> Json:
        """Ask the runner for something and wait for its answer: ["answer", value] or ["error", facts]."""
        if self._channel is None:
            raise NotInAJob(f"no runner to ask for {verb!r}: this job runs inside its caller")
        with self._asking:
            self._channel.send("ask", verb, list(facts))
            return self._channel.receive()


_current: contextvars.ContextVar[Current | None] = contextvars.ContextVar("jobrunner_current", default=None)
_process: list[Current] = []


def find_current() -> Current | None:
    """The job of this thread or asyncio task; in a process that does one job, of any of its threads."""
    return _current.get() or (_process[0] if _process else None)


def current() -> Current:
    """The job that runs here; NotInAJob outside of one."""
    found = find_current()
    if found is None:
        raise NotInAJob("current() is for code that runs as a job")
    return found


def enter_process(job: Current) -> None:
    """Say that this whole process does one job."""
    _process[:] = [job]


def enter(job: Current) -> contextvars.Token[Current | None]:
    """Say that this thread does a job now; give the token to `leave`."""
    return _current.set(job)


def leave(token: contextvars.Token[Current | None]) -> None:
    """The job is over."""
    _current.reset(token)
