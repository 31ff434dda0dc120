"""Keys that put off, or stand for, what is enqueued again: debounce and throttle, exact over processes."""

import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobrunner import App, Status, UsageError, broker, claims, times
from jobrunner.database import Database
from jobrunner.models import Request, RunnerId
from tests import tasks
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.trace import marks
from tests.helpers.waiting import until
from tests.helpers.wall import NOON, Wall

SECOND = 1000
ONE = RunnerId(1)


@pytest.fixture
def wall() -> Iterator[Wall]:
    wall = Wall()
    with times.clocks(wall.clocks()):
        yield wall


def debounced(n: int = 0, **more: object) -> Request:
    said = Request("a:b", args=f'{{"n": {n}}}', unique_key="k", if_exists="debounce", window=5 * SECOND)
    return said._replace(**more)  # type: ignore[arg-type]


def throttled(window: int = 60 * SECOND) -> Request:
    return Request("a:b", unique_key="k", if_exists="throttle", window=window)


def put(database: Database, *requests: Request) -> list[int]:
    return [one.id for one in broker.put(database, requests)]


def take(database: Database, limit: int = 9) -> list[int]:
    """What a runner does in a turn: let the clock act, then claim."""
    with database.transaction():
        broker.promote_and_expire(database)
        return [one.id for one in claims.claim(database, ONE, [], limit)]


def job(path: Path, one: int = 1) -> tuple[object, ...]:
    row = rows(path, "SELECT status, run_at - ?, args, reason FROM jr_invocation WHERE id = ?", NOON, one)
    return row[0]


# Debounce --------------------------------------------------------------------------------------------


def test_a_burst_runs_once_when_it_is_quiet_and_with_what_came_last(database: Database, wall: Wall, path: Path) -> None:
    for n in range(10):
        assert put(database, debounced(n)) == [1]
        wall.now += SECOND
        assert take(database) == []
    assert job(path) == ("scheduled", 14 * SECOND, '{"n": 9}', "debounced")
    assert broker.next_due(database) == NOON + 14 * SECOND
    wall.now = NOON + 14 * SECOND
    assert take(database) == [1]
    assert rows(path, "SELECT count(*) FROM jr_invocation") == [(1,)]


def test_one_that_is_due_and_not_begun_is_put_off_as_well(database: Database, wall: Wall, path: Path) -> None:
    put(database, debounced(1))
    wall.now += 5 * SECOND
    with database.transaction():
        broker.promote_and_expire(database)
    assert job(path)[0] == "pending"
    large = f'{{"x": "{"y" * 5000}"}}'
    assert (
        put(database, debounced(args=large), debounced(2), debounced(args=large, queue="mail", priority=3)) == [1] * 3
    )
    assert job(path) == ("scheduled", 10 * SECOND, None, "debounced")
    assert rows(path, "SELECT value FROM jr_argument") == [(large,)]
    assert rows(path, "SELECT queue, priority FROM jr_invocation") == [("mail", 3)]
    put(database, debounced(4))
    assert rows(path, "SELECT value FROM jr_argument") == []


def test_it_is_put_off_no_longer_than_the_longest(database: Database, wall: Wall, path: Path) -> None:
    for n in range(4):
        put(database, debounced(n, longest=12 * SECOND))
        wall.now += 3 * SECOND
    assert job(path) == ("scheduled", 12 * SECOND, '{"n": 3}', "debounced")
    with database.transaction():
        broker.promote_and_expire(database)
    assert put(database, debounced(9, longest=12 * SECOND)) == [1]
    assert job(path)[0] == "pending", "it is due, and stays so"
    assert take(database) == [1]
    assert job(path)[2] == '{"n": 9}'


def test_what_comes_while_it_runs_is_done_after_it(app: App, runner: StartRunner, folder: Path) -> None:
    task = app.task(tasks.wait_for_file).options(unique="k", debounce=0.01)
    first = task.enqueue("first")
    runner(jobs=3)
    until(lambda: first.status is Status.RUNNING)
    second = task.enqueue("unread")
    assert second.id != first.id
    until(lambda: second.status is Status.BLOCKED)
    assert task.enqueue("second").id == second.id
    until(lambda: second.status is Status.BLOCKED)
    assert second.details.reason == f"waits for job {first.id}"
    (folder / "second").touch()
    (folder / "first").touch()
    assert (first.result(timeout=60), second.result(timeout=60)) == ("first", "second")
    assert len(marks(folder)) == 2


def test_one_that_was_blocked_by_a_limit_leaves_its_turn(database: Database, wall: Wall, path: Path) -> None:
    place = {"limit_key": "p", "limit_size": 1}
    put(database, Request("a:b", **place), debounced(1, **place), Request("a:b", **place))  # type: ignore[arg-type]
    wall.now += 5 * SECOND
    assert take(database) == [1]
    assert job(path, 2)[0] == "blocked"
    broker.cancel(database, [1], reason="stop")
    put(database, debounced(2, limit_key="other", limit_size=1))
    assert job(path, 2)[0] == "scheduled"
    wall.now += 5 * SECOND
    assert take(database) == [2]


def test_one_that_takes_the_result_of_another_is_not_put_off(app: App, path: Path) -> None:
    first = app.enqueue("tests.tasks:square", {"n": 3})
    with pytest.raises(UsageError, match="debounce says when it begins"):
        app.enqueue("tests.tasks:square", {"n": first.output}, unique="k", debounce="5s")
    assert rows(path, "SELECT count(*) FROM jr_invocation") == [(1,)]


def test_a_held_one_stays_held(database: Database, wall: Wall, path: Path) -> None:
    put(database, debounced(1, hold=True), debounced(2))
    assert job(path) == ("blocked", 5 * SECOND, '{"n": 2}', "held")


# Throttle --------------------------------------------------------------------------------------------


def test_one_stands_for_all_that_come_within_the_window(
    database: Database, wall: Wall, app: App, drain: object
) -> None:
    assert [put(database, throttled())[0] for _ in range(3)] == [1, 1, 1]
    assert take(database) == [1]
    broker.cancel(database, [1], reason="stop")
    database.script("UPDATE jr_invocation SET status = 'success', finished_at = 1 WHERE id = 1")
    wall.now += 60 * SECOND - 1
    assert put(database, throttled()) == [1], "also when it has finished"
    wall.now += 1
    assert put(database, throttled(), throttled()) == [2, 2]
    wall.now += 3600 * SECOND
    assert put(database, throttled()) == [2], "at most one unfinished job has a key"


# Wherever one enqueues -------------------------------------------------------------------------------

BURST = """
import sys, time
from jobrunner import App
app = App(sys.argv[1])
for n in range(40):
    print(app.enqueue("tests.tasks:square", {"n": n}, unique="k", %s).id)
"""


def burst(path: Path, option: str) -> list[set[int]]:
    """Four processes at once; gives the numbers that each was told."""
    program = [sys.executable, "-c", BURST % option, str(path)]
    started = [subprocess.Popen(program, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4
    return [{int(line) for line in text.split()} for text in told]


@pytest.mark.parametrize("option", ['debounce="30s"', 'throttle="10m"'])
def test_a_burst_of_several_processes_comes_to_one_job(path: Path, app: App, option: str) -> None:
    assert burst(path, option) == [{1}] * 4
    assert rows(path, "SELECT count(*) FROM jr_invocation") == [(1,)]


def test_while_a_runner_works_nothing_of_a_burst_is_lost_and_no_two_run_together(
    path: Path, app: App, runner: StartRunner
) -> None:
    for _ in range(2):
        runner(jobs=4).until_ready()
    told = burst(path, 'debounce="1ms"')
    jobs = sorted(set.union(*told))
    app.wait(jobs, timeout=60)
    ran = rows(path, "SELECT started_at, finished_at FROM jr_attempt ORDER BY started_at")
    assert len(ran) == len(jobs)
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(ran))
    # The last one of all, whoever it was, is among those that ran.
    assert 39 * 39 in [app.invocation(one).result() for one in jobs[-4:]]


def test_in_the_callers_transaction_from_a_job_and_inline(
    app: App, runner: StartRunner, path: Path, folder: Path
) -> None:
    task = app.task(tasks.square)
    with Database(path, create=True):
        pass
    with closing(sqlite3.connect(path)) as connection, app.using(connection):
        for option in ({"debounce": "1h"}, {"throttle": "1h"}):
            jobs = [task.options(unique=f"k {list(option)}", **option).enqueue(n) for n in range(3)]  # type: ignore[arg-type]
            assert len({job.id for job in jobs}) == 1
        connection.commit()
    assert rows(path, "SELECT status, args FROM jr_invocation") == [("scheduled", '{"n":2}'), ("pending", '{"n":0}')]
    runner(jobs=1)
    inside = app.enqueue("tests.together:enqueue_in_a_burst", {"option": "throttle"})
    ids = inside.result(timeout=60)
    assert len({*ids}) == 1
    again = app.enqueue("tests.together:enqueue_in_a_burst", {"option": "debounce"}).result(timeout=60)
    assert len({*again}) == 1
    assert rows(path, "SELECT parent FROM jr_invocation WHERE id IN (?, ?)", ids[0], again[0]) == [(3,), (5,)]
    with app.inline():
        once = [task.options(unique="k", throttle="1h").enqueue(n) for n in range(3)]
        assert [one.result() for one in once] == [0, 0, 0]
        each = [task.options(unique="k", debounce="1h").enqueue(n) for n in range(3)]
        assert [one.result() for one in each] == [0, 1, 4]


def test_by_command_and_by_lines(folder: Path, path: Path) -> None:
    cli = Cli(folder)
    first = cli("enqueue", "--key", "k", "--debounce", "1h", "--debounce-max", "2h", "a:b", "n:=1")
    again = cli("enqueue", "--key", "k", "--debounce", "1h", "a:b", "n:=2")
    assert (first.stdout, again.stdout) == ("1\n", "1\n")
    assert again.stderr == "put off: job 1 waits with this key, and begins later, with what was said last\n"
    assert rows(path, "SELECT args FROM jr_invocation") == [('{"n":2}',)]
    (folder / "jobs.jsonl").write_text(
        '{"task": "a:b", "key": "t", "throttle": "1m"}\n{"task": "a:b", "key": "t", "throttle": 60}\n'
        '{"task": "a:b", "key": "d", "debounce": 1.5}\n{"task": "a:b", "key": "d", "debounce": "2s"}\n'
    )
    assert cli.ok("enqueue", "--jsonl", "jobs.jsonl").split() == ["2", "2", "3", "3"]
    for words, sentence in (
        (("--debounce", "5s"), "debounce counts by a key"),
        (("--throttle", "5s"), "throttle counts by a key"),
        (("--key", "k", "--debounce", "5s", "--throttle", "5s"), "one of debounce, throttle and if_exists"),
        (("--key", "k", "--throttle", "5s", "--if-exists", "once"), "one of debounce, throttle and if_exists"),
        (("--key", "k", "--debounce", "5s", "--in", "5s"), "debounce says when it begins"),
        (("--key", "k", "--debounce", "5s", "--after", "1"), "debounce says when it begins"),
        (("--key", "k", "--debounce", "0"), "a time of at least a millisecond"),
        (("--key", "k", "--debounce", "soon"), "is not a duration"),
        (("--key", "k", "--debounce", "5s", "--debounce-max", "1s"), "cannot be shorter"),
        (("--debounce-max", "1s"), "debounce_max is for debounce alone"),
    ):
        done = cli("enqueue", *words, "a:b")
        assert (done.returncode, sentence in done.stderr, "Traceback" in done.stderr) == (2, True, False), done


def test_words_that_cannot_be_meant_are_refused(app: App) -> None:
    with pytest.raises(UsageError, match="counts by a key"):
        app.task(tasks.square).options(debounce="5s")
