"""Many rows: finished, delayed, blocked, waiting; and a reader that is stuck."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from jobrunner import App, Status, broker, claims, sql, state_backend
from jobrunner.database import Database
from jobrunner.models import Request, RunnerId
from tests.cli_helpers import Cli
from tests.conftest import Say, StartRunner
from tests.helpers.cgroups import group_of_processes
from tests.helpers.files import rows
from tests.helpers.processes import environment
from tests.helpers.waiting import until

HOT = (
    "claim",
    "best_unlimited",
    "claim_these",
    "any_limited",
    "next_due",
    "counts",
    "queues_with_pending",
    "has_pending",
    "expire_due",
    "promote_due",
)
FILL = """
INSERT INTO jr_invocation(status, task, args, created_at, run_at, finished_at, hold)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
SELECT ?1, 'a:b', '{}', i, CASE WHEN ?1 = 'scheduled' THEN 4102444800000 + i END, CASE WHEN ?1 = 'success' THEN i END,
       ?1 = 'blocked' FROM n"""


@pytest.mark.parametrize(
    ("finished", "others"),
    [
        pytest.param(20_000, 2000, id="short"),
        pytest.param(1_000_000, 100_000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
def test_a_claim_looks_at_no_row_but_those_that_may_be_claimed(
    path: Path, folder: Path, finished: int, others: int
) -> None:
    with Database(path, create=True, relaxed=True) as database:
        for status, count in (("success", finished), ("scheduled", others), ("blocked", others)):
            rows(path, FILL, status, count)
        (mine,) = broker.enqueue(database, [Request("a:b")])
        connection = apsw.Connection(str(path))
        try:
            for name in HOT:
                text = "EXPLAIN QUERY PLAN " + sql.queries()[name]
                plan = [row[3] for row in connection.execute(text, _anything())]
                assert not [step for step in plan if _reads_all_jobs(step)], (name, plan)
        finally:
            connection.close()
        assert [one.id for one in claims.claim(database, RunnerId(1), [], 10)] == [mine]
        counts = state_backend.counts(database)
    assert (counts[Status.SUCCESS], counts[Status.SCHEDULED], counts[Status.BLOCKED]) == (finished, others, others)
    cli = Cli(folder)
    assert f"success\t{finished}" in cli.ok("status")
    assert len(cli.ok("list", "--limit", "20").splitlines()) == 20


def _reads_all_jobs(step: str) -> bool:
    """Whether a step of a plan goes through the whole table of jobs, under whatever name."""
    return re.fullmatch(r"SCAN (jr_invocation|best|holder|blocked)", step) is not None


def _anything() -> dict[str, str | int]:
    names = ("runner", "now", "limit", "least_waiters", "schedules", "hold")
    return {**dict.fromkeys(names, 1), "queue": "default", "queues": json.dumps(["default"]), "without": "[]"}


def test_many_wait_for_one_and_others_still_write(app: App, runner: StartRunner) -> None:
    awaited = app.enqueue("tests.tasks:square", {"n": 3}, hold=True)
    waiters = [app.enqueue("tests.together:wait_for", {"ids": [awaited.id]}, priority=1) for _ in range(300)]
    runner(mode="thread", jobs=1, threads=4, max_paused=1000)
    until(lambda: app.counts()[Status.PAUSED] == 300)
    assert awaited.status is Status.BLOCKED
    assert app.enqueue("tests.tasks:square", {"n": 5}).result(timeout=60) == 25
    assert awaited.retry()
    app.wait(waiters, timeout=100)
    assert {tuple(job.result()) for job in waiters} == {(9,)}


@pytest.mark.parametrize("mode", ["process", "thread"])
def test_where_no_process_can_be_forked_jobs_wait_without_spending_an_attempt(
    app: App, runner: StartRunner, mode: str
) -> None:
    with group_of_processes() as group:
        running = runner(mode=mode, jobs=1, min_processes=0)
        running.until_ready()
        if mode == "process":
            until(lambda: running.workers)  # one is forked before there is work: it does the first job
        group.add([running.pid, running.template])
        group.allow(0)
        app.enqueue("tests.tasks:square", {"n": 3})
        job = app.enqueue("tests.tasks:square", {"n": 4})
        until(lambda: "no process can be forked: Resource temporarily unavailable" in running.stderr)
        until(lambda: job.status is Status.PENDING and job.details.reason is not None)
        assert (job.details.attempts, job.details.crashes) == (0, 0)
        assert job.details.reason == "its process could not be started"
        group.allow(None)
        assert job.result(timeout=60) == 16
        assert (job.details.attempts, job.details.claim > 1) == (1, True)
        running.stop()


def test_no_process_is_missed_that_only_waits_for_a_place(app: App, runner: StartRunner) -> None:
    with group_of_processes() as group:
        running = runner(mode="process", jobs=2)
        until(lambda: running.workers)
        group.add([running.pid, running.template, *running.workers])
        group.allow(3)
        jobs = [app.enqueue("tests.together:nothing") for _ in range(400)]
        app.wait(jobs, timeout=120)
        assert "can be forked" not in running.stderr
        running.stop()


ENQUEUER = """
import sys
from jobrunner import App
from tests.tasks import square
square = App(sys.argv[1]).task(square)
while True:
    jobs = square.enqueue_many({"n": n} for n in range(1000))
    sys.stdout.write(f"{jobs[0].id} {jobs[-1].id}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize(
    "times",
    [pytest.param(6, id="short"), pytest.param(50, id="long", marks=[pytest.mark.long, pytest.mark.timeout(300)])],
)
def test_an_enqueuer_that_is_killed_leaves_whole_batches_and_all_that_it_told_of(
    path: Path, folder: Path, say: Say, times: int
) -> None:
    told = count = 0
    for attempt in range(times):
        enqueuer = subprocess.Popen(
            [sys.executable, "-c", ENQUEUER, path], env=environment(folder), stdout=subprocess.PIPE, text=True
        )
        assert enqueuer.stdout is not None
        first = enqueuer.stdout.readline()
        time.sleep(random.Random(attempt).uniform(0.0, 0.15))
        enqueuer.kill()
        for line in [first, *enqueuer.communicate()[0].splitlines(keepends=True)]:
            if line.endswith("\n"):
                ends = [int(word) for word in line.split()]
                assert rows(path, "SELECT count(*) FROM jr_invocation WHERE id BETWEEN ? AND ?", *ends) == [(1000,)]
                told += 1000
        ((count,),) = rows(path, "SELECT count(*) FROM jr_invocation")
        assert count % 1000 == 0
    say(f"killed {times} times: {told} were told of, {count} are there")


def test_a_process_of_threads_that_is_kept_is_tried_once_a_second_where_none_can_be_had(
    app: App, runner: StartRunner
) -> None:
    with group_of_processes() as group:
        running = runner(mode="thread", jobs=1)
        (pool,) = until(lambda: running.workers)
        group.add([running.pid, running.template])
        group.allow(0)
        os.kill(pool, signal.SIGKILL)
        until(lambda: running.stderr.count("no process can be forked") > 0)
        began = time.monotonic()
        until(lambda: running.stderr.count("no process can be forked") > 3)
        assert time.monotonic() - began > 1, "it rests between two tries"
        group.allow(None)
        assert app.enqueue("tests.tasks:square", {"n": 4}).result(timeout=60) == 16
        running.stop()


def test_a_runner_of_threads_survives_that_descriptors_run_out(app: App, runner: StartRunner) -> None:
    running = runner(mode="thread", jobs=1)
    running.until_ready()
    (pool,) = until(lambda: running.workers)
    few, many = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (10, many))
    os.kill(pool, signal.SIGKILL)
    until(lambda: "no process of threads: Too many open files" in running.stderr.replace("[Errno 24] ", ""))
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (few, many))
    assert app.enqueue("tests.tasks:square", {"n": 4}).result(timeout=60) == 16
