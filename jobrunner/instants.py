"""The instants at which clocks on the wall show what a cron expression matches, and the zones of these clocks.

Where they change: a fixed time in the skipped hour comes once, right after the gap; one in the repeated hour once, at
the first; where hours or minutes are a wildcard (`*` or `*/n`), they follow the time that elapses.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

from jobrunner.errors import UsageError

_SECOND = timedelta(seconds=1)
_FAR_BACK = timedelta(days=2)
"""More than any gap of any clock: Apia once left out a whole day."""


def instants(expression: str, zone: tzinfo, moment: int) -> Iterator[int]:
    """Those after a moment, in order, in milliseconds since 1970."""
    start = datetime.fromtimestamp(moment // 1000, UTC).astimezone(zone)
    fields = expression.split()
    # Its last fields but three are minutes and hours, whether there are seconds or not.
    if len(fields) >= 5 and not any(one.startswith("*") for one in fields[-5:-3]):
        found = _fixed(expression, zone, start)
    else:
        found = _elapsing(expression, zone, start.astimezone(UTC))
    return (milliseconds for one in found if (milliseconds := _milliseconds(one)) > moment)


def _fixed(expression: str, zone: tzinfo, start: datetime) -> Iterator[datetime]:
    """The times on the wall that match, each at one instant."""
    changes = start.utcoffset() != (start.astimezone(UTC) - _FAR_BACK).astimezone(zone).utcoffset()
    before = start.replace(tzinfo=None, fold=0) - (_FAR_BACK if changes else timedelta(0))
    last = datetime.min.replace(tzinfo=UTC)
    for wall in _matches(expression, before):
        instant = _instant(wall, zone)
        if instant > last:  # several times of a gap come together, right after it
            yield instant
            last = instant


def _elapsing(expression: str, zone: tzinfo, start: datetime) -> Iterator[datetime]:
    """The instants from the start on at which the time on the wall matches: both where it comes twice."""
    while True:
        offset, end = _offset(start, zone), start + _FAR_BACK
        change = _change(zone, start, end) if _offset(end, zone) != offset else None
        found = None
        for wall in _matches(expression, (start + offset - _SECOND).replace(tzinfo=None)):
            found = wall.replace(tzinfo=UTC) - offset
            if found >= (change or end):
                break
            yield found
        if found is None or found < (change or end):
            return
        start = change or max(end, found - _FAR_BACK)


def _change(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """The first second between the two at which the clocks are not as before."""
    offset = _offset(before, zone)
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        before, after = (middle, after) if _offset(middle, zone) == offset else (before, middle)
    return after


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _instant(wall: datetime, zone: tzinfo) -> datetime:
    instant = wall.replace(tzinfo=zone).astimezone(UTC)  # the first of two
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    wall = wall.replace(second=0)
    while instant.astimezone(zone).replace(tzinfo=None, fold=0) != wall:
        wall += timedelta(minutes=1)
        instant = wall.replace(tzinfo=zone).astimezone(UTC)
    return instant


def _matches(expression: str, after: datetime) -> Iterator[datetime]:
    from cronsim import CronSim, CronSimError  # only where there are schedules

    try:
        found = CronSim(expression, after)
    except CronSimError as error:
        raise UsageError(
            f"{expression!r} is no cron expression ({str(error).lower()}): write minute, hour, day of the month, "
            "month and day of the week, as in '30 3 * * MON-FRI', with seconds in front where they matter"
        ) from error
    return iter(found)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name; UsageError where this machine does not know it."""
    from zoneinfo import ZoneInfo  # only where there are schedules

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"there is no time zone {name!r} on this machine: write it as in Europe/Berlin "
            "(the zones are in the package tzdata)"
        ) from error


def local_zone() -> str:
    """The IANA name of this machine's zone; UTC where it does not tell."""
    named = os.environ.get("TZ", "").removeprefix(":")
    if not named:
        named = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")[2]
    try:
        zone_of(named)
    except UsageError:
        return "UTC"
    return named
