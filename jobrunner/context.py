"""Who runs here: in a worker, the job that is being done and the channel to its runner."""

from __future__ import annotations

import contextvars
import threading
from dataclasses import dataclass, field

from jobrunner.channel import Channel
from jobrunner.errors import JobRunnerError
from jobrunner.models import InvocationId, Json


class NotInAJob(JobRunnerError):
    """What was asked for exists only while a job runs."""

    exit_code = 2


@dataclass
class Running:
    """The job that this thread is doing."""

    id: InvocationId
    claim: int
    attempt: int
    channel: Channel | None
    """To the runner; None where the job runs inside the caller's own process."""
    asking: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, verb: str, *facts: Json) -> Json:
        """Ask the runner for something and wait for its answer."""
        if self.channel is None:
            raise NotInAJob(f"no runner to ask for {verb!r}: this job runs inside its caller")
        with self.asking:
            self.channel.send("ask", verb, list(facts))
            answer = self.channel.receive()
        return answer


_running: contextvars.ContextVar[Running | None] = contextvars.ContextVar("jobrunner_running", default=None)
_process: list[Running] = []


def running() -> Running | None:
    """The job of this thread or task; in a worker that does one job only, of any of its threads."""
    return _running.get() or (_process[0] if _process else None)


def enter(job: Running, *, whole_process: bool) -> contextvars.Token[Running | None]:
    """Say that this job is being done here; `whole_process`: by all threads of this process."""
    if whole_process:
        _process[:] = [job]
    return _running.set(job)


def leave(token: contextvars.Token[Running | None]) -> None:
    """The job is over."""
    _running.reset(token)
