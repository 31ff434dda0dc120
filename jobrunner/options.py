"""How a task is enqueued and done, as users write it; what of it is kept with the invocation is its Policy."""

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypedDict, cast

from jobrunner.errors import UsageError
from jobrunner.facts import Facts
from jobrunner.models import After, DependencyKind, IfExists, IfHeld, Json, Kind, OverLimit, Request
from jobrunner.outputs import Output
from jobrunner.policy import OnCrash, Policy, Retry
from jobrunner.times import Duration, Moment, duration_ms, instant_ms, now_ms, read_rate

joining: ContextVar[str | None] = ContextVar("jobrunner_batch", default=None)
"""The batch that what is enqueued here joins, where it says nothing else."""
Jobs = Any
"""A job or several, as `enqueue` gives them, or their numbers."""


class OptionWords(TypedDict, total=False):
    """The words of `Options`, for type checkers."""

    queue: str
    priority: int
    delay: Duration | None
    at: str | Moment | None
    expires: Duration | Moment | None
    unique: str | None
    if_exists: IfExists
    debounce: Duration | None
    debounce_max: Duration | None
    throttle: Duration | None
    retry: Retry | int | None
    timeout: Duration | None
    on_crash: OnCrash | None
    cwd: str | None
    env: Mapping[str, str]
    label: str | None
    hold: bool
    concurrency: int | None
    concurrency_key: str | None
    rate: str | None
    over_limit: OverLimit
    after: Jobs
    after_any: Jobs
    after_failure: Jobs
    batch: str | None


class Options(Facts):
    """Everything that can be said of an invocation beside its task and arguments.

    `delay` and `at` say when it may start, `expires` (a duration from now, or a time) until when it must
    have started. `unique` is a key that at most one unfinished invocation holds; `{name}` in it stands for
    an argument; with `if_exists="once"` one that has finished keeps it, too, until it is pruned. With `debounce`, it
    begins when its key was not enqueued for so long (at the latest `debounce_max` after the first time), and with what
    was said last; with `throttle`, the job that was enqueued last with its key, finished or not, stands for all that
    come within so long. At most `concurrency`
    jobs of a task are started at a time, or of those whose `concurrency_key`
    is the same: `"{account}"` counts by an argument, `"{*}"` by all of them, and a key without a `{` is shared
    with other tasks. Of the same jobs, `rate` says how many may begin in any period, as in `"50/s"`. What is over a
    limit is blocked until there is room, or, with `over_limit="drop"`, cancelled. It begins when all of `after` have
    succeeded, all of `after_any` have ended, and all of `after_failure` have failed, were cancelled or expired; where
    one of them ends otherwise, it is cancelled itself. `retry` is a number of attempts or a `Retry`. `batch` is the
    name of the batch that it joins. `timeout` bounds each attempt.
    """

    queue: str = "default"
    priority: int = 0
    delay: Duration | None = None
    at: str | Moment | None = None
    expires: Duration | Moment | None = None
    unique: str | None = None
    if_exists: IfExists = "skip"
    debounce: Duration | None = None
    debounce_max: Duration | None = None
    throttle: Duration | None = None
    retry: Retry | int | None = None
    timeout: Duration | None = None
    on_crash: OnCrash | None = None
    cwd: str | None = None
    env: Mapping[str, str] = {}
    label: str | None = None
    hold: bool = False
    concurrency: int | None = None
    concurrency_key: str | None = None
    rate: str | None = None
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
        self._check_windows()
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"concurrency is at least 1, not {self.concurrency}")
        if self.concurrency_key is not None and self.concurrency is None and self.rate is None:
            raise UsageError('a concurrency_key needs concurrency=N, how many of it may run at a time, or rate="N/s"')
        if self.rate is not None:
            read_rate(self.rate)
        batch: object = self.batch
        if batch is not None and (not isinstance(batch, str) or not batch):
            raise UsageError(f"a batch has a name, not {batch!r}")
        if self.over_limit not in ("block", "drop"):
            raise UsageError(f"over_limit is 'block' or 'drop', not {self.over_limit!r}")
        # What cannot be meant is refused where it is said, not where it is first used.
        self.policy()
        self._run_at(0)
        self._expires_at(0)

    def _check_windows(self) -> None:
        said = [name for name in ("debounce", "throttle") if getattr(self, name) is not None]
        if self.debounce_max is not None and duration_ms(self.debounce_max) < duration_ms(self.debounce or 0):
            raise UsageError("debounce_max cannot be shorter than debounce")
        if self.debounce_max is not None and self.debounce is None:
            raise UsageError("debounce_max is for debounce alone")
        if not said:
            return
        if self.unique is None:
            raise UsageError(f"{said[0]} counts by a key: give unique=, or --key, beside it")
        if len(said) > 1 or self.if_exists != "skip":
            raise UsageError("one of debounce, throttle and if_exists says what happens where another job has the key")
        if duration_ms(getattr(self, said[0])) < 1:
            raise UsageError(f"{said[0]} is a time of at least a millisecond")
        if self.debounce is not None and (self.delay is not None or self.at is not None or self._after() is not None):
            raise UsageError("debounce says when it begins: no delay, time or after beside it")

    def _window(self) -> int | None:
        window = self.debounce if self.debounce is not None else self.throttle
        return None if window is None else duration_ms(window)

    def _if_held(self) -> IfHeld:
        return "debounce" if self.debounce is not None else "throttle" if self.throttle is not None else self.if_exists

    def but(self, **changes: Any) -> "Options":
        """The same with some of it changed."""
        known = self.__match_args__
        if unknown := sorted(changes.keys() - known):
            raise UsageError(f"there is no option {unknown[0]!r}: the options are {', '.join(sorted(known))}")
        return self.__replace__(**changes)

    def policy(self) -> Policy:
        """What the runner must know of it."""
        retry = Retry(attempts=self.retry) if isinstance(self.retry, int) else self.retry
        timeout = None if self.timeout is None else duration_ms(self.timeout)
        return Policy(retry, timeout, self.on_crash, self.cwd, self.env)

    @property
    def are_same_for_all_calls(self) -> bool:
        """Whether nothing of a request but its arguments depends on the call, or on when it is made."""
        # A text may be a bare 18:00, which is the next one that comes.
        by_moment = self.delay is not None or self.expires is not None or isinstance(self.at, str)
        return self.unique is None and not by_moment and "{" not in (self.concurrency_key or "")

    def request(self, task: str, args: str, named: Json, kind: Kind = "function", now: int | None = None) -> Request:
        """The request to enqueue: `args` as JSON text, `named` as the values for the unique key."""
        now = now_ms() if now is None else now
        rate, period = (None, None) if self.rate is None else read_rate(self.rate)
        is_limited = self.concurrency is not None or rate is not None
        return Request(
            task=task,
            kind=kind,
            args=args,
            queue=self.queue,
            priority=self.priority,
            run_at=self._run_at(now),
            expires_at=self._expires_at(now),
            unique_key=None if self.unique is None else unique_key(self.unique, named),
            if_exists=self._if_held(),
            label=self.label,
            policy=self.policy().to_json(),
            hold=self.hold,
            limit_key=limit_key(task, self.concurrency_key, named) if is_limited else None,
            limit_size=self.concurrency,
            limit_drop=self.over_limit == "drop",
            after=self._after(),
            batch=self.batch,
            limit_rate=rate,
            limit_period=period,
            window=self._window(),
            longest=None if self.debounce_max is None else duration_ms(self.debounce_max),
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
        # Not isinstance: to look whether something is of a Protocol brings `inspect`.
        if hasattr(self.expires, "timestamp"):
            return instant_ms(cast(Moment, self.expires))
        return now + duration_ms(self.expires)


class Pattern:
    """The requests for a task with these options: of most of them nothing differs but the arguments."""

    def __init__(self, options: Options, task: str, kind: Kind = "function") -> None:
        self._options = options
        self._task = task
        self._kind = kind
        self.bare = options.request(task, "{}", {}, kind) if options.are_same_for_all_calls else None
        """The one without arguments, where it is the same whenever it is made."""
        self._around = None if self.bare is None else (self.bare[:2], self.bare[3:])

    def request(self, args: str, named: Callable[[], Json], now: int | None = None) -> Request:
        """One with these arguments, as JSON text; `named` tells those that a key may name."""
        if self._around is None:
            return self._options.request(self._task, args, named(), self._kind, now)
        before, after = self._around
        return Request._make(before + (args,) + after)  # noqa: RUF005 -- to unpack them takes longer


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
