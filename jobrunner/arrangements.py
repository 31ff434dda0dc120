"""Facts of what people arrange beside jobs: schedules, batches, queues that are held back. Frozen, as in `models`."""

from typing import Literal, NamedTuple

from jobrunner.models import InvocationId, Kind

Overlap = Literal["skip", "queue", "allow", "replace"]
Missed = Literal["none", "one", "all"]
Source = Literal["code", "command"]


class Plan(NamedTuple):
    """A schedule as somebody wants it: when, and what. Durations are milliseconds."""

    name: str
    spec: str
    zone: str
    task: str
    kind: Kind = "function"
    args: str = "{}"
    overlap: Overlap = "skip"
    missed: Missed = "one"
    missed_age: int | None = None
    jitter: int = 0
    until: int | None = None
    queue: str = "default"
    priority: int = 0
    label: str | None = None
    policy: str | None = None
    limit_key: str | None = None
    limit_size: int | None = None
    limit_drop: bool = False
    limit_rate: int | None = None
    limit_period: int | None = None


class Schedule(NamedTuple):
    """A schedule as the database has it: its plan, and where it stands."""

    plan: Plan
    source: Source
    created_at: int
    next_at: int | None
    last_at: int | None
    paused: bool
    paused_until: int | None
    vanished_at: int | None


class Fire(NamedTuple):
    """What became of an instant of a schedule: a job, or why there is none; `more` before it were left out, too."""

    schedule: str
    instant: int
    at: int
    invocation: InvocationId | None
    reason: str | None
    more: int


class Batch(NamedTuple):
    """Jobs that are looked at as one; the callbacks are requests as JSON text."""

    id: int
    name: str
    created_at: int
    finished_at: int | None
    open: bool
    total: int
    done: int
    failed: int
    on_success: str | None
    on_failure: str | None
    on_complete: str | None
    remark: str | None
    """Which of these could not be enqueued, and why."""

    @property
    def status(self) -> str:
        """Open, running, success or failed."""
        if self.finished_at is None:
            return "open" if self.open else "running"
        return "failed" if self.failed else "success"


class QueueSetting(NamedTuple):
    """How a queue is held back; `rate` jobs may begin in any `period` milliseconds."""

    queue: str
    paused_until: int | None
    concurrency: int | None
    rate: int | None
    period: int | None
