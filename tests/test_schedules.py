"""Schedules in the database: each instant fires once, whatever runners, clocks and downtimes do."""

import contextlib
import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobrunner import App, Status, UsageError, claims, cron, every, orchestrator, schedules, times
from jobrunner.arrangements import Plan
from jobrunner.database import Database
from jobrunner.errors import ScheduleNotFound
from jobrunner.models import Outcome, Request, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.plans import plan_of
from jobrunner.policy import Policy
from jobrunner.timing import Timing
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import environment
from tests.helpers.waiting import until
from tests.helpers.wall import NOON, Wall

HOUR = 3_600_000
DAY = 24 * HOUR
WEEK = 7 * DAY
FIRES = "SELECT instant, invocation, reason, more FROM jr_fire WHERE schedule = ? ORDER BY instant"


class Torn(Exception):
    """A runner is killed before its commit."""


@pytest.fixture
def wall() -> Iterator[Wall]:
    wall = Wall()
    with times.clocks(wall.clocks()):
        yield wall


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database(path, create=True, relaxed=True) as database:
        yield database


def plan(timing: Timing, name: str = "s", **words: str) -> Plan:
    return plan_of(name, timing, Request("a:b"), **words)


def fire(database: Database) -> schedules.Fired:
    with database.transaction():
        return schedules.fire_due(database)


def finish_all(database: Database) -> None:
    """Have all jobs done."""
    while claimed := claims.claim(database, RunnerId(1), [], 1000):
        for one in claimed:
            orchestrator.record(database, Ended(one, Policy(), Outcome(), None), RunnerId(1))


def instants(path: Path, name: str = "s") -> list[int]:
    """Those that became jobs."""
    return [row[0] for row in rows(path, FIRES, name) if row[1] is not None]


ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia")
SPECS = (
    *("0 3 * * *", "30 2 * * *", "0 */6 * * *", "15 1,2,3 * * *", "45 1 * * MON"),
    *("0 0 1 * *", "30 2 * * SUN", "0 12 31 12 *", "20 4 29 2 *", "5 23 * * *"),
)


def test_in_a_year_of_four_zones_each_instant_fires_once(database: Database, path: Path, wall: Wall) -> None:
    begin, end = (round(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000) for year in (2011, 2012))
    wall.now = begin
    plans = [
        plan(cron(spec, tz=zone), f"{zone} {spec}", overlap="allow", missed="all") for zone in ZONES for spec in SPECS
    ]
    assert len(plans) == 40
    for one in plans:
        schedules.put(database, one, "command")
    dice = random.Random(7)
    with Database(path, relaxed=True) as second:
        runners = (database, second)
        while wall.now < end:
            runner = dice.choice(runners)
            if dice.random() < 0.1:  # it is killed
                with contextlib.suppress(Torn), runner.transaction():
                    schedules.fire_due(runner)
                    raise Torn
            else:
                fire(runner)
            if dice.random() < 0.1:  # the clock jumps
                wall.now += dice.choice((-HOUR, HOUR))
            wall.now += dice.randrange(4 * HOUR)
        wall.now = end
        for runner in runners:
            fire(runner)
    assert rows(path, "SELECT count(*) FROM jr_fire WHERE invocation IS NULL") == [(0,)]
    assert rows(path, "SELECT count(*) FROM jr_fire") == rows(path, "SELECT count(*) FROM jr_invocation")
    for one in plans:
        timing = Timing(one.spec, one.zone)
        expected = list(itertools.takewhile(lambda instant: instant <= end, timing.after(begin, begin)))
        assert instants(path, one.name) == expected, one.name


@pytest.mark.parametrize(
    ("missed", "jobs", "left_out"),
    [("none", 1, 10_079), ("one", 1, 10_079), ("all", 10_080, 0), ("all:1h", 61, 10_019)],
)
def test_what_was_missed_in_a_week_of_downtime(
    database: Database, path: Path, wall: Wall, missed: str, jobs: int, left_out: int
) -> None:
    schedules.put(database, plan(cron("* * * * *", tz="UTC"), overlap="allow", missed=missed), "command")
    wall.now += WEEK
    while (row := rows(path, "SELECT next_at FROM jr_schedule")[0][0]) <= wall.now:
        fire(database)
        assert rows(path, "SELECT next_at FROM jr_schedule")[0][0] > row
    found = rows(path, FIRES, "s")
    assert sum(one[1] is not None for one in found) == jobs
    assert sum(1 + one[3] for one in found if one[1] is None) == left_out
    assert {one[2] for one in found if one[1] is None} <= {"no runner was there in time"}
    assert max(instants(path)) == wall.now, "the last of them is in time"


@pytest.mark.parametrize(("missed", "fired"), [("none", []), ("one", [2]), ("all", [0, 1, 2])])
def test_what_was_missed_where_nothing_is_in_time(
    database: Database, path: Path, wall: Wall, missed: str, fired: list[int]
) -> None:
    schedules.put(database, plan(cron("0 3 * * *", tz="UTC"), overlap="allow", missed=missed), "command")
    wall.now += 3 * DAY
    fire(database)
    first = NOON + 15 * HOUR
    assert instants(path) == [first + DAY * number for number in fired]
    assert rows(path, "SELECT next_at FROM jr_schedule") == [(first + 3 * DAY,)]


def test_one_stands_for_all_also_where_as_many_were_missed_as_are_looked_at_together(
    database: Database, path: Path, wall: Wall
) -> None:
    schedules.put(database, plan(every("1m"), overlap="allow", missed="one"), "command")
    wall.now += (schedules.INSTANTS_AT_ONCE + 1) * 60_000
    while rows(path, "SELECT next_at FROM jr_schedule")[0][0] <= wall.now:
        fire(database)
    assert instants(path) == [wall.now], "the last of them is in time, and stands for the others"


def test_an_interval_that_was_missed_for_a_year_takes_few_rows(database: Database, path: Path, wall: Wall) -> None:
    schedules.put(database, plan(every("1h"), missed="none"), "command")
    wall.now += 365 * DAY
    while rows(path, "SELECT next_at FROM jr_schedule")[0][0] <= wall.now:
        fire(database)
    assert sum(1 + row[3] for row in rows(path, FIRES, "s")) == 365 * 24
    assert rows(path, "SELECT count(*) < 30 FROM jr_fire") == [(1,)]


def test_the_clock_may_jump_back_and_no_instant_comes_again(database: Database, path: Path, wall: Wall) -> None:
    schedules.put(database, plan(cron("*/10 * * * *", tz="UTC"), overlap="allow"), "command")
    for step in (HOUR, -HOUR, HOUR // 2, HOUR, -3 * HOUR, 4 * HOUR):
        wall.now += step
        fire(database)
    found = instants(path)
    assert len(found) == len(set(found)) > 2


def test_an_instant_that_was_decided_is_not_decided_again_whoever_turns_the_schedule_back(
    database: Database, path: Path, wall: Wall
) -> None:
    schedules.put(database, plan(cron("*/10 * * * *", tz="UTC"), overlap="allow", missed="all"), "command")
    wall.now += HOUR
    assert fire(database).jobs == 6
    rows(path, "UPDATE jr_schedule SET next_at = ?", NOON + 600_000)
    assert fire(database).jobs == 0
    assert rows(path, "SELECT count(*) FROM jr_invocation") == [(6,)]
    assert rows(path, "SELECT next_at FROM jr_schedule") == [(wall.now + 600_000,)]


@pytest.mark.parametrize("overlap", ["skip", "allow", "queue", "replace"])
def test_what_happens_while_the_run_before_is_not_finished(
    database: Database, path: Path, wall: Wall, overlap: str
) -> None:
    schedules.put(database, plan(every("1m"), overlap=overlap), "command")
    wall.now += 60_000
    fire(database)
    (first,) = claims.claim(database, RunnerId(1), [], 10)
    wall.now += 60_000
    fired = fire(database)
    claimed = claims.claim(database, RunnerId(1), [], 10)
    assert len(claimed) == (overlap == "allow")
    assert fired.jobs == (overlap != "skip")
    assert [one.reason for one in fired.skipped] == ["job 1 is not finished"] * (overlap == "skip")
    asked = rows(path, "SELECT id FROM jr_invocation WHERE cancel_at IS NOT NULL")
    assert asked == ([(first.id,)] if overlap == "replace" else [])
    orchestrator.record(database, Ended(first, Policy(), Outcome(), None), RunnerId(1))
    assert len(claims.claim(database, RunnerId(1), [], 10)) == (overlap in ("queue", "replace"))


def test_a_run_that_has_not_started_is_replaced_at_once(database: Database, path: Path, wall: Wall) -> None:
    schedules.put(database, plan(every("1m"), overlap="replace"), "command")
    for _ in range(3):
        wall.now += 60_000
        fire(database)
    assert rows(path, "SELECT status, reason FROM jr_invocation ORDER BY id")[:2] == [
        ("cancelled", "replaced by the run of 2026-11-27T12:02:00.000Z"),
        ("cancelled", "replaced by the run of 2026-11-27T12:03:00.000Z"),
    ]
    assert rows(path, "SELECT status FROM jr_invocation WHERE id = 3") == [("pending",)]


def test_jitter_is_the_same_for_whoever_fires_and_within_its_bound(database: Database, path: Path, wall: Wall) -> None:
    schedules.put(database, plan(every("1m"), overlap="allow", jitter="30s", missed="all"), "command")
    wall.now += HOUR
    fire(database)
    late = rows(path, "SELECT i.run_at - f.instant FROM jr_fire AS f JOIN jr_invocation AS i ON i.id = f.invocation")
    assert all(0 <= one <= 30_000 for (one,) in late)
    assert len(set(late)) > 40
    rows(path, "DELETE FROM jr_fire")
    rows(path, "UPDATE jr_schedule SET next_at = ?", NOON + 60_000)
    fire(database)
    again = rows(path, "SELECT i.run_at - f.instant FROM jr_fire AS f JOIN jr_invocation AS i ON i.id = f.invocation")
    assert sorted(again) == sorted(late)


def test_it_ends_at_its_end(database: Database, path: Path, wall: Wall) -> None:
    schedules.put(database, plan(every("1m"), until="2026-11-27T12:03:30Z", overlap="allow", missed="all"), "command")
    wall.now += HOUR // 60 * 3
    fire(database)
    assert len(instants(path)) == 3
    assert schedules.schedule(database, "s").next_at is None
    assert schedules.upcoming(schedules.schedule(database, "s"), 5) == []


def test_a_paused_one_does_not_fire_and_makes_up_for_nothing(database: Database, path: Path, wall: Wall) -> None:
    schedules.put(database, plan(every("1m"), missed="all", overlap="allow"), "command")
    schedules.pause(database, "s")
    wall.now += HOUR
    assert fire(database).jobs == 0
    schedules.put(database, plan(every("2m"), missed="all", overlap="allow"), "command")
    assert fire(database).jobs == 0, "a change leaves it paused"
    schedules.resume(database, "s")
    wall.now += 120_000
    assert fire(database).jobs == 1
    schedules.pause(database, "s", until=wall.now + HOUR)
    assert rows(path, "SELECT paused FROM schedules") == [(1,)] or wall.now < times.now_ms() + 1
    wall.now += HOUR - 1
    assert fire(database).jobs == 0
    wall.now += 120_001
    assert fire(database).jobs > 0


def test_an_instant_at_the_end_of_a_pause_comes(database: Database, path: Path, wall: Wall) -> None:
    daily = plan(cron("0 15 * * *", tz="UTC"))
    schedules.put(database, daily, "command")
    schedules.pause(database, "s", until=NOON + 3 * HOUR)
    assert schedules.upcoming(schedules.schedule(database, "s"), 1) == [NOON + 3 * HOUR]
    schedules.put(database, plan(cron("0 15,16 * * *", tz="UTC")), "command")
    assert schedules.schedule(database, "s").next_at == NOON + 3 * HOUR
    wall.now += 3 * HOUR
    assert fire(database).jobs == 1


def test_a_pause_does_not_bring_back_what_the_code_does_not_declare_any_more(database: Database, wall: Wall) -> None:
    schedules.declare(database, [plan(every("1m"))], ["a"])
    schedules.declare(database, [], ["a"])
    schedules.pause(database, "s", until=wall.now + 1)
    wall.now += HOUR
    assert fire(database).jobs == 0
    assert schedules.schedule(database, "s").next_at is None


def test_what_is_in_time_comes_whatever_the_greatest_age(database: Database, path: Path, wall: Wall) -> None:
    schedules.put(database, plan(every("1m"), overlap="allow", missed="all:10s"), "command")
    wall.now += 90_000
    assert fire(database).jobs == 1
    wall.now += 150_000
    fire(database)
    found = rows(path, FIRES, "s")
    assert [one[0] for one in found] == [NOON + 60_000 * minute for minute in (1, 3, 4)], "each is told of"
    assert [(one[1] is None, one[3]) for one in found] == [(False, 0), (True, 1), (False, 0)]


def test_a_change_keeps_the_next_instant_unless_the_times_change(database: Database, wall: Wall) -> None:
    schedules.put(database, plan(cron("0 3 * * *", tz="UTC")), "command")
    before = schedules.schedule(database, "s").next_at
    wall.now += DAY  # it is due by now, and nobody has fired it
    schedules.put(database, plan(cron("0 3 * * *", tz="UTC"), overlap="queue"), "command")
    assert schedules.schedule(database, "s").next_at == before
    schedules.put(database, plan(cron("0 4 * * *", tz="UTC")), "command")
    assert schedules.schedule(database, "s").next_at == NOON + DAY + 16 * HOUR


def test_what_is_not_in_the_code_any_more_is_told_and_does_not_fire(database: Database, path: Path, wall: Wall) -> None:
    one, other = plan(every("1m"), "one"), plan(every("1m"), "other")
    by_hand = plan(every("1m"), "by hand")
    schedules.put(database, by_hand, "command")
    assert schedules.declare(database, [one, other], ["a"]) == []
    assert schedules.declare(database, [], ["another"]) == [], "who does not import the module says nothing about it"
    assert schedules.declare(database, [one], ["a"]) == ["other"]
    wall.now += 60_000
    fire(database)
    assert rows(path, "SELECT DISTINCT schedule FROM jr_fire ORDER BY 1") == [("by hand",), ("one",)]
    assert rows(path, "SELECT name FROM schedules WHERE vanished_at IS NOT NULL") == [("other",)]
    with pytest.raises(UsageError, match="can only be removed"):
        schedules.resume(database, "other")
    assert schedules.declare(database, [one, other], ["a"]) == []
    assert schedules.schedule(database, "other").next_at == wall.now + 60_000


def test_a_schedule_is_shown_with_the_job_and_removed_without_it(app: App, database: Database, path: Path) -> None:
    schedules.put(database, plan(every("1h")), "command")
    job = schedules.run_now(database, "s")
    assert rows(path, "SELECT schedule, status FROM jobs WHERE id = ?", job) == [("s", "pending")]
    schedules.remove(database, "s")
    assert rows(path, "SELECT schedule FROM jobs") == [("s",)]
    for act in (schedules.remove, schedules.schedule, schedules.run_now, schedules.pause, schedules.resume):
        with pytest.raises(ScheduleNotFound, match="there is no schedule 's'"):
            act(database, "s")
    assert app.schedules.all() == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"overlap": "both"}, "overlap is skip, queue, allow or replace, not 'both'"),
        ({"missed": "two"}, "missed is none, one or all"),
        ({"missed": "one:5h"}, "missed is none, one or all"),
        ({"missed": "all:soon"}, "is not a duration"),
        ({"name": "a\nb"}, "a name that can be printed"),
    ],
)
def test_what_cannot_be_meant_is_refused(database: Database, words: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        schedules.put(database, plan(every("1h"), **words), "command")


def test_two_runners_fire_each_second_once(app: App, runner: StartRunner, path: Path) -> None:
    app.schedules.add(plan_of("pulse", every("1s"), Request("tests.tasks:square", args='{"n": 3}'), overlap="allow"))
    runner(jobs=1)
    runner(jobs=1, mode="thread")
    until(lambda: rows(path, "SELECT count(*) FROM jobs WHERE schedule = 'pulse' AND status = 'success'")[0][0] >= 4)
    found = rows(path, "SELECT invocation, at - instant FROM jr_fire")
    assert len({one for one, _ in found}) == len(found), "each instant has a job of its own"
    assert rows(path, "SELECT max(n) FROM (SELECT count(*) AS n FROM jr_fire GROUP BY instant)") == [(1,)]


@pytest.mark.parametrize(
    "change", ["zone = 'Mars/Olympus'", "spec = '70 * * * *'", "spec = 'every soon'", "args = '5'"]
)
def test_a_schedule_that_cannot_be_read_keeps_nobody_from_work_and_is_told_of(
    app: App, runner: StartRunner, folder: Path, path: Path, change: str
) -> None:
    for name in ("bad", "pulse"):
        app.schedules.add(plan_of(name, cron("* * * * * *", tz="UTC"), Request("tests.tasks:square", args='{"n": 3}')))
    rows(path, f"UPDATE jr_schedule SET {change} WHERE name = 'bad'")
    running = runner(jobs=1)
    until(lambda: rows(path, "SELECT count(*) > 1 FROM jobs WHERE schedule = 'pulse' AND status = 'success'")[0][0])
    assert running.stderr.count("schedule bad does not fire here, since it cannot be read") == 1
    assert rows(path, "SELECT count(*) FROM fires WHERE schedule = 'bad'") == [(0,)]
    cli = Cli(folder)
    if "args" not in change:
        assert "unreadable" in cli.ok("schedule", "list").splitlines()[0]
        assert "the schedule bad does not fire" in cli("doctor").stdout


def test_a_runner_without_schedules_fires_none(app: App, runner: StartRunner, path: Path) -> None:
    app.schedules.add(plan_of("pulse", every("1s"), Request("tests.tasks:square", args='{"n": 3}'), overlap="allow"))
    first = runner(jobs=1, schedules=False)
    first.until_ready()
    time.sleep(2.2)
    assert rows(path, "SELECT count(*) FROM jr_fire") == [(0,)]
    assert app.enqueue("tests.tasks:square", {"n": 4}).result(timeout=30) == 16


DECLARES = """
from jobrunner import App, cron, every
app = App()

@app.schedule(every("1s"), overlap="allow")
def pulse() -> str:
    return "beat"

@app.schedule(cron("0 3 * * *", tz="Europe/Berlin"), missed="none", args={"day": "today"})
@app.task(queue="reports", retry=3)
def nightly(day: str) -> None: ...
"""


def test_a_runner_writes_down_what_the_modules_that_it_imports_declare(
    app: App, runner: StartRunner, path: Path, folder: Path
) -> None:
    (folder / "shop.py").write_text(DECLARES)
    first = runner(jobs=1, imports=("shop",), app_dir=str(folder))
    until(lambda: app.counts()[Status.SUCCESS] >= 2)
    first.stop()
    found = rows(path, "SELECT name, spec, zone, source, task, args FROM schedules ORDER BY name")
    assert found == [
        ("nightly", "0 3 * * *", "Europe/Berlin", "code", "shop:nightly", '{"day":"today"}'),
        ("pulse", "every 1s", "UTC", "code", "shop:pulse", "{}"),
    ]
    assert rows(
        path, "SELECT queue, json_extract(policy, '$.retry.attempts') FROM jr_schedule WHERE name = 'nightly'"
    ) == [("reports", 3)]
    (folder / "shop.py").write_text(DECLARES.replace("@app.schedule(every", "@(lambda *_, **__: lambda f: f)(every"))
    second = runner(jobs=1, imports=("shop",), app_dir=str(folder))
    until(lambda: "schedule pulse is not in the code any more" in second.stderr)
    assert rows(path, "SELECT name FROM schedules WHERE vanished_at IS NOT NULL") == [("pulse",)]


def test_a_program_writes_down_what_it_declares(app: App, folder: Path, path: Path) -> None:
    (folder / "shop.py").write_text(
        DECLARES + "\nprint(app.schedules.sync(), [one.plan.name for one in app.schedules.all()])"
    )
    done = subprocess.run(
        [sys.executable, "shop.py"], cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] ['nightly', 'pulse']\n"
    assert rows(path, "SELECT task FROM schedules WHERE name = 'pulse'") == [("shop:pulse",)]
    assert Counter(one.source for one in app.schedules.all()) == {"code": 2}


def test_schedules_stand_in_the_sqlite3_shell_as_in_the_design(app: App, path: Path, folder: Path) -> None:
    app.schedules.add(plan_of("pulse", cron("0 3 * * *", tz="Europe/Berlin"), Request("a:b")))
    told = Cli(folder).ok("sql", "SELECT name, spec, zone, last_at, paused FROM schedules")
    assert told.splitlines()[-1].split("\t") == ["pulse", "0 3 * * *", "Europe/Berlin", "", "0"]
