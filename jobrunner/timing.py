"""When a schedule fires: cron expressions in a time zone, and fixed intervals.

What knows the clocks, `instants`, is imported where it is asked: it brings much, and each fork would pay for it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from jobrunner.errors import UsageError
from jobrunner.times import Duration, duration_ms

SHORTEST_MS = 1000
_EVERY = "every "
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Timing(NamedTuple):
    """A rule that gives instants. It is made by `cron`, `every` or `read`, which refuse what cannot be meant."""

    spec: str
    """`0 3 * * *`, with seconds in front `*/10 * * * * *`, `@daily`, or `every 90s`."""
    zone: str = "UTC"
    """IANA name, as Europe/Berlin."""

    def after(self, moment: int, anchor: int) -> Iterator[int]:
        """The instants after a moment, in order, in milliseconds since 1970; intervals are counted from the anchor."""
        if self.spec.startswith(_EVERY):
            return _intervals(duration_ms(self.spec.removeprefix(_EVERY)), moment, anchor)
        from jobrunner.instants import instants, zone_of

        return instants(_expression(self.spec), zone_of(self.zone), moment)


def cron(spec: str, tz: str | None = None) -> Timing:
    """A cron expression of five fields, or of six with seconds in front; `tz` is an IANA name, else this machine's."""
    if spec.strip().startswith(_EVERY):
        raise UsageError(f"{spec!r} is an interval: write every(...)")
    return read(spec, tz)


def every(interval: Duration) -> Timing:
    """An interval, counted from the making of the schedule whatever the clocks on the wall do: `every("90s")`."""
    return read(f"every {interval if isinstance(interval, str) else f'{duration_ms(interval)}ms'}", "UTC")


def read(spec: str, zone: str | None = None) -> Timing:
    """A timing as it is written down; UsageError says what is wrong with it."""
    from jobrunner.instants import local_zone, zone_of

    text = " ".join(spec.split())
    timing = Timing(text, "UTC" if text.startswith(_EVERY) and zone is None else zone or local_zone())
    if text.startswith(_EVERY):
        if duration_ms(text.removeprefix(_EVERY)) < SHORTEST_MS:
            raise UsageError(f"{text!r}: an interval is at least a second")
    elif next(timing.after(0, 0), None) is None:
        raise UsageError(f"{text!r} never comes")
    zone_of(timing.zone)
    return timing


def _expression(spec: str) -> str:
    if spec.startswith("@"):
        if spec not in _MACROS:
            raise UsageError(f"{spec!r} is no time: there are {', '.join(_MACROS)}")
        return _MACROS[spec]
    return spec


def _intervals(interval: int, moment: int, anchor: int) -> Iterator[int]:
    number = max(0, (moment - anchor) // interval) + 1
    while True:
        yield anchor + number * interval
        number += 1
