"""`jobrunner schedule list` and `next`: what there is, and when it comes."""

from datetime import UTC, datetime, timedelta

from jobrunner import schedules
from jobrunner.arrangements import Schedule
from jobrunner.cli import printing
from jobrunner.cli.session import Session
from jobrunner.errors import UsageError
from jobrunner.instants import zone_of
from jobrunner.times import iso, now_ms, words

_HEADS = ("name", "when", "next", "in", "is", "does")


def list_all(called: Session) -> None:
    """All schedules: a table for people, else a line for each."""
    with called.client() as client:
        found = schedules.schedules(client.database)
    if called.json:
        for one in found:
            printing.write_json(_facts(one))
    elif called.for_people:
        printing.write_table(called, _HEADS, map(_short, found), shrink={"name", "when", "does"})
    else:
        for one in found:
            printing.write_tabs(_row(one))
    for one in found:
        if one.vanished_at is not None:
            called.notice(f"{one.plan.name} is not in the code any more: `jobrunner schedule remove {one.plan.name}`")


def list_next(called: Session, name: str, count: int) -> None:
    """The next times of one, in its zone, with a word where the clocks change between two of them."""
    with called.client() as client:
        one = schedules.schedule(client.database, name)
    zone, before = one.plan.zone, now_ms()
    for instant in schedules.upcoming(one, count):
        change = _change(before, instant, zone)
        if called.json:
            printing.write_json({"at": iso(instant), "local": moment(instant, zone), "clocks": change})
        else:
            printing.write_tabs([moment(instant, zone), *([f"the clocks go {change} before this"] if change else [])])
        before = instant


def moment(instant: int | None, zone: str) -> str:
    """A time on the wall of the zone, with its offset; never where there is none."""
    if instant is None:
        return "never"
    return _local(instant, zone).isoformat(" ", "seconds")


def _local(instant: int, zone: str) -> datetime:
    moment = datetime.fromtimestamp(instant // 1000, UTC)
    try:
        return moment.astimezone(zone_of(zone))
    except UsageError:  # of another machine: the list is to show it all the same
        return moment


def _change(before: int, after: int, zone: str) -> str | None:
    offsets = [_local(instant, zone).utcoffset() or timedelta(0) for instant in (before, after)]
    if offsets[0] == offsets[1]:
        return None
    by = words(round(abs(offsets[1] - offsets[0]).total_seconds() * 1000))
    return f"{'forward' if offsets[1] > offsets[0] else 'back'} by {by}"


def _state(one: Schedule) -> str:
    if one.vanished_at is not None:
        return "vanished"
    if not _can_be_read(one):
        return "unreadable"
    if one.paused:
        return "paused"
    if one.paused_until is not None and one.paused_until > now_ms():
        return f"paused until {moment(one.paused_until, one.plan.zone)}"
    return "ended" if one.next_at is None else "on"


def _can_be_read(one: Schedule) -> bool:
    try:
        schedules.upcoming(one, 1)
    except UsageError:
        return False
    return True


def _row(one: Schedule) -> list[object]:
    plan = one.plan
    left = "" if one.next_at is None else words(max(0, one.next_at - now_ms()))
    last = "" if one.last_at is None else moment(one.last_at, plan.zone)
    return [plan.name, plan.spec, plan.zone, moment(one.next_at, plan.zone), left, last, _state(one), plan.task]


def _short(one: Schedule) -> list[object]:
    name, spec, zone, next_at, left, _, state, task = _row(one)
    return [name, spec if zone == "UTC" else f"{spec} {zone}", str(next_at)[:16], left, state, task]


def _facts(one: Schedule) -> dict[str, object]:
    moments = ("until", "created_at", "next_at", "last_at", "paused_until", "vanished_at")
    facts = {**one.plan._asdict(), **one._asdict(), "is": _state(one)}
    del facts["plan"]
    return {name: iso(value) if name in moments else value for name, value in facts.items()}
