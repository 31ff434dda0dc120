"""Durations and instants as people write them, in milliseconds as we keep them."""

import functools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import time_ns
from typing import NamedTuple, Protocol

from jobrunner.errors import UsageError

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PERIODS = {"s": 1000, "sec": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|w)\s*"  # compiled where it is first used, and then kept by re

LONGEST_MS = 1000 * 365 * 86_400_000
"""A thousand years: moments that far off still fit into a row, and can be shown."""


# Of datetime no more than this: who imports tasks does not import it, since it would cost each fork.
class Span(Protocol):
    """A `datetime.timedelta`."""

    def total_seconds(self) -> float:
        """How long it is."""


class Moment(Protocol):
    """A `datetime.datetime`; one without an offset is local time."""

    def timestamp(self) -> float:
        """Seconds since 1970 UTC."""


Duration = str | int | float | Span
"""`"90s"`, `"1h30m"`, a number of seconds, or a timedelta."""


def _system_clock() -> int:
    return time_ns() // 1_000_000


# Time asleep counts; Linux leaves it out of its monotonic clock, macOS does not.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _boot_clock() -> int:
    return time.clock_gettime_ns(_SINCE_BOOT) // 1_000_000


class Clocks(NamedTuple):
    """Where the times come from, in milliseconds."""

    wall: Callable[[], int] = _system_clock
    steady: Callable[[], int] = _boot_clock


_MACHINE = Clocks()
_clocks: ContextVar[Clocks] = ContextVar("clocks", default=_MACHINE)


def now_ms() -> int:
    """The wall clock, in milliseconds since 1970 UTC."""
    source = _clocks.get()
    return time_ns() // 1_000_000 if source is _MACHINE else source.wall()


def steady_ms() -> int:
    """Milliseconds since the machine started, asleep or not: a clock that nobody can set."""
    return _clocks.get().steady()


@contextmanager
def clocks(source: Clocks) -> Iterator[None]:
    """In this block and this thread times are what `source` tells: for tests that let the wall clock jump."""
    before = _clocks.set(source)
    try:
        yield
    finally:
        _clocks.reset(before)


def duration_ms(duration: Duration) -> int:
    """Read a duration, in milliseconds; a bare number is seconds."""
    if isinstance(duration, str):
        milliseconds = _parse(duration)
    elif hasattr(duration, "total_seconds"):
        milliseconds = round(duration.total_seconds() * 1000)
    else:
        milliseconds = _seconds(duration)
    if milliseconds < 0:
        raise UsageError(f"a duration cannot be negative: {duration!r}")
    if milliseconds > LONGEST_MS:
        raise UsageError(f"a duration cannot be longer than a thousand years: {duration!r}")
    return milliseconds


def _seconds(number: float) -> int:
    try:
        return round(number * 1000)
    except (OverflowError, ValueError) as error:
        raise UsageError(f"{number!r} is not a duration") from error


def _parse(text: str) -> int:
    stripped = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", stripped):
        return round(float(stripped) * 1000)
    parts = list(re.finditer(_PART, stripped))
    if not stripped or "".join(part.group() for part in parts) != stripped:
        raise UsageError(f"{text!r} is not a duration: write it like 90s, 10m, 1h30m or 2d")
    return round(sum(float(part[1]) * _UNITS[part[2]] for part in parts))


def read_rate(text: str) -> tuple[int, int]:
    """`100/min`, `50/s`, `10/30s`: how many, in how many milliseconds."""
    number, slash, period = text.replace(" ", "").partition("/")
    if not slash or not number.isdigit() or not 1 <= int(number[:9]) <= 100_000 or not period:
        raise UsageError(f"a rate is a number in a time, as in 50/s, 100/min or 10/30s, not {text!r}")
    milliseconds = _PERIODS.get(period) or duration_ms(period)
    if milliseconds < 1:
        raise UsageError(f"a rate is in a time of at least a millisecond, not {text!r}")
    return int(number), milliseconds


def instant_ms(instant: str | Moment) -> int:
    """Read a point in time; one without an offset is local time, and a bare 18:00 the next one that comes."""
    if isinstance(instant, str):
        instant = _clock(instant) or _iso(instant)
    return round(instant.timestamp() * 1000)


def _clock(text: str) -> Moment | None:
    from datetime import datetime, timedelta

    match = re.fullmatch(r"(\d{1,2}):(\d\d)", text.strip())
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        return None
    now = datetime.now().astimezone()
    today = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)


def _iso(text: str) -> Moment:
    from datetime import datetime

    try:
        return datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a time: write it like 18:00, 2030-01-31 18:00 or 2030-01-31T18:00Z"
        ) from error


def iso(milliseconds: int | None, *, utc: bool = True) -> str | None:
    """ISO 8601 with milliseconds, as the views show it; local time with its offset when not `utc`."""
    if milliseconds is None:
        return None
    before, after = _iso_second(milliseconds // 1000, None if utc else time.tzname)
    return f"{before}.{milliseconds % 1000:03d}{after}"


@functools.lru_cache(4096)  # of many jobs, most began in the same seconds
def _iso_second(seconds: int, zone: tuple[str, str] | None) -> tuple[str, str]:
    """What stands before and behind the milliseconds; `zone`: the names of local time, None for UTC."""
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(seconds, UTC)
    text = moment.isoformat() if zone is None else moment.astimezone().isoformat()
    return text[:19], text[19:].replace("+00:00", "Z") if zone is None else text[19:]


def words(milliseconds: int) -> str:
    """A duration as people say it: 250 ms, 3.2 s, 4 min 10 s, 2 h 5 min, 3 d 4 h."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f}".removesuffix(".0") + " s"
    seconds = milliseconds // 1000
    for size, unit, smaller, small_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    raise AssertionError("a minute and more has a unit")
