"""Schedules: kept in the database; whichever runner comes first fires one, in a transaction with what it enqueues."""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile
from typing import NamedTuple

from jobrunner import broker
from jobrunner.arrangements import Fire, Plan, Schedule, Source
from jobrunner.database import Database
from jobrunner.errors import ScheduleNotFound, UsageError
from jobrunner.models import InvocationId, Request
from jobrunner.times import iso, now_ms
from jobrunner.timing import Timing

LATE_MS = 60_000
"""What comes up to so much late is not missed: a runner was busy, or was being replaced."""
INSTANTS_AT_ONCE = 500
"""How many instants of a schedule one transaction decides."""
SCHEDULES_AT_ONCE = 50
_PLAN = len(Plan._fields)


def put(database: Database, plan: Plan, source: Source) -> None:
    """Make it, or change it to this; with the same timing its next instant stays. UsageError where it is not one."""
    _check(plan)
    now = now_ms()
    with database.transaction():
        row = database.one("schedules", schedule=plan.name)
        before = None if row is None else _schedule(row)
        created_at = now if before is None else before.created_at
        if before is not None and (before.paused or _is_on_course(before, plan)):
            next_at = before.next_at
        else:
            next_at = _first(plan, max(now, _resumes(before)), created_at)
        database.insert("put_schedule", (*plan, source, now, next_at))


def declare(database: Database, plans: Sequence[Plan], modules: Iterable[str]) -> list[str]:
    """The schedules that code declares now; names those of these modules that it does not declare any more.

    These do not fire any more, and stay to be seen until somebody removes them.
    """
    known, declared = set(modules), {plan.name for plan in plans}
    with database.transaction():
        for plan in plans:
            put(database, plan, "code")
        vanished = [
            one.plan.name
            for one in schedules(database)
            if one.source == "code" and one.plan.task.partition(":")[0] in known and one.plan.name not in declared
        ]
        for name in vanished:
            database.query("vanish_schedule", schedule=name, now=now_ms())
    return vanished


def schedules(database: Database) -> list[Schedule]:
    """All, by name."""
    return [_schedule(row) for row in database.query("schedules", schedule=None)]


def schedule(database: Database, name: str) -> Schedule:
    """One by its name; ScheduleNotFound where there is none."""
    row = database.one("schedules", schedule=name)
    if row is None:
        raise ScheduleNotFound(name)
    return _schedule(row)


def fires(database: Database, name: str, limit: int = 100) -> list[Fire]:
    """What became of its last instants, the newest first."""
    return [Fire(*row) for row in database.query("fires", schedule=name, limit=limit)]


def upcoming(one: Schedule, count: int) -> list[int]:
    """Its next instants from now on, paused or not, in milliseconds since 1970."""
    found = Timing(one.plan.spec, one.plan.zone).after(max(now_ms(), _resumes(one)), one.created_at)
    return list(islice(_until(found, one.plan.until), count))


def remove(database: Database, name: str) -> None:
    """It is gone; what it enqueued stays. ScheduleNotFound where there is none."""
    if not database.query("remove_schedule", schedule=name):
        raise ScheduleNotFound(name)


def pause(database: Database, name: str, until: int | None = None) -> None:
    """It does not fire, until that moment or until it is resumed; what it leaves out is not made up for."""
    with database.transaction():
        one = schedule(database, name)
        next_at = None
        if until is not None and one.vanished_at is None:
            next_at = _first(one.plan, until - 1, one.created_at)
        database.query("pause_schedule", schedule=name, paused=until is None, until=until, next_at=next_at)


def resume(database: Database, name: str) -> None:
    """It fires again, from now on."""
    with database.transaction():
        one = schedule(database, name)
        if one.vanished_at is not None:
            raise UsageError(f"the code does not declare the schedule {name!r} any more: it can only be removed")
        next_at = _first(one.plan, now_ms(), one.created_at)
        database.query("pause_schedule", schedule=name, paused=False, until=None, next_at=next_at)


def run_now(database: Database, name: str) -> InvocationId:
    """Enqueue a run of it, whatever its times, pauses and overlaps say; gives its number."""
    return broker.enqueue(database, [_request(schedule(database, name).plan)])[0]


class Fired(NamedTuple):
    """How many jobs were enqueued, what was left out, and which schedules cannot be read here, with why."""

    jobs: int
    skipped: list[Fire]
    unreadable: dict[str, str]


def fire_due(database: Database, without: Iterable[str] = ()) -> Fired:
    """Inside a transaction: decide the instants that have come, but of these, and enqueue what they ask for.

    What cannot be read stays as it is, for a runner that knows its time zone, say, or until somebody mends it.
    """
    fired = Fired(0, [], {})
    names = database.query("due_schedules", now=now_ms(), limit=SCHEDULES_AT_ONCE, without=json.dumps(list(without)))
    for (name,) in names:
        try:
            with database.transaction():
                jobs, skipped = _fire(database, schedule(database, name))
        except (UsageError, ValueError, OverflowError) as error:  # rows can be written by hand
            fired.unreadable[name] = str(error)
        else:
            fired = fired._replace(jobs=fired.jobs + jobs, skipped=[*fired.skipped, *skipped])
    return fired


def _fire(database: Database, one: Schedule) -> tuple[int, list[Fire]]:
    now, following = now_ms(), None
    instants: list[int] = []
    for instant in islice(_coming(one), INSTANTS_AT_ONCE + 1):
        if instant > now or len(instants) == INSTANTS_AT_ONCE:
            following = instant
            break
        instants.append(instant)
    to_fire, missed = _choose(one.plan, instants, now, are_more=following is not None and following <= now)
    skipped = _leave_out(database, one, missed)
    jobs = 0
    for instant in to_fire:
        fire = _decide(database, one, instant)
        jobs += fire is not None and fire.reason is None
        skipped += [fire] if fire is not None and fire.reason is not None else []
    database.query("move_schedule", schedule=one.plan.name, next_at=following, last_at=max(to_fire, default=None))
    return jobs, skipped


def _choose(plan: Plan, instants: list[int], now: int, *, are_more: bool) -> tuple[list[int], list[int]]:
    """Which of the instants that have come fire, and which are left out because they were missed."""
    missed = [instant for instant in instants if instant <= now - LATE_MS]
    in_time = instants[len(missed) :]
    if plan.missed == "all":
        oldest = 0 if plan.missed_age is None else now - plan.missed_age
        return [*(one for one in missed if one >= oldest), *in_time], [one for one in missed if one < oldest]
    if plan.missed == "one" and missed and not in_time and not are_more:
        return missed[-1:], missed[:-1]  # the last stands for all of them
    return in_time, missed


def _leave_out(database: Database, one: Schedule, missed: list[int]) -> list[Fire]:
    if not missed:
        return []
    fire = Fire(one.plan.name, missed[-1], now_ms(), None, "no runner was there in time", len(missed) - 1)
    return [fire] if _write_down(database, fire) else []


def _decide(database: Database, one: Schedule, instant: int) -> Fire | None:
    """Fire the instant, or say why not; None where it was decided before."""
    plan = one.plan
    running = (
        [row[0] for row in database.query("runs_of_schedule", schedule=plan.name)] if plan.overlap != "allow" else []
    )
    reason = f"job {running[0]} is not finished" if running and plan.overlap == "skip" else None
    fire = Fire(plan.name, instant, now_ms(), None, reason, 0)
    if not _write_down(database, fire):
        return None
    if reason is not None:
        return fire
    if plan.overlap == "replace":
        broker.cancel(database, running, reason=f"replaced by the run of {iso(instant)}")
    job = broker.enqueue(database, [_request(plan, instant)])[0]
    database.query("fire_is_job", schedule=plan.name, instant=instant, id=job)
    return fire._replace(invocation=job)


def _write_down(database: Database, fire: Fire) -> bool:
    """False where the instant was decided before: by whom, and why the clock is where it is, does not matter."""
    return bool(
        database.query(
            "put_fire",
            schedule=fire.schedule,
            instant=fire.instant,
            now=fire.at,
            reason=fire.reason,
            more=fire.more,
        )
    )


def _request(plan: Plan, instant: int | None = None) -> Request:
    request = Request(
        task=plan.task,
        kind=plan.kind,
        args=plan.args,
        queue=plan.queue,
        priority=plan.priority,
        run_at=_later(plan, instant),
        label=plan.label,
        policy=plan.policy,
        limit_key=plan.limit_key,
        limit_size=plan.limit_size,
        limit_drop=plan.limit_drop,
        limit_rate=plan.limit_rate,
        limit_period=plan.limit_period,
        schedule=plan.name,
    )
    if plan.overlap in ("queue", "replace"):  # one at a time, by what holds across runners anyway; `_check`: no other
        return request._replace(limit_key=f"schedule {plan.name}", limit_size=1)
    return request


def _later(plan: Plan, instant: int | None) -> int | None:
    if instant is None or plan.jitter == 0:
        return None
    # The same for every runner, and at every try.
    return instant + random.Random(f"{plan.name} {instant}").randint(0, plan.jitter)


def _check(plan: Plan) -> None:
    if not plan.name or not plan.name.isprintable():
        raise UsageError("a schedule has a name that can be printed")
    if plan.overlap in ("queue", "replace") and plan.limit_key is not None:
        raise UsageError(f"overlap={plan.overlap} is a limit itself: the task of {plan.name!r} has another one already")
    if plan.missed_age is not None and plan.missed != "all":
        raise UsageError("a greatest age is for missed=all alone")


def _is_on_course(before: Schedule, plan: Plan) -> bool:
    same = (before.plan.spec, before.plan.zone, before.plan.until) == (plan.spec, plan.zone, plan.until)
    return same and before.vanished_at is None


def _resumes(one: Schedule | None) -> int:
    """The last moment of its pause; an instant at its end comes."""
    return 0 if one is None or one.paused_until is None else one.paused_until - 1


def _first(plan: Plan, moment: int, anchor: int) -> int | None:
    instant = next(Timing(plan.spec, plan.zone).after(moment, anchor), None)
    return instant if instant is None or plan.until is None or instant <= plan.until else None


def _coming(one: Schedule) -> Iterator[int]:
    found = Timing(one.plan.spec, one.plan.zone).after((one.next_at or 0) - 1, one.created_at)
    return _until(found, one.plan.until)


def _until(instants: Iterable[int], end: int | None) -> Iterator[int]:
    return takewhile(lambda instant: end is None or instant <= end, instants)


def _schedule(row: Sequence[object]) -> Schedule:
    return Schedule(Plan(*row[:_PLAN]), *row[_PLAN:])  # type: ignore[arg-type]
