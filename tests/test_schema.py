"""The database by hand: schema.sql and the sqlite3 shell are enough to enqueue, cancel, retry and look."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from jobrunner import App, Status, sql, state_backend
from jobrunner.database import Database
from tests.helpers.files import new_database, rows, sqlite_shell
from tests.helpers.trace import marks
from tests.helpers.waiting import until

Drain = Callable[..., object]

VIEWS = ["jobs", "history", "queues", "runners", "failures", "attempts", "output", "schedules", "fires", "batches"]


@pytest.fixture
def by_hand(path: Path) -> Path:
    """A database that nothing but the sqlite3 shell has touched."""
    new_database(path)
    return path


def refused(path: Path, statement: str) -> str:
    """What the shell says to a statement that the database does not allow."""
    done = sqlite_shell(path, statement)
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_the_shell_makes_a_database_that_python_accepts(by_hand: Path, database: Database) -> None:
    assert rows(by_hand, "PRAGMA journal_mode") == [("wal",)]
    assert database.query("counts")


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_reads_in_the_shell(by_hand: Path, view: str) -> None:
    done = sqlite_shell(
        by_hand, f"INSERT INTO jobs(task) VALUES ('shop.tasks:send');\n.headers on\nSELECT * FROM {view};"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_views_are_all_that_is_there_for_people(by_hand: Path) -> None:
    text = "SELECT name FROM sqlite_schema WHERE type = 'view' AND name NOT LIKE 'jr%' ORDER BY name"
    names = [name for (name,) in rows(by_hand, text)]
    assert names == sorted(VIEWS)


def test_a_job_inserted_by_hand_is_executed(by_hand: Path, app: App, drain: Drain, folder: Path) -> None:
    done = sqlite_shell(by_hand, """INSERT INTO jobs(task, args) VALUES ('tests.tasks:square', '{"n": 7}');""")
    assert done.stderr == ""
    drain()
    assert app.invocation(1).result() == 49
    assert len(marks(folder)) == 1
    shown = sqlite_shell(by_hand, "SELECT status, result, args, attempts FROM jobs;").stdout
    assert shown == 'success|49|{"n": 7}|1\n'


def test_a_program_inserted_by_hand_is_executed(by_hand: Path, app: App, drain: Drain) -> None:
    done = sqlite_shell(by_hand, """INSERT INTO jobs(task, args) VALUES ('printf', '["%s-%s", "a b", "c"]');""")
    assert done.stderr == ""
    drain()
    assert app.invocation(1).log() == "a b-c"
    assert sqlite_shell(by_hand, "SELECT text FROM output;").stdout == "a b-c\n"


def test_space_before_arguments_by_hand_is_left_out(by_hand: Path) -> None:
    sqlite_shell(
        by_hand, """INSERT INTO jobs(task, args) VALUES ('a:b', char(10, 9, 13) || '  {"n": 7} '), ('c', ' []');"""
    )
    assert rows(by_hand, "SELECT args FROM jobs ORDER BY id") == [('{"n": 7} ',), ("[]",)]


def test_a_time_by_hand_makes_it_wait(by_hand: Path) -> None:
    sqlite_shell(by_hand, "INSERT INTO jobs(task, run_at) VALUES ('a:b', '2099-01-31 18:00');")
    sqlite_shell(by_hand, "INSERT INTO jobs(task, run_at) VALUES ('a:b', '2001-01-31');")
    shown = sqlite_shell(by_hand, "SELECT status, run_at FROM jobs ORDER BY id;").stdout
    assert shown == "scheduled|2099-01-31T18:00:00.000Z\npending|2001-01-31T00:00:00.000Z\n"


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("INSERT INTO jobs(task) VALUES (NULL)", "a job needs a task"),
        ("INSERT INTO jobs(task) VALUES ('  ')", "a job needs a task"),
        ("INSERT INTO jobs(task, args) VALUES ('a:b', 'order=7')", "args must be a JSON object or array"),
        ("INSERT INTO jobs(task, args) VALUES ('a:b', '{\"order\": 7')", "args must be a JSON object or array"),
        ("INSERT INTO jobs(task, args) VALUES ('a:b', '7')", "args must be a JSON object or array"),
        ("INSERT INTO jobs(task, args) VALUES ('a:b', '\"text\"')", "args must be a JSON object or array"),
        ("INSERT INTO jobs(task, args) VALUES ('a:b', '')", "args must be a JSON object or array"),
        ("INSERT INTO jobs(task, args) VALUES ('gzip', '{\"file\": \"a\"}')", "must be a JSON array of strings"),
        ("INSERT INTO jobs(task, args) VALUES ('gzip', '[1]')", "must be a JSON array of strings"),
        ("INSERT INTO jobs(id, task) VALUES (9223372036854775807, 'a:b')", "leave id out"),
        ("INSERT INTO jobs(task, status) VALUES ('a:b', 'running')", "a new job is pending"),
        ("INSERT INTO jobs(task, status) VALUES ('a:b', 'done')", "a new job is pending"),
        ("INSERT INTO jobs(task, run_at) VALUES ('a:b', 'tomorrow')", "a time that SQLite understands"),
        ("INSERT INTO jobs(task, attempts) VALUES ('a:b', 3)", "the runner fills in the rest"),
        ("INSERT INTO jobs(task, result) VALUES ('a:b', '1')", "the runner fills in the rest"),
        ("INSERT INTO jobs(task, queue) VALUES ('a:b', '')", "a queue has a name"),
        ("UPDATE jobs SET status = 'running' WHERE id = 1", "only the status of a job can be set by hand"),
        ("UPDATE jobs SET status = NULL WHERE id = 1", "only the status of a job can be set by hand"),
        ("UPDATE jobs SET args = '{}' WHERE id = 1", "only the status of a job can be set by hand"),
        ("UPDATE jobs SET status = 'pending' WHERE id = 1", "only the status of a job can be set by hand"),
        ("UPDATE jobs SET status = 'cancelled' WHERE id = 2", "cannot be cancelled any more"),
        ("DELETE FROM jobs WHERE id = 1", "jobs are not deleted by hand"),
    ],
)
def test_what_cannot_be_meant_is_answered_with_a_sentence(by_hand: Path, statement: str, sentence: str) -> None:
    sqlite_shell(by_hand, "INSERT INTO jobs(task) VALUES ('a:b');")
    sqlite_shell(by_hand, "INSERT INTO jr_invocation(task, status, finished_at) VALUES ('a:b', 'failed', 1);")
    assert sentence in refused(by_hand, statement)
    assert rows(by_hand, "SELECT status FROM jobs ORDER BY id") == [("pending",), ("failed",)]


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("INSERT INTO jr_invocation(task, status) VALUES ('a:b', 'done')", "a status is one of"),
        ("INSERT INTO jr_invocation(task, kind) VALUES ('a:b', 'eval')", "a kind is one of"),
        ("INSERT INTO jr_invocation(task) VALUES ('')", "a task has a name"),
        ("INSERT INTO jr_invocation(task, queue) VALUES ('a:b', '')", "a queue has a name"),
        ("INSERT INTO jr_invocation(task, args) VALUES ('a:b', '3')", "args must be a JSON object or array"),
        ("INSERT INTO jr_invocation(task, policy) VALUES ('a:b', '[]')", "policy must be a JSON object"),
        ("INSERT INTO jr_invocation(task, status) VALUES ('a:b', 'scheduled')", "a scheduled job has a time"),
        ("INSERT INTO jr_invocation(task, claim) VALUES ('a:b', 1)", "a started job has a runner"),
        ("INSERT INTO jr_invocation(task, status) VALUES ('a:b', 'failed')", "a finished job has a time of its end"),
        ("INSERT INTO jr_invocation(task, finished_at) VALUES ('a:b', 1)", "a finished job has a time of its end"),
        ("INSERT INTO jr_result VALUES (1, 'nonsense')", "a result must be JSON"),
        ("INSERT INTO jr_progress VALUES (1, 1, 1, 1.5, NULL)", "progress is a fraction from 0 to 1"),
        (
            "INSERT INTO jr_output(invocation, claim, at, stream, data) VALUES (1, 1, 1, 'stdlog', x'')",
            "a stream is stdout or stderr",
        ),
    ],
)
def test_a_constraint_is_a_sentence(by_hand: Path, statement: str, sentence: str) -> None:
    assert sentence in refused(by_hand, statement)


def test_what_has_not_started_is_cancelled_by_hand_at_once(by_hand: Path, app: App) -> None:
    app.enqueue("tests.tasks:touch")
    app.enqueue("tests.tasks:touch", delay="1h")
    app.enqueue("tests.tasks:touch", hold=True)
    done = sqlite_shell(by_hand, "UPDATE jobs SET status = 'cancelled' WHERE task = 'tests.tasks:touch';")
    assert done.stderr == ""
    assert app.counts()[Status.CANCELLED] == 3
    assert app.invocation(1).details.reason == "cancelled by hand"


def test_what_runs_is_cancelled_by_hand_through_its_runner(
    by_hand: Path, app: App, runner: Drain, folder: Path
) -> None:
    job = app.enqueue("tests.tasks:wait_for_ever")
    runner(jobs=1)
    until(lambda: marks(folder))
    assert sqlite_shell(by_hand, "UPDATE jobs SET status = 'cancelled' WHERE id = 1;").stderr == ""
    app.wait([job])
    assert job.status is Status.CANCELLED


def test_a_finished_job_is_retried_by_hand_with_its_budgets_anew(
    by_hand: Path, app: App, drain: Drain, folder: Path
) -> None:
    job = app.enqueue("tests.tasks:square", {"n": 3})
    drain()
    assert sqlite_shell(by_hand, "UPDATE jobs SET status = 'pending' WHERE id = 1;").stderr == ""
    assert (job.status, job.details.attempts, job.details.claim) == (Status.PENDING, 0, 1)
    assert rows(by_hand, "SELECT result FROM jobs") == [(None,)]
    drain()
    assert (job.result(), job.details.attempts, job.details.claim) == (9, 1, 2)
    assert [mark.claim for mark in marks(folder)] == [1, 2]


# The law ---------------------------------------------------------------------------------------------

STATUSES = list(Status)
FINISHED = {"success", "failed", "cancelled", "expired"}
LAW = {
    "scheduled": {"pending", "cancelled", "expired"},
    "blocked": {"pending", "scheduled", "cancelled", "expired"},
    "pending": {"running", "scheduled", "blocked", "cancelled", "expired"},
    "running": {"success", "failed", "paused", "killed", "scheduled", "pending", "cancelled"},
    "paused": {"resumed", "killed", "cancelled", "failed"},
    "resumed": {"success", "failed", "paused", "killed", "scheduled", "pending", "cancelled"},
    "killed": {"pending", "failed"},
    "success": {"pending"},
    "failed": {"pending"},
    "cancelled": {"pending"},
    "expired": {"pending"},
}


WAYS = {
    "scheduled": ["running", "scheduled"],
    "blocked": ["blocked"],
    "pending": [],
    "running": ["running"],
    "paused": ["running", "paused"],
    "resumed": ["running", "paused", "resumed"],
    "killed": ["running", "killed"],
    "success": ["running", "success"],
    "failed": ["running", "failed"],
    "cancelled": ["cancelled"],
    "expired": ["expired"],
}
"""How a new job gets there."""


def move(path: Path, status: str) -> None:
    rows(
        path,
        "UPDATE jr_invocation SET status = ?1, finished_at = iif(?2, 4, NULL), runner = 1, "
        "run_at = iif(?1 = 'scheduled', 1, NULL), claim = claim + (?1 = 'running'), "
        "started_at = iif(?1 = 'running', 2, started_at)",
        status,
        status in FINISHED,
    )


@pytest.mark.parametrize(("before", "after"), list(itertools.product(STATUSES, STATUSES)))
def test_the_law_holds_for_each_pair(database: Database, path: Path, before: str, after: str) -> None:
    rows(path, "INSERT INTO jobs(task) VALUES ('a:b')")
    for status in WAYS[before]:
        move(path, status)
    steps = len(rows(path, "SELECT 1 FROM history"))
    if before != after and after not in LAW[before]:
        with pytest.raises(apsw.ConstraintError, match="the law of statuses does not allow this change"):
            move(path, after)
        assert rows(path, "SELECT status FROM jobs") == [(before,)]
        return
    move(path, after)
    assert rows(path, "SELECT status FROM jobs") == [(after,)]
    told = rows(path, "SELECT from_status, to_status FROM history")
    assert len(told) == steps + (before != after)
    assert before == after or told[-1] == (before, after)


# History ---------------------------------------------------------------------------------------------


def told(app: App, job: int) -> list[tuple[str | None, str, int]]:
    """The changes of status of a job, each with its claim."""
    with Database(app.path) as database:
        return [(row[1], row[2], row[4]) for row in database.query("history", id=job)]


def test_history_tells_the_happy_path(app: App, drain: Drain, path: Path) -> None:
    job = app.enqueue("tests.tasks:touch")
    drain()
    assert told(app, job.id) == [(None, "pending", 0), ("pending", "running", 1), ("running", "success", 1)]
    assert rows(path, "SELECT count(*) FROM jr_history") == [(0,)], "the happy path costs no rows"
    times = rows(path, "SELECT created_at, started_at, finished_at FROM jobs")[0]
    assert tuple(at for (at,) in rows(path, "SELECT at FROM history")) == times


def test_history_tells_of_retries_with_their_reasons(app: App, drain: Drain, path: Path) -> None:
    job = app.enqueue("tests.tasks:fail_until", {"attempt": 3}, retry=5)
    rows(path, """UPDATE jr_invocation SET policy = '{"retry": {"attempts": 5, "base": 1, "jitter": 0}}'""")
    drain()
    again = [("scheduled", "pending"), ("pending", "running")]
    path_taken = [(before, after) for before, after, _ in told(app, job.id)]
    retry = ("running", "scheduled")
    start = [(None, "pending"), ("pending", "running")]
    assert path_taken == [*start, retry, *again, retry, *again, ("running", "success")]
    reasons = rows(path, "SELECT reason FROM history WHERE to_status = 'scheduled'")
    assert reasons == [
        ("RuntimeError in attempt 1 of 5; again in 1 ms",),
        ("RuntimeError in attempt 2 of 5; again in 2 ms",),
    ]


def test_history_keeps_a_success_that_was_retried(app: App, drain: Drain) -> None:
    job = app.enqueue("tests.tasks:touch")
    drain()
    assert job.retry()
    assert told(app, job.id)[-1] == ("success", "pending", 1)
    drain()
    happy = [("pending", "running"), ("running", "success")]
    wanted = [(None, "pending"), *happy, ("success", "pending"), *happy]
    assert [(before, after) for before, after, _ in told(app, job.id)] == wanted
    assert [claim for _, _, claim in told(app, job.id)] == [0, 1, 1, 1, 2, 2]


# Counts ----------------------------------------------------------------------------------------------


MANY = """
INSERT INTO jr_invocation(task, args, status, queue, hold, limit_key, limit_size, run_at, finished_at)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
SELECT 'a:b', '{}', status.value, 'queue ' || i % 3, i % 4, iif(i % 2, 'key ' || i % 5, NULL), iif(i % 2, 1, NULL), i,
       iif(status.value IN ('success', 'failed', 'cancelled', 'expired'), i, NULL)
  FROM n JOIN json_each(?) AS status ON i % (status.key + 2) = 0"""


def test_jobs_are_counted_in_each_status_and_queue(database: Database, path: Path) -> None:
    rows(path, MANY, json.dumps([one for one in Status if one is not Status.KILLED]))
    alive = {"pending": 1, "running": 2, "resumed": 2, "paused": 3, "scheduled": 4, "blocked": 5}
    wanted: dict[str, list[int]] = {}
    for queue, status in rows(path, "SELECT queue, status FROM jr_invocation"):
        if status in alive:
            wanted.setdefault(queue, [0] * 5)[alive[status] - 1] += 1
    assert {name: list(counts) for name, *counts in state_backend.queue_counts(database)} == wanted
    assert rows(path, "SELECT * FROM queues ORDER BY queue") == [(name, *wanted[name]) for name in sorted(wanted)]
    by_status = dict(rows(path, "SELECT status, count(*) FROM jr_invocation GROUP BY status"))
    assert state_backend.counts(database) == by_status


# Plans -----------------------------------------------------------------------------------------------

PLANS = {
    "claim": {"jr_pending"},
    "best_unlimited": {"jr_pending"},
    "claim_these": {"jr_pending"},
    "any_limited": {"jr_choosy"},
    "queues_with_pending": {"jr_pending"},
    "has_pending": {"jr_pending"},
    "next_due": {"jr_scheduled", "jr_expiring", "jr_unknown_due"},
    "promote_due": {"jr_scheduled"},
    "expire_due": {"jr_expiring"},
    "key_holder": {"jr_unique_key"},
    "key_conflict": {"jr_unique_key"},
    "retries_waiting": {"jr_scheduled"},
    "move_retries": {"jr_scheduled"},
    "let_go": {"jr_put_off"},
    "unknown_due": {"jr_unknown_due"},
    "cancel_requests": {"jr_cancelling"},
    "held_by": {"jr_live"},
    "other_runners": {"jr_runner_live"},
    "counts": {"jr_pending", "jr_scheduled", "jr_blocked", "jr_live", "jr_finished", "jr_unhappy"},
    "queue_counts": {"jr_pending", "jr_scheduled", "jr_blocked", "jr_live"},
    "waiting_longest": {"jr_pending"},
    "descendants": {"jr_children"},
    "children": {"jr_children"},
    "log": {"jr_output_invocation"},
}


def plan(path: Path, name: str) -> str:
    """How SQLite does the statement, with the setting of our connections: plans do not depend on values."""
    connection = apsw.Connection(str(path))
    try:
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        steps = connection.execute("EXPLAIN QUERY PLAN " + sql.queries()[name], NOTHING).fetchall()
        return "\n".join(str(step[3]) for step in steps)
    finally:
        connection.close()


class Nothing(dict[str, None]):
    """A binding for every name."""

    def __missing__(self, name: str) -> None:
        return None


NOTHING = Nothing()


@pytest.mark.parametrize(("name", "indexes"), PLANS.items())
def test_the_hot_statements_read_indexes_of_what_is_alive(
    database: Database, path: Path, name: str, indexes: set[str]
) -> None:
    text = plan(path, name)
    assert {index for index in indexes if re.search(rf"\b{index}\b", text)} == indexes, text
    assert not {"SCAN jr_invocation", "SEARCH jr_invocation"} & {*text.splitlines()}, f"through all rows: {text}"


@pytest.mark.parametrize("name", ["claim", "best_unlimited", "claim_these", "promote_due", "next_due"])
def test_no_order_is_made_by_sorting_what_is_pending_or_due(database: Database, path: Path, name: str) -> None:
    lines = plan(path, name).splitlines()
    sorts = [line for line in lines if "TEMP B-TREE" in line]
    assert len(sorts) == (2 if name == "claim" else 0), "only the best of each queue are sorted, as a whole and by key"
