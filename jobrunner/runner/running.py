"""An attempt while a runner has it: what is known of it, when it must end, what it has written."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from jobrunner.models import Claimed, Exit, Outcome, StopReason
from jobrunner.orchestrator import Ended
from jobrunner.policy import Policy
from jobrunner.runner.capture import LIMIT, Capture


def _nobody(_: "Running") -> None:
    pass


@dataclass(eq=False, slots=True)
class Running:
    """Starts with a claim and ends when it is recorded. Deadlines are of the monotonic clock, in seconds."""

    claimed: Claimed
    policy: Policy
    output_limit: int = LIMIT
    """Bytes of its output that are kept."""
    capture: Capture | None = None
    """None: it has written nothing."""
    deadline: float | None = None
    outcome: Outcome | None = None
    exit: Exit | None = None
    stopped: StopReason | None = None
    kill_at: float | None = None
    flushed_at: float = 0.0
    paused_at: float | None = None
    halt_at: float | None = None
    """When its process is to be stopped, should it still wait for others then."""
    look_after: Callable[["Running"], None] = _nobody
    """Called as soon as there is something to look after: a deadline, a pause, output. Most have nothing."""

    def declare(self, declared: Policy) -> None:
        """The task says how it is to be done; what the invocation itself says goes before."""
        self.policy = self.policy.or_else(declared)
        self.start_clock()

    def start_clock(self, allowance: float = 0.0) -> None:
        """From now on its timeout runs; `allowance` is for what has to happen before it really begins."""
        if self.policy.timeout_ms is not None:
            self.deadline = time.monotonic() + allowance + self.policy.timeout_ms / 1000
            self.look_after(self)

    def wrote(self, stream: str, data: bytes) -> None:
        """Some output of it."""
        if self.capture is None:
            self.capture = Capture(self.output_limit)
            self.flushed_at = time.monotonic()
            self.look_after(self)
        self.capture.add(stream, data)

    def pause(self, since: float) -> None:
        """It waits for others, and its clock has stood still since that moment."""
        self.paused_at = since
        self.look_after(self)

    def resume(self) -> None:
        """It goes on, and so does its clock."""
        if self.paused_at is not None:
            self.stood_still(self.paused_at)
            self.paused_at = None

    def stood_still(self, since: float) -> None:
        """From that moment on it has waited for others until now, and its clock did not run."""
        if self.deadline is not None:
            self.deadline += time.monotonic() - since

    def ended(self) -> Ended:
        """The facts for the orchestrator."""
        return Ended(self.claimed, self.policy, self.outcome, self.exit, self.stopped)

    @property
    def next_moment(self) -> float | None:
        """When something is to be done about it if nothing happens before."""
        if self.stopped:
            return self.kill_at
        return self.deadline if self.paused_at is None else self.halt_at
