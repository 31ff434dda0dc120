"""When schedules fire: cron in a time zone on the days when the clocks change, and intervals."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner import UsageError, cron, every
from jobrunner.instants import local_zone
from jobrunner.timing import Timing, read

DAY = 86_400_000


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def following(timing: Timing, after: str, count: int) -> list[str]:
    """The next instants, as the clocks on the wall of the zone show them, with the offset."""
    zone = ZoneInfo(timing.zone)
    found = islice(timing.after(at(after), 0), count)
    return [datetime.fromtimestamp(one / 1000, UTC).astimezone(zone).strftime("%m-%d %H:%M:%S %z") for one in found]


DAYS = {
    # A fixed time in the hour that is skipped comes once, right after the gap.
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00"): ["03-29 03:00:00 +0200", "03-30 02:30:00 +0200"],
    ("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00"): ["03-29 03:00:00 +0200", "03-30 02:00:00 +0200"],
    ("15 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00"): ["03-29 03:00:00 +0200", "03-30 02:30:15 +0200"],
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00+10:30"): ["10-04 02:30:00 +1100", "10-05 02:15:00 +1100"],
    ("30 2 * * *", "America/New_York", "2026-03-07T12:00-05:00"): ["03-08 03:00:00 -0400", "03-09 02:30:00 -0400"],
    # A whole day was left out: the last of 2011 but one.
    ("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00-10:00"): [
        "12-29 12:00:00 -1000",
        "12-31 00:00:00 +1400",
        "12-31 12:00:00 +1400",
    ],
    # A fixed time in the hour that comes twice: the first of them.
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+02:00"): ["10-25 02:30:00 +0200", "10-26 02:30:00 +0100"],
    ("30 30 2 * * *", "Europe/Berlin", "2026-10-25T02:30:29+02:00"): ["10-25 02:30:30 +0200", "10-26 02:30:30 +0100"],
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T02:30+01:00"): ["10-26 02:30:00 +0100"],
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00+11:00"): ["04-05 01:45:00 +1100", "04-06 01:45:00 +1030"],
    # Wildcards follow the time that elapses.
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:29+01:00"): ["03-29 01:30:00 +0100", "03-29 03:00:00 +0200"],
    ("30 * * * *", "Europe/Berlin", "2026-10-25T02:00+02:00"): [
        "10-25 02:30:00 +0200",
        "10-25 02:30:00 +0100",
        "10-25 03:30:00 +0100",
    ],
    ("*/20 * * * * *", "Europe/Berlin", "2026-03-29T01:59:39+01:00"): ["03-29 01:59:40 +0100", "03-29 03:00:00 +0200"],
    ("0 * * * *", "Pacific/Apia", "2011-12-29T23:00-10:00"): ["12-31 00:00:00 +1400", "12-31 01:00:00 +1400"],
    # Also by half an hour, and at midnight, and where the day comes once a year.
    ("*/15 */3 * * *", "Australia/Lord_Howe", "2026-10-04T01:00+10:30"): [
        "10-04 03:00:00 +1100",
        "10-04 03:15:00 +1100",
    ],
    ("23 */5 * * 7", "Australia/Lord_Howe", "2026-04-05T00:30+11:00"): ["04-05 05:23:00 +1030"],
    ("49 * * * *", "Australia/Lord_Howe", "2026-04-05T01:00+11:00"): ["04-05 01:49:00 +1100", "04-05 01:49:00 +1030"],
    ("*/30 1 * * *", "America/Havana", "2026-03-07T12:00-05:00"): ["03-08 01:00:00 -0400", "03-08 01:30:00 -0400"],
    ("*/30 0 * * *", "America/Havana", "2026-03-07T12:00-05:00"): ["03-09 00:00:00 -0400"],
    ("*/30 2 25 10 *", "Europe/Berlin", "2026-01-01T00:00+01:00"): [
        "10-25 02:00:00 +0200",
        "10-25 02:30:00 +0200",
        "10-25 02:00:00 +0100",
        "10-25 02:30:00 +0100",
        "10-25 02:00:00 +0200",
    ],
    # Weekdays and days of the month, as cron has them.
    ("0 9 * * MON-FRI", "UTC", "2026-11-27T10:00+00:00"): ["11-30 09:00:00 +0000"],
    ("0 0 L * *", "UTC", "2026-02-01T00:00+00:00"): ["02-28 00:00:00 +0000", "03-31 00:00:00 +0000"],
    ("@weekly", "UTC", "2026-11-27T10:00+00:00"): ["11-29 00:00:00 +0000"],
}


@pytest.mark.parametrize(("spec", "zone", "after"), DAYS)
def test_a_cron_expression_comes_when_it_must(spec: str, zone: str, after: str) -> None:
    expected = DAYS[spec, zone, after]
    assert following(cron(spec, tz=zone), after, len(expected)) == expected


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("spec", ["30 2 * * *", "*/15 * * * *", "5 1-3 * * *"])
def test_from_whatever_moment_one_asks_the_same_instants_come(spec: str, zone: str) -> None:
    timing = cron(spec, tz=zone)
    year = list(islice(timing.after(at("2026-01-01T00:00+00:00"), 0), 2500))
    assert all(before < after for before, after in pairwise(year))
    for number in range(0, len(year) - 1, 7):
        assert next(timing.after(year[number], 0)) == year[number + 1]
        assert next(timing.after(year[number + 1] - 1, 0)) == year[number + 1]


CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30"),
    "America/Havana": ("2026-03-08T05:00", "2026-11-01T05:00"),
    "Antarctica/Troll": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "Pacific/Apia": ("2011-12-30T10:00",),
    "Asia/Tehran": ("2022-03-21T20:30",),
}


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("spec", ["*/7 * * * *", "13 * * * *", "*/20 */3 * * *", "* 1 * * *", "*/5 0,2 * * 0"])
def test_with_a_wildcard_it_comes_whenever_the_wall_shows_it(spec: str, zone: str) -> None:
    wall, (minutes, hours, *_, days) = ZoneInfo(zone), spec.split()
    for change in CHANGES[zone]:
        begin = at(f"{change}+00:00") - DAY
        expected = [
            moment
            for moment in range(begin, begin + 2 * DAY, 60_000)
            for shown in [datetime.fromtimestamp(moment / 1000, UTC).astimezone(wall)]
            if _fits(minutes, shown.minute) and _fits(hours, shown.hour) and (days == "*" or shown.isoweekday() == 7)
        ]
        found = list(takewhile((begin + 2 * DAY).__gt__, cron(spec, tz=zone).after(begin - 1, 0)))
        assert found == expected, change


def _fits(field: str, number: int) -> bool:
    if field.startswith("*"):
        return number % int(field.partition("/")[2] or 1) == 0
    return str(number) in field.split(",")


def test_a_fixed_time_comes_each_day_of_the_year_once() -> None:
    timing = cron("30 2 * * *", tz="Europe/Berlin")
    year = [
        one for one in islice(timing.after(at("2026-01-01T00:00+01:00"), 0), 366) if one < at("2027-01-01T00:00+01:00")
    ]
    zone = ZoneInfo("Europe/Berlin")
    days = [datetime.fromtimestamp(one / 1000, UTC).astimezone(zone).date() for one in year]
    assert days == [days[0] + timedelta(days=number) for number in range(365)]


@given(st.integers(1, 10**6), st.integers(0, 10**13), st.integers(0, 10**13))
def test_an_interval_is_counted_from_its_beginning(seconds: int, anchor: int, moment: int) -> None:
    first, second = islice(every(seconds).after(moment, anchor), 2)
    assert first > moment
    assert (first - anchor) % (1000 * seconds) == 0
    assert first > anchor
    assert first - max(moment, anchor) <= 1000 * seconds
    assert second - first == 1000 * seconds


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("60 * * * *", "is no cron expression (bad minute)"),
        ("0 0 30 2 *", "is no cron expression (bad day-of-month)"),
        ("tomorrow", "is no cron expression (wrong number of fields)"),
        ("", "is no cron expression"),
        ("@sometimes", "there are @yearly"),
        ("every 10ms", "an interval is at least a second"),
        ("every moment", "is not a duration"),
    ],
)
def test_what_is_no_time_is_refused_in_a_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        read(spec, "UTC")


def test_a_zone_that_is_not_there_is_refused() -> None:
    for zone in ("Mars/Olympus", "../etc/passwd", "europe/nowhere"):
        with pytest.raises(UsageError, match="there is no time zone"):
            cron("0 3 * * *", tz=zone)


@pytest.mark.parametrize(
    ("said", "zone"), [("Europe/Berlin", "Europe/Berlin"), (":Asia/Tokyo", "Asia/Tokyo"), ("X0Y", "UTC")]
)
def test_without_a_zone_it_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch, said: str, zone: str) -> None:
    monkeypatch.setenv("TZ", said)
    assert local_zone() == zone
    assert cron("0 3 * * *").zone == zone
    assert every("5s").zone == "UTC"
