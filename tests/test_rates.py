"""Rates by key: in no period do more of a key begin than its rate says, over all runners, and not many fewer."""

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import App, Status, UsageError, broker, claims, orchestrator, times
from jobrunner.database import Database
from jobrunner.models import Claimed, Exit, Outcome, Request, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.policy import Policy
from jobrunner.wall_clock import WallClock
from tests import tasks, together
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.trace import marks, whole_lines
from tests.helpers.waiting import until
from tests.helpers.wall import NOON, Wall, heeded

SECOND = 1000


@pytest.fixture
def wall() -> Iterator[Wall]:
    wall = Wall()
    with times.clocks(wall.clocks()):
        yield wall


def limited(rate: int = 5, period: int = SECOND, *, key: str = "k", size: int | None = None, **more: object) -> Request:
    said = Request("a:b", limit_key=key, limit_size=size, limit_rate=rate, limit_period=period)
    return said._replace(**more)  # type: ignore[arg-type]


def turn(database: Database, limit: int, number: int = 1) -> list[Claimed]:
    """What a runner does in a turn: let the clock act, then claim."""
    with database.transaction():
        broker.promote_and_expire(database)
        return claims.take(database, RunnerId(number), [], limit).claimed


def end(database: Database, claimed: list[Claimed]) -> None:
    for one in claimed:
        orchestrator.record(database, Ended(one, Policy(), Outcome(), Exit(1, 0)), RunnerId(1))


def most_in_any(period: int, began: list[int]) -> int:
    """How many of these moments lie in the fullest of all windows of this length, both its ends included."""
    began = sorted(began)
    return max(sum(first <= moment <= first + period for moment in began) for first in began)


def statuses(path: Path) -> list[str]:
    return [row[0] for row in rows(path, "SELECT status FROM jr_invocation ORDER BY id")]


@pytest.mark.parametrize("seed", range(6))
def test_in_no_period_do_more_begin_than_the_rate_says_and_not_many_fewer(
    database: Database, wall: Wall, path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    keys = {"a": limited(7, SECOND, key="a"), "b": limited(3, 500, key="b", size=2), "c": limited(1, 90, key="c")}
    queues = ["default", "mail"]
    for key in keys.values():
        many = [key._replace(queue=dice.choice(queues), priority=dice.choice([0, 1])) for _ in range(60)]
        broker.enqueue(database, many)
    broker.enqueue(database, [Request("a:b")] * 20)
    running: list[tuple[int, Claimed]] = []
    while running or set(statuses(path)) != {"success"}:
        for moment, one in [pair for pair in running if pair[0] <= wall.now]:
            running.remove((moment, one))
            end(database, [one])
        claimed = turn(database, dice.randint(1, 4), dice.randint(1, 2))
        running += [(wall.now + dice.randint(1, 200), one) for one in claimed]
        due = broker.next_due(database)
        soonest = min([moment for moment, _ in running] + ([] if due is None else [due]), default=wall.now)
        wall.now = max(wall.now + (1 if claimed else 0), min(soonest, wall.now + 40) if claimed else soonest)
        assert claimed or running or due is not None or set(statuses(path)) == {"success"}, "nobody would ever go on"
    began = defaultdict(list)
    for key, at in rows(path, "SELECT limit_key, started_at FROM jr_invocation WHERE limit_key IS NOT NULL"):
        began[key].append(at)
    for name, key in keys.items():
        assert key.limit_rate is not None
        assert key.limit_period is not None
        assert most_in_any(key.limit_period, began[name]) <= key.limit_rate
    assert max(began["a"]) - min(began["a"]) <= 1.3 * SECOND * 60 / 7
    assert rows(path, "SELECT count(*) FROM jr_rate WHERE let_in_at IS NOT NULL") == [(0,)]


def test_what_is_remembered_is_forgotten_when_it_does_not_count_any_more(
    database: Database, wall: Wall, path: Path
) -> None:
    for number in range(50):
        broker.enqueue(database, [limited(5, SECOND, key=f"user {number}")] * 2)
        end(database, turn(database, 2))
        wall.now += 300
    assert rows(path, "SELECT count(*) < 10 FROM jr_rate") == [(1,)]
    assert rows(path, "SELECT count(*) < 20 FROM jr_begun") == [(1,)]


def test_who_is_blocked_comes_before_who_came_later(database: Database, wall: Wall) -> None:
    broker.enqueue(database, [limited(2)] * 6)
    began = [one.id for one in turn(database, 3)]
    for _ in range(4):
        broker.enqueue(database, [limited(2)])
        broker.enqueue(database, [limited(2, priority=1)])
        wall.now += SECOND + 1
        began += [one.id for one in turn(database, 3)]
    # Two begin in each second: of those of higher priority there is one in each, the rest go by their age.
    assert began == [1, 2, 8, 3, 10, 4, 12, 5, 14, 6]


def test_a_start_lets_in_no_more_than_there_is_room_for(database: Database, wall: Wall, path: Path) -> None:
    broker.enqueue(database, [limited(50)] * 200)
    turn(database, 60)
    wall.now += SECOND + 1
    turn(database, 1)
    assert statuses(path).count("pending") == 49
    turn(database, 1)
    assert statuses(path).count("pending") == 48


def test_a_rate_of_one_key_holds_up_no_other(database: Database, wall: Wall) -> None:
    broker.enqueue(database, [limited(1, 3_600_000)] * 100)
    broker.enqueue(database, [limited(1, key="other"), Request("a:b")])
    assert [one.id for one in turn(database, 3)] == [1, 101, 102]


def test_where_rates_of_a_key_differ_each_job_keeps_to_its_own(database: Database, wall: Wall, path: Path) -> None:
    slow = broker.enqueue(database, [limited(1, 3600 * SECOND)] * 2)
    assert [one.id for one in turn(database, 9)] == slow[:1]
    fast = broker.enqueue(database, [limited(2, SECOND)] * 6)
    began: list[int] = []
    while len(began) < len(fast):
        began += [wall.now] * len(turn(database, 9))
        wall.now += 50
        assert wall.now < NOON + 10 * SECOND
    assert most_in_any(SECOND, began) == 2
    assert statuses(path)[:2] == ["running", "blocked"]


def test_who_waits_for_the_rate_of_its_key_keeps_nobody_waiting_that_names_none(
    database: Database, wall: Wall, path: Path
) -> None:
    ended = broker.enqueue(database, [limited(1, 3600 * SECOND)])
    end(database, turn(database, 1))
    broker.enqueue(database, [limited(1, 3600 * SECOND), Request("a:b", limit_key="k", limit_size=1)])
    claimed = turn(database, 9) + turn(database, 9)
    assert [one.id for one in claimed] == [ended[0] + 2], "neither is kept by who is counted and does not begin"
    assert statuses(path) == ["success", "blocked", "running"]


def test_what_is_not_to_wait_is_dropped(database: Database, wall: Wall, path: Path) -> None:
    broker.enqueue(database, [limited(1, limit_drop=True)] * 3)
    turn(database, 3)
    assert rows(path, "SELECT status, reason FROM jr_invocation") == [("running", None), *[("cancelled", "rate")] * 2]


def test_a_retry_counts_once_more(database: Database, wall: Wall, path: Path) -> None:
    broker.enqueue(database, [limited(1)])
    end(database, turn(database, 3))
    broker.retry(database, [1], reason="again")
    assert turn(database, 3) == []
    wall.now += SECOND + 1
    assert len(turn(database, 3)) == 1


def test_who_lost_its_turn_leaves_it_to_the_next(database: Database, wall: Wall) -> None:
    broker.enqueue(database, [limited(1)] * 3)
    turn(database, 3)
    wall.now += SECOND + 1
    with database.transaction():
        broker.promote_and_expire(database)
    broker.cancel(database, [2], reason="not any more")
    assert [one.id for one in turn(database, 3)] == [3]


def test_a_clock_that_is_set_makes_nobody_wait_longer(database: Database) -> None:
    wall = Wall()
    steady = Wall()
    with times.clocks(times.Clocks(lambda: wall.now, lambda: steady.now)):
        clock = heeded(database)
        broker.enqueue(database, [limited(1)] * 2)
        turn(database, 2)
        wall.now -= 3_600_000
        with database.transaction():
            clock.heed()
        wall.now += SECOND
        steady.now += SECOND
        assert turn(database, 2) == []
        wall.now += 1
        steady.now += 1
        assert len(turn(database, 2)) == 1


def test_nor_does_one_that_was_set_while_the_machine_was_off(database: Database, wall: Wall) -> None:
    broker.enqueue(database, [limited(1)] * 2)
    turn(database, 2)
    wall.now -= 3_600_000
    rows(database.path, "INSERT INTO jr_clock(id, boot_id, ahead) VALUES (1, 'another start', 0)")
    with database.transaction():
        WallClock(database).heed()
    assert turn(database, 2) == []
    wall.now += SECOND + 1
    assert len(turn(database, 2)) == 1


def keeps_to_its_limits(app: App, runner: StartRunner, folder: Path, seconds: int) -> str:
    """Two keys at 50/s and three at a time each, over two runners; tells how fast that went."""
    keys = ["a", "b"]
    count = 50 * seconds
    for settings in ({"jobs": 4}, {"mode": "thread", "jobs": 1, "threads": 8}):
        runner(**settings).until_ready()
    jobs = together.at_a_rate.enqueue_many({"account": keys[n % 2]} for n in range(count * len(keys)))
    app.wait(jobs, timeout=20 * seconds + 60)
    told = []
    for key in keys:
        text = "SELECT started_at FROM jr_attempt JOIN jr_invocation AS i ON i.id = invocation WHERE limit_key LIKE ?"
        began = [row[0] for row in rows(app.path, text.replace("started_at", "jr_attempt.started_at"), f"%{key}")]
        assert len(began) == count
        assert most_in_any(SECOND, began) <= 50
        lines = [line.split() for line in whole_lines(folder / "places")]
        stays = [(float(began), float(ended)) for name, began, ended in lines if name == key]
        assert len(stays) == count
        together_most = max(sum(other[0] <= one[0] < other[1] for other in stays) for one in stays)
        assert together_most <= 3
        took = (max(began) - min(began)) / SECOND
        told.append(f"{key}: {count} in {took:.1f} s, {most_in_any(SECOND, began)} in the fullest second")
    assert {row[0] for row in rows(app.path, "SELECT DISTINCT runner FROM jr_attempt")} == {1, 2}
    assert len(marks(folder)) == len(jobs)
    return "; ".join(told)


def test_two_runners_keep_to_rate_and_concurrency_of_each_key(app: App, runner: StartRunner, folder: Path) -> None:
    keeps_to_its_limits(app, runner, folder, 3)


@pytest.mark.long
def test_they_do_so_for_20_seconds(app: App, runner: StartRunner, folder: Path, say: object) -> None:
    told = keeps_to_its_limits(app, runner, folder, 20)
    assert callable(say)
    say(told)


def test_a_runner_that_waits_for_a_rate_does_not_spin_and_a_drain_waits(
    app: App, runner: StartRunner, folder: Path
) -> None:
    for _ in range(3):
        app.enqueue("tests.tasks:square", {"n": 3}, rate="1/1h", concurrency_key="slow")
    drains = runner(jobs=1, drain=True)
    until(lambda: app.counts()[Status.SUCCESS] == 1)
    until(lambda: app.counts()[Status.BLOCKED] == 2)
    before = Path(f"/proc/{drains.pid}/schedstat").read_text().split()[0]
    time.sleep(1.0)
    after = Path(f"/proc/{drains.pid}/schedstat").read_text().split()[0]
    assert int(after) - int(before) < 300_000_000, "it spent a third of its time, and had nothing to do"
    assert drains.is_running


def test_show_says_what_a_limit_makes_a_job_wait_for(app: App, runner: StartRunner, folder: Path) -> None:
    cli = Cli(folder)
    words = ["tests.together:keep_place", "key=k", "name=go"]
    for _ in range(2):
        cli.ok("enqueue", "--concurrency", "1", "--rate", "9/min", "--concurrency-key", "press", *words)
    for _ in range(2):
        cli.ok("enqueue", "--rate", "1/1h", "--concurrency-key", "slow", "tests.tasks:square", "n:=2")
    runner(jobs=4)
    until(lambda: app.counts()[Status.BLOCKED] == 2)
    assert "waits     1 with the limit 'press' run, and 1 may at a time" in cli.ok("show", "2")
    assert "limit     1 at a time and 9 begin in 1 min, of 'press'" in cli.ok("show", "2")
    assert "waits     1 with the limit 'slow' may begin in 1 h: more may " in cli.ok("show", "4")
    assert "job 4: blocked, rate" in cli.ok("show", "4")
    (folder / "go").touch()
    app.wait([1, 2], timeout=60)


def test_rates_that_cannot_be_meant_are_refused(app: App, folder: Path) -> None:
    for rate in ("fast", "0/s", "5/", "5"):
        with pytest.raises(UsageError, match="a rate is a number in a time"):
            app.task(tasks.square).options(rate=rate)
    with pytest.raises(UsageError, match="needs concurrency=N"):
        app.task(tasks.square).options(concurrency_key="a")
    cli = Cli(folder)
    assert cli("enqueue", "--rate", "many", "--", "true").returncode == 2
    (folder / "jobs.jsonl").write_text('{"task": "a:b", "rate": "5/s", "concurrency_key": "k"}\n')
    cli.ok("enqueue", "--jsonl", "jobs.jsonl")
    assert rows(app.path, "SELECT limit_key, limit_rate, limit_period FROM jr_invocation") == [("k", 5, 1000)]
