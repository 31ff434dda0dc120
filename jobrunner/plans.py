"""From what somebody says of a schedule to its plan."""

from typing import cast

from jobrunner.arrangements import Missed, Overlap, Plan
from jobrunner.errors import UsageError
from jobrunner.models import Request
from jobrunner.times import Duration, Moment, duration_ms, instant_ms
from jobrunner.timing import Timing

_OVERLAPS = ("skip", "queue", "allow", "replace")
_MISSED = ("none", "one", "all")


def plan_of(
    name: str,
    timing: Timing,
    request: Request,
    *,
    overlap: str = "skip",
    missed: str = "one",
    jitter: Duration | None = None,
    until: str | Moment | None = None,
) -> Plan:
    """The plan that enqueues such requests; `missed` is none, one, all, or all with a greatest age, as in `all:6h`.

    UsageError where it cannot be meant.
    """
    if overlap not in _OVERLAPS:
        raise UsageError(f"overlap is {_or(_OVERLAPS)}, not {overlap!r}")
    which, _, age = missed.partition(":")
    if which not in _MISSED or (age and which != "all"):
        raise UsageError(f"missed is {_or(_MISSED)}, or all with a greatest age as in all:6h, not {missed!r}")
    if request.run_at or request.expires_at or request.unique_key or request.hold:
        raise UsageError("a schedule says when: no delay, time, expiry, key or hold beside it")
    if request.after:
        raise UsageError("a schedule says when: it waits for no other job, and gets the result of none")
    return Plan(
        name=name,
        spec=timing.spec,
        zone=timing.zone,
        task=request.task,
        kind=request.kind,
        args=request.args,
        overlap=cast(Overlap, overlap),
        missed=cast(Missed, which),
        missed_age=duration_ms(age) if age else None,
        jitter=0 if jitter is None else duration_ms(jitter),
        until=None if until is None else instant_ms(until),
        queue=request.queue,
        priority=request.priority,
        label=request.label,
        policy=request.policy,
        limit_key=request.limit_key,
        limit_size=request.limit_size,
        limit_drop=request.limit_drop,
        limit_rate=request.limit_rate,
        limit_period=request.limit_period,
    )


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
