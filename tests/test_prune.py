"""Finished jobs are forgotten by age, status and number; nobody waits for that, and nothing else is lost."""

import json
from pathlib import Path

import apsw
import pytest

from jobrunner import App, Status, batches, broker, claims, cron, every, schedules, sql, times
from jobrunner.database import Database
from jobrunner.models import Outcome, Request, RunnerId
from jobrunner.orchestrator import Ended, record
from jobrunner.plans import plan_of
from jobrunner.policy import Policy
from jobrunner.prune import FINAL, Pace, Rule, prune
from jobrunner.times import now_ms
from tests import tasks
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.trace import marks, starts
from tests.helpers.waiting import until
from tests.helpers.wall import Wall

DAY = 86_400_000
IDS = "SELECT id FROM jr_invocation ORDER BY id"


@pytest.fixture
def cli(folder: Path) -> Cli:
    return Cli(folder)


def finish(database: Database, count: int, task: str = "a:b") -> list[int]:
    """So many jobs that have succeeded, with a result each."""
    broker.enqueue(database, [Request(task)] * count)
    claimed = claims.claim(database, RunnerId(1), [], count)
    for one in claimed:
        record(database, Ended(one, Policy(), Outcome("1"), None), RunnerId(1))
    return [one.id for one in claimed]


def age(path: Path, days: int, condition: str = "true") -> None:
    """Let the jobs have ended so many days ago."""
    rows(
        path, f"UPDATE jr_invocation SET finished_at = finished_at - {days * DAY} WHERE finished_at > 0 AND {condition}"
    )


def left(path: Path) -> list[int]:
    return [one for (one,) in rows(path, IDS)]


def test_by_age(database: Database, path: Path) -> None:
    finish(database, 10)
    age(path, 40, "id <= 4")
    assert prune(database, Rule(older_than=30 * DAY), rehearse=True).jobs == 4
    assert len(left(path)) == 10
    assert prune(database, Rule(older_than=30 * DAY)).jobs == 4
    assert left(path) == [5, 6, 7, 8, 9, 10]
    assert rows(path, "SELECT count(*), min(invocation) FROM jr_result") == [(6, 5)]
    assert rows(path, "SELECT count(*) FROM jr_attempt") == [(6,)]


def test_by_status_and_by_number_of_each_task(database: Database, path: Path) -> None:
    finish(database, 4, "a:b")
    finish(database, 4, "c:d")
    broker.cancel(database, broker.enqueue(database, [Request("e:f")] * 3), reason="test")
    assert prune(database, Rule(statuses=(Status.CANCELLED,), keep_last=1)).jobs == 2
    assert left(path) == [1, 2, 3, 4, 5, 6, 7, 8, 11]
    assert prune(database, Rule(keep_last=3)).jobs == 2
    assert left(path) == [2, 3, 4, 6, 7, 8, 11]
    assert prune(database, Rule(keep_last=0)).jobs == 6
    assert left(path) == [11]


def test_what_is_not_finished_or_awaited_stays(database: Database, path: Path) -> None:
    finish(database, 3)
    broker.enqueue(database, [Request("a:b"), Request("a:b", hold=True), Request("a:b", run_at=now_ms() + DAY)])
    (claimed,) = claims.claim(database, RunnerId(1), [], 1)
    rows(path, "INSERT INTO jr_edge VALUES (?, 2)", claimed.id)
    rows(path, "UPDATE jr_invocation SET status = 'paused' WHERE id = ?", claimed.id)
    age(path, 400)
    assert prune(database, Rule(older_than=DAY)).jobs == 2
    assert left(path) == [2, 4, 5, 6]


def test_the_newest_job_stays_so_that_no_number_is_given_again(database: Database, path: Path) -> None:
    finish(database, 3)
    age(path, 400)
    assert prune(database, Rule(older_than=DAY)).jobs == 2
    assert broker.enqueue(database, [Request("a:b")]) == [4]


def test_runners_that_nobody_refers_to_go_too(cli: Cli, path: Path) -> None:
    for _ in range(3):
        cli.enqueue("--", "true")
        cli.drain()
    rows(path, f"UPDATE jr_runner SET stopped_at = stopped_at - {40 * DAY}")
    age(path, 40)
    assert cli.json("prune", "--older-than", "30d", "--dry-run")["jobs"] == 2
    assert cli.json("prune", "--older-than", "30d") == {
        "jobs": 2,
        "runners": 2,
        "fires": 0,
        "batches": 0,
        "dry_run": False,
    }
    assert rows(path, "SELECT id FROM jr_runner") == [(3,)]


def test_a_runner_that_an_earlier_attempt_names_stays(cli: Cli, path: Path) -> None:
    job = cli.enqueue("--", "false")
    cli.drain()
    cli.ok("retry", str(job))
    cli.drain()
    cli.enqueue("--", "true")
    cli.drain()
    rows(path, f"UPDATE jr_runner SET stopped_at = stopped_at - {40 * DAY}")
    assert cli.json("prune", "--older-than", "30d") == {
        "jobs": 0,
        "runners": 0,
        "fires": 0,
        "batches": 0,
        "dry_run": False,
    }
    assert rows(path, "SELECT DISTINCT runner FROM jr_attempt WHERE invocation = ? ORDER BY 1", job) == [(1,), (2,)]
    assert rows(path, "SELECT id FROM jr_runner") == [(1,), (2,), (3,)]


def test_no_step_of_it_reads_all_of_a_table(path: Path, database: Database) -> None:
    connection = apsw.Connection(str(path))
    try:
        for name in ("oldest_finished", "forget_jobs", "prunable", "forget_fires"):
            text = "EXPLAIN QUERY PLAN " + sql.queries()[name]
            names = ("ids", "before", "limit", "after", "statuses", "kept")
            plan = [row[3] for row in connection.execute(text, dict.fromkeys(names))]
            assert not [step for step in plan if step.startswith("SCAN jr_")], plan
        for table in ("jr_edge", "jr_output", "jr_history", "jr_attempt", "jr_result", "jr_argument", "jr_progress"):
            for column in ("waiter", "awaited") if table == "jr_edge" else ("invocation",):
                text = f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = 1"
                assert all(row[3].startswith("SEARCH") for row in connection.execute(text)), (table, column)
    finally:
        connection.close()


def test_jobs_are_done_meanwhile(app: App, runner: StartRunner, folder: Path, path: Path, cli: Cli) -> None:
    with Database(path, create=True, relaxed=True) as database:
        finish(database, 5000)
    age(path, 400)
    jobs = tasks.touch.enqueue_many({} for _ in range(200))
    running = runner(mode="thread", jobs=1, threads=4, drain=True)
    until(lambda: marks(folder))
    assert cli.ok("prune", "--older-than", "1d") == "5000\n"
    assert running.wait() == 0
    assert starts(folder) == dict.fromkeys((job.id for job in jobs), 1)
    assert left(path) == [job.id for job in jobs]


def test_a_runner_forgets_by_itself_what_is_old(app: App, runner: StartRunner, path: Path) -> None:
    with Database(path, create=True, relaxed=True) as database:
        finish(database, 700)
    age(path, 400, "id <= 600")
    running = runner(jobs=1, keep=86_400.0)
    until(lambda: len(left(path)) == 100)
    assert running.is_running
    assert app.enqueue("tests.tasks:square", {"n": 3}).result(timeout=60) == 9


def test_slips_are_told_and_nothing_is_forgotten(cli: Cli, path: Path) -> None:
    cli.enqueue("--", "true")
    cli.enqueue("--", "true")
    cli.drain()
    for words, sentence in [
        ((), "prune wants --older-than or --keep-last"),
        (("--older-than", "soon"), "soon"),
        (("--keep-last", "few"), "wants a whole number"),
        (("--keep-last", "-1"), "--keep-last cannot be negative"),
        (("--keep-last", "0", "--status", "pending"), "'pending' is no final status"),
    ]:
        done = cli("prune", *words)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert sentence in done.stderr
    assert left(path) == [1, 2]


def test_one_that_was_retried_and_ended_again_since_it_was_looked_at_stays(database: Database, path: Path) -> None:
    finish(database, 4)
    age(path, 40)
    before = now_ms() - 30 * DAY
    looked_at = [row[0] for row in database.query("oldest_finished", before=before, limit=9)]
    assert looked_at == [1, 2, 3]
    broker.retry(database, [1, 2], reason="again")
    (again,) = claims.claim(database, RunnerId(1), [], 1)
    record(database, Ended(again, Policy(), Outcome("2"), None), RunnerId(1))
    broker.cancel(database, [2], reason="test")
    ids, statuses = json.dumps(looked_at), json.dumps(["success"])
    assert database.query("forget_jobs", ids=ids, before=before, statuses=statuses) == [(3,)]
    assert left(path) == [1, 2, 4]


def test_what_is_forgotten_at_once_is_what_holds_the_write_lock_for_a_moment(database: Database) -> None:
    pace = Pace()
    assert pace.forget(database, [99], None, FINAL) == 0
    for _ in range(60):
        pace.learn(0.0001)
    assert pace.at_once == Pace.MOST
    pace.learn(1.0)
    assert (pace.at_once, pace.rest) == (1, Pace.OTHERS * 1.0)
    pace.learn(0.0001)
    assert pace.at_once > 1


def test_what_became_of_instants_is_forgotten_by_age_and_none_comes_again(database: Database, path: Path) -> None:
    wall = Wall()
    with times.clocks(wall.clocks()):
        for name in ("busy", "rare"):
            timing = cron("0 * * * *" if name == "busy" else "0 0 1 * *", tz="UTC")
            schedules.put(database, plan_of(name, timing, Request("a:b"), overlap="allow", missed="all"), "command")
        for _ in range(60 * 24):
            wall.now += DAY // 24
            with database.transaction():
                schedules.fire_due(database)
        before = rows(path, "SELECT count(*) FROM jr_fire")[0][0]
        assert before == 60 * 24 + 2
        rule = Rule(older_than=30 * DAY)
        gone = prune(database, rule, rehearse=True).fires
        assert gone == 30 * 24
        assert rows(path, "SELECT count(*) FROM jr_fire") == [(before,)]
        assert prune(database, rule).fires == gone
        assert rows(path, "SELECT count(*) FROM jr_fire") == [(before - gone,)]
        oldest = rows(path, "SELECT min(instant) FROM jr_fire WHERE schedule = 'busy'")[0][0]
        assert oldest >= wall.now - 30 * DAY
        prune(database, Rule(older_than=0))
        assert rows(path, "SELECT count(*) FROM jr_fire WHERE schedule = 'busy'") == [(25,)], "a day stays in any case"
        assert rows(path, "SELECT count(*) FROM jr_fire WHERE schedule = 'rare'") == [(1,)], "and the newest of each"
        jobs = rows(path, "SELECT count(*) FROM jr_invocation")
        rows(path, "UPDATE jr_schedule SET next_at = ? WHERE name = 'busy'", wall.now - DAY // 2)
        with database.transaction():
            assert schedules.fire_due(database).jobs == 0
        assert rows(path, "SELECT count(*) FROM jr_invocation") == jobs


def test_a_runner_forgets_instants_too(app: App, runner: StartRunner, path: Path) -> None:
    app.schedules.add(plan_of("s", every("1h"), Request("a:b")))
    rows(
        path,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
        " INSERT INTO jr_fire(schedule, instant, at) SELECT 's', i, i FROM n",
    )
    runner(jobs=1, keep=86_400.0)
    until(lambda: rows(path, "SELECT instant FROM jr_fire") == [(1000,)])


def test_a_member_that_is_not_counted_yet_stays_and_an_old_batch_without_members_goes(
    database: Database, path: Path
) -> None:
    broker.enqueue(database, [Request("a:b", batch="b"), Request("a:b", batch="b"), Request("a:b")])
    broker.cancel(database, [1, 2], reason="test")
    age(path, 40)
    rule = Rule(older_than=30 * DAY)
    assert prune(database, rule) == (0, 0, 0, 0)
    with database.transaction():
        batches.count(database)
    assert rows(path, "SELECT total, failed, status FROM batches") == [(2, 2, "failed")]
    rows(path, f"UPDATE jr_batch SET finished_at = finished_at - {40 * DAY}")
    assert prune(database, rule, rehearse=True).jobs == 2
    assert prune(database, rule) == (2, 0, 0, 1)
    assert rows(path, "SELECT count(*) FROM jr_batch") == [(0,)]
