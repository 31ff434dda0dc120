"""Facts that pass between modules: frozen, named, without behaviour. Times are milliseconds since 1970 UTC."""

from typing import Any, Literal, NamedTuple, NewType

from jobrunner.status import Status

InvocationId = NewType("InvocationId", int)
RunnerId = NewType("RunnerId", int)
Json = Any
"""What json.loads gives: None, bool, int, float, str, list or dict of these."""

Kind = Literal["function", "command", "shell"]
OverLimit = Literal["block", "drop"]
IfExists = Literal["skip", "replace", "error", "once"]
IfHeld = Literal[IfExists, "debounce", "throttle"]
DependencyKind = Literal["success", "any", "failure"]
StopReason = Literal["timeout", "cancel", "shutdown", "not_started", "returned", "neighbour", "unknown"]

UNDELIVERED = 76
"""Exit code of a worker that could not tell its outcome (EX_PROTOCOL in sysexits.h)."""


class After(NamedTuple):
    """A job that must have ended before another begins: with success, with a failure, or anyhow (any)."""

    id: int
    kind: DependencyKind = "success"


class Request(NamedTuple):
    """An invocation that somebody wants: what `enqueue` takes. Its fields are, in this order, what the query binds."""

    task: str
    kind: Kind = "function"
    args: str = "{}"
    queue: str = "default"
    priority: int = 0
    label: str | None = None
    policy: str | None = None
    parent: int | None = None
    # Of most requests nothing is said but what stands above.
    run_at: int | None = None
    expires_at: int | None = None
    unique_key: str | None = None
    if_exists: IfHeld = "skip"
    hold: bool = False
    limit_key: str | None = None
    limit_size: int | None = None
    limit_drop: bool = False
    schedule: str | None = None
    after: str | None = None
    """JSON text of a list of `After`: what must end before it begins."""
    batch: str | None = None
    """The name of the batch that it joins: the unfinished one, or a new one."""
    outputs: bool = False
    """Whether `{"$output": 7}` in its arguments stands for the result of job 7, as `outputs` writes it."""
    limit_rate: int | None = None
    limit_period: int | None = None
    """So many of its limit_key may begin in any so many milliseconds."""
    window: int | None = None
    """Of debounce and throttle, in milliseconds."""
    longest: int | None = None
    """For how many milliseconds, since it was first enqueued, a debounced one may be put off."""


class Enqueued(NamedTuple):
    """What came of a request: the job, and whether it is a new one; else it is the one that holds the unique key."""

    id: InvocationId
    is_new: bool


class Claimed(NamedTuple):
    """An invocation that is this runner's to do; `args` is None where they are in jr_argument."""

    id: InvocationId
    claim: int
    attempt: int
    crashes: int
    kind: Kind
    task: str
    args: str | None
    policy: str | None
    queue: str
    priority: int
    started_at: int
    waiters: int = 0
    limit_key: str | None = None


class Failure(NamedTuple):
    """Why an attempt failed; `types` are the qualified names of the exception's class and its bases."""

    type: str
    message: str
    traceback: str | None = None
    types: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What a worker says came of an attempt: JSON text of the result, or the failure."""

    result: str | None = None
    failure: Failure | None = None


class Exit(NamedTuple):
    """How a worker's process ended, and what it used: CPU milliseconds, peak resident set in KiB."""

    pid: int
    code: int | None = None
    signal: int | None = None
    cpu_ms: int | None = None
    peak_kb: int | None = None
    shared: bool = False
    """Whether the process did other jobs, too: then nobody can tell whose fault its end was."""


class Job(NamedTuple):
    """One invocation as people see it."""

    id: InvocationId
    status: Status
    kind: Kind
    task: str
    args: str | None
    queue: str
    priority: int
    label: str | None
    unique_key: str | None
    parent: int | None
    policy: str | None
    attempts: int
    crashes: int
    claim: int
    runner: int | None
    created_at: int
    run_at: int | None
    expires_at: int | None
    started_at: int | None
    finished_at: int | None
    cancel_at: int | None
    reason: str | None
    error_type: str | None
    error_message: str | None
    schedule: str | None = None
    batch: str | None = None
    outputs: bool = False
    """Whether `{"$output": 7}` in its arguments stands for the result of job 7."""


class State(NamedTuple):
    """As little of an invocation as one needs to know whether it is final, and why."""

    id: InvocationId
    status: Status
    attempts: int
    reason: str | None


class Attempt(NamedTuple):
    """What was measured of one attempt."""

    claim: int
    attempt: int
    runner: int
    pid: int | None
    started_at: int
    finished_at: int
    outcome: str
    exit_code: int | None
    signal: int | None
    cpu_ms: int | None
    peak_kb: int | None
    error_type: str | None
    error_message: str | None
    traceback: str | None


class Transition(NamedTuple):
    """One change of status; `at` is ISO 8601 text, as in the view `history`."""

    at: str
    from_status: str | None
    to_status: str
    attempt: int
    claim: int
    runner: int | None
    reason: str | None


class LogPiece(NamedTuple):
    """Some output of an attempt; `cut` is how many bytes were left out here (then `data` is empty)."""

    id: int
    claim: int
    at: int
    stream: Literal["stdout", "stderr"]
    data: bytes
    cut: int


class Progress(NamedTuple):
    """What a running job last said of itself: a fraction from 0 to 1 or None, and a text."""

    fraction: float | None
    message: str | None
    at: int


class Process(NamedTuple):
    """A process of threads, as its runner sees it; `last_update`: since when it is active or idle."""

    runner: RunnerId
    key: int
    pid: int
    threads: int
    active: int
    state: str
    last_update: int


class Runner(NamedTuple):
    """A runner as it wrote itself down."""

    id: RunnerId
    mode: str
    slots: int
    queues: str
    host: str
    pid: int
    token: str
    started_at: int
    heartbeat_at: int
    stopped_at: int | None
    stop_reason: str | None
    stale: int
