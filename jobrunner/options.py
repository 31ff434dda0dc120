"""How a task is enqueued and done, as users write it; what of it is kept with the invocation is its Policy."""

import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, TypedDict

from jobrunner.errors import UsageError
from jobrunner.models import After, DependencyKind, IfExists, Json, Kind, OverLimit, Request
from jobrunner.outputs import Output
from jobrunner.policy import OnCrash, Policy, Retry
from jobrunner.times import Duration, duration_ms, instant_ms, now_ms

joining: ContextVar[str | None] = ContextVar("jobrunner_batch", default=None)
"""The batch that what is enqueued here joins, where it says nothing else."""
Jobs = Any
"""A job or several, as `enqueue` gives them, or their numbers."""


class OptionWords(TypedDict, total=False):
    """The words of `Options`, for type checkers."""

    queue: str
    priority: int
    delay: Duration | None
    at: str | datetime | None
    expires: Duration | datetime | None
    unique: str | None
    if_exists: IfExists
    retry: Retry | int | None
    timeout: Duration | None
    on_crash: OnCrash | None
    cwd: str | None
    env: Mapping[str, str]
    label: str | None
    hold: bool
    concurrency: int | None
    concurrency_key: str | None
    over_limit: OverLimit
    after: Jobs
    after_any: Jobs
    after_failure: Jobs
    batch: str | None


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that can be said of an invocation beside its task and arguments.

    `delay` and `at` say when it may start, `expires` (a duration from now, or a time) until when it must
    have started. `unique` is a key that at most one unfinished invocation holds; `{name}` in it stands for
    an argument; with `if_exists="once"` one that has finished keeps it, too, until it is pruned. At most `concurrency`
    jobs of a task are started at a time, or of those whose `concurrency_key`
    is the same: `"{account}"` counts by an argument, `"{*}"` by all of them, and a key without a `{` is shared
    with other tasks. What is over the limit is blocked until there is room, or, with `over_limit="drop"`,
    cancelled. It begins when all of `after` have succeeded, all of `after_any` have ended, and all of `after_failure`
    have failed, were cancelled or expired; where one of them ends otherwise, it is cancelled itself. `retry` is a
    number of attempts or a `Retry`. `batch` is the name of the batch that it joins. `timeout` bounds each attempt.
    """

    queue: str = "default"
    priority: int = 0
    delay: Duration | None = None
    at: str | datetime | None = None
    expires: Duration | datetime | None = None
    unique: str | None = None
    if_exists: IfExists = "skip"
    retry: Retry | int | None = None
    timeout: Duration | None = None
    on_crash: OnCrash | None = None
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    hold: bool = False
    concurrency: int | None = None
    concurrency_key: str | None = None
    over_limit: OverLimit = "block"
    after: Jobs = ()
    after_any: Jobs = ()
    after_failure: Jobs = ()
    batch: str | None = None

    def __post_init__(self) -> None:
        queue: object = self.queue
        priority: object = self.priority
        if not isinstance(queue, str) or not queue:
            raise UsageError(f"a queue has a name, not {queue!r}")
        if not isinstance(priority, int) or isinstance(priority, bool) or abs(priority) >= 2**31:
            raise UsageError(f"a priority is a whole number, higher is sooner, not {priority!r}")
        if self.delay is not None and self.at is not None:
            raise UsageError("either a delay or a time, not both")
        if self.if_exists not in ("skip", "replace", "error", "once"):
            raise UsageError(f"if_exists is 'skip', 'replace', 'error' or 'once', not {self.if_exists!r}")
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"concurrency is at least 1, not {self.concurrency}")
        if self.concurrency_key is not None and self.concurrency is None:
            raise UsageError("a concurrency_key needs concurrency=N: how many of it may run at a time")
        batch: object = self.batch
        if batch is not None and (not isinstance(batch, str) or not batch):
            raise UsageError(f"a batch has a name, not {batch!r}")
        if self.over_limit not in ("block", "drop"):
            raise UsageError(f"over_limit is 'block' or 'drop', not {self.over_limit!r}")
        # What cannot be meant is refused where it is said, not where it is first used.
        self.policy()
        self._run_at(0)
        self._expires_at(0)

    def but(self, **changes: Any) -> "Options":
        """The same with some of it changed."""
        known = {one.name for one in fields(Options)}
        if unknown := sorted(changes.keys() - known):
            raise UsageError(f"there is no option {unknown[0]!r}: the options are {', '.join(sorted(known))}")
        return replace(self, **changes)

    def policy(self) -> Policy:
        """What the runner must know of it."""
        retry = Retry(attempts=self.retry) if isinstance(self.retry, int) else self.retry
        timeout = None if self.timeout is None else duration_ms(self.timeout)
        return Policy(retry, timeout, self.on_crash, self.cwd, self.env)

    @property
    def are_same_for_all_calls(self) -> bool:
        """Whether nothing of a request but its arguments depends on the call, or on when it is made."""
        by_moment = self.delay is not None or self.expires is not None
        return self.unique is None and not by_moment and "{" not in (self.concurrency_key or "")

    def request(self, task: str, args: str, named: Json, kind: Kind = "function") -> Request:
        """The request to enqueue: `args` as JSON text, `named` as the values for the unique key."""
        now = now_ms()
        return Request(
            task=task,
            kind=kind,
            args=args,
            queue=self.queue,
            priority=self.priority,
            run_at=self._run_at(now),
            expires_at=self._expires_at(now),
            unique_key=None if self.unique is None else unique_key(self.unique, named),
            if_exists=self.if_exists,
            label=self.label,
            policy=self.policy().to_json(),
            hold=self.hold,
            limit_key=None if self.concurrency is None else limit_key(task, self.concurrency_key, named),
            limit_size=self.concurrency,
            limit_drop=self.over_limit == "drop",
            after=self._after(),
            batch=self.batch,
        )

    def _after(self) -> str | None:
        kinds: dict[DependencyKind, Jobs] = {
            "success": self.after,
            "any": self.after_any,
            "failure": self.after_failure,
        }
        edges = [After(one, kind) for kind, jobs in kinds.items() for one in dict.fromkeys(_ids(jobs))]
        if len({edge.id for edge in edges}) < len(edges):
            raise UsageError("a job waits for another in one way: it is in two of after, after_any and after_failure")
        return json.dumps(edges) if edges else None

    def _run_at(self, now: int) -> int | None:
        if self.delay is not None:
            return now + duration_ms(self.delay)
        return None if self.at is None else instant_ms(self.at)

    def _expires_at(self, now: int) -> int | None:
        if self.expires is None:
            return None
        return instant_ms(self.expires) if isinstance(self.expires, datetime) else now + duration_ms(self.expires)


def joined(request: Request) -> Request:
    """The request, as a member of the batch whose block this is in."""
    name = joining.get()
    return request if name is None or request.batch is not None else request._replace(batch=name)


def _ids(jobs: Jobs) -> list[int]:
    """The numbers of jobs that were named: one or many, by number or as what an enqueue gave."""
    if hasattr(jobs, "ids"):  # a batch
        jobs = jobs.ids
    if isinstance(jobs, int) or hasattr(jobs, "id"):
        jobs = [jobs]
    ids = [getattr(one, "id", one) for one in jobs]
    if wrong := [one for one in ids if not isinstance(one, int) or isinstance(one, bool) or not 0 < one < 2**63]:
        raise UsageError(f"a job waits for jobs, as enqueue gives them, or their numbers, not for {wrong[0]!r}")
    return ids


def limit_key(task: str, template: str | None, named: Json) -> str:
    """What a concurrency limit counts: the task, the task with some arguments, or a name that tasks share."""
    if template is None:
        return task
    if "{" not in template:
        return template
    everything = json.dumps(named, sort_keys=True, ensure_ascii=False, default=repr)
    return f"{task} " + everything.join(unique_key(part, named) for part in template.split("{*}"))


def unique_key(template: str, named: Json) -> str:
    """The key with the arguments filled in; only plain names: no attributes, indices or formats."""
    values = named if isinstance(named, dict) else {}
    parts = []
    for literal, name, spec, conversion in _fields(template):
        parts.append(literal)
        if name is not None:
            if name not in values or spec or conversion:
                raise UsageError(f"the key {template!r} names {name!r}, which is no argument of this call")
            if isinstance(values[name], Output):
                raise UsageError(f"the key {template!r} names {name!r}, which is the result of a job: not known yet")
            parts.append(str(values[name]))
    return "".join(parts)


def _fields(template: str) -> list[tuple[str, str | None, str | None, str | None]]:
    from string import Formatter  # 1 ms that only keys need

    try:
        return list(Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"the key {template!r} cannot be read: {error}") from error
