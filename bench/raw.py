"""The limits of the machine: SQLite without jobrunner, forks without a queue."""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import apsw

from bench.measure import Figures, Place, measure
from jobrunner import broker, claims, orchestrator
from jobrunner.database import Database
from jobrunner.models import Exit, Outcome, Request, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.policy import Policy

GROUP = "raw limits"
BATCH = 100
BULK = 10_000
_PLAIN = "CREATE TABLE job (id INTEGER PRIMARY KEY, queue TEXT, task TEXT, args TEXT, status TEXT)"
_INSERT = "INSERT INTO job(queue, task, args, status) VALUES (?, ?, ?, ?)"
_ROW = ("default", "bench.tasks:noop", "{}", "pending")
# The least that our table takes, whatever the program writes: the limit is SQLite's and the schema's.
_ENQUEUE = "INSERT INTO jr_invocation(queue, task, args, created_at) VALUES ('default', 'bench.tasks:noop', '{}', 1)"
_CLAIM = """
UPDATE jr_invocation SET status = 'running', claim = claim + 1, attempt = attempt + 1, runner = 1, started_at = 2
 WHERE id IN (SELECT id FROM jr_invocation INDEXED BY jr_pending WHERE status = 'pending' AND queue = 'default'
               ORDER BY waiters DESC, priority DESC, id LIMIT ?)
RETURNING id, claim, task, args"""
_FINISH = """
UPDATE jr_invocation SET status = 'success', finished_at = 3 WHERE id = ? AND claim = ? AND status = 'running'"""


def _plain(place: Place, synchronous: int) -> apsw.Connection:
    """A plain table of jobs without index or constraint."""
    connection = apsw.Connection(str(place.folder / "plain.db"))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", synchronous)
    connection.pragma("wal_autocheckpoint", 10_000)
    connection.execute(_PLAIN)
    return connection


def _ours(place: Place, synchronous: int) -> apsw.Connection:
    """Our schema, as we set it up, but on a connection without jobrunner."""
    Database(place.database, create=True).close()
    connection = apsw.Connection(str(place.database))
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.pragma("synchronous", synchronous)
    connection.pragma("foreign_keys", 1)
    connection.pragma("wal_autocheckpoint", 10_000)
    return connection


def _commits(place: Place, synchronous: int) -> tuple[float, float]:
    """Into the plain table and into ours."""
    count = place.size(1000, 20)
    plain = _rate(_plain(place, synchronous), _INSERT, _ROW, count)
    return plain, _rate(_ours(place, synchronous), _ENQUEUE, (), count)


def _rate(connection: apsw.Connection, statement: str, row: tuple[str, ...], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        connection.execute(statement, row)
    return count / (time.perf_counter() - began)


@measure(
    GROUP,
    ("raw_full", "commits of one row, FULL, plain table", "/s"),
    ("raw_full_schema", "commits of one row, FULL, our schema", "/s"),
)
def commits_full(place: Place) -> Figures:
    """One row a transaction, each on disk."""
    plain, ours = _commits(place, 2)
    return {"raw_full": plain, "raw_full_schema": ours}


@measure(GROUP, ("raw_full_rested", "one commit of one row, FULL, after a rest of 50 ms: p50", "ms"))
def commit_after_a_rest(place: Place) -> Figures:
    """As an idle machine makes it: its disk and its caches have gone to sleep, which no latency can be without."""
    connection = _plain(place, 2)
    took = []
    for _ in range(place.size(60, 2)):
        time.sleep(0.05)
        began = time.perf_counter()
        connection.execute(_INSERT, _ROW)
        took.append(1000 * (time.perf_counter() - began))
    return {"raw_full_rested": statistics.median(took)}


@measure(
    GROUP,
    ("raw_normal", "commits of one row, NORMAL, plain table", "/s"),
    ("raw_normal_schema", "commits of one row, NORMAL, our schema", "/s"),
)
def commits_normal(place: Place) -> Figures:
    """One row a transaction, none waited for."""
    plain, ours = _commits(place, 1)
    return {"raw_normal": plain, "raw_normal_schema": ours}


@measure(
    GROUP,
    ("raw_bulk", "rows in bulk, plain table", "/s"),
    ("raw_bulk_schema", "rows in bulk, our schema", "/s"),
)
def bulk(place: Place) -> Figures:
    """Many rows a transaction."""
    count = place.size(5 * BULK, 100)
    plain = _bulk_rate(_plain(place, 2), _INSERT, _ROW, count)
    ours = _bulk_rate(_ours(place, 2), _ENQUEUE, (), count)
    return {"raw_bulk": plain, "raw_bulk_schema": ours}


def _bulk_rate(connection: apsw.Connection, statement: str, row: tuple[str, ...], count: int) -> float:
    began = time.perf_counter()
    for _ in range(max(1, count // BULK)):
        with connection:
            connection.executemany(statement, (row for _ in range(min(count, BULK))))
    return count / (time.perf_counter() - began)


@measure(GROUP, ("raw_claim_finish", f"claim + finish in batches of {BATCH}, our schema", "/s"))
def claim_and_finish(place: Place) -> Figures:
    """The two statements that no runner can do without, on a connection of its own."""
    count = place.size(20_000, 2 * BATCH)
    _fill(place.database, count)
    connection = _ours(place, 2)
    began = time.perf_counter()
    for _ in range(count // BATCH):
        with connection:
            claimed = connection.execute(_CLAIM, (BATCH,)).fetchall()
            connection.executemany(_FINISH, (row[:2] for row in claimed))
    return {"raw_claim_finish": count / (time.perf_counter() - began)}


@measure(GROUP, ("raw_claim_record", f"claim + record in batches of {BATCH}, our functions", "/s"))
def claim_and_record(place: Place) -> Figures:
    """The same by broker and orchestrator, which also write each attempt down."""
    count = place.size(10_000, 2 * BATCH)
    _fill(place.database, count)
    runner = RunnerId(1)
    with Database(place.database) as database:
        began = time.perf_counter()
        for _ in range(count // BATCH):
            with database.transaction():
                claimed = claims.claim(database, runner, (), BATCH)
                ended = [Ended(one, Policy(), Outcome("null"), Exit(1, code=0, cpu_ms=1)) for one in claimed]
                orchestrator.record_all(database, ended, runner)
        return {"raw_claim_record": count / (time.perf_counter() - began)}


def _fill(path: Path, count: int) -> None:
    with Database(path, create=True) as database:
        broker.enqueue(database, [Request("bench.tasks:noop")] * count)


@measure(
    GROUP,
    ("raw_fork_bare", "fork + exit + wait, a bare process", "/s"),
    ("raw_fork_template", "fork + exit + wait, a process like the template", "/s"),
    ("raw_fork_ms", "the same: one of them", "ms"),
    ("raw_task_bare", "fork + task + result over a socket, 2 at a time, bare", "/s"),
    ("raw_task_template", "fork + task + result over a socket, 2 at a time, like the template", "/s"),
    ("raw_size_bare", "resident size of the bare process", "MB"),
    ("raw_size_template", "resident size of the process like the template", "MB"),
)
def forks(place: Place) -> Figures:
    """Forks without a queue: only these cost what the size of the process makes them cost."""
    count = place.size(600, 10)
    figures = {}
    for size in ("bare", "template"):
        figures[f"raw_fork_{size}"], _ = _fork(count, "empty", size)
        figures[f"raw_task_{size}"], figures[f"raw_size_{size}"] = _fork(count, "task", size)
    figures["raw_fork_ms"] = 1000 / figures["raw_fork_template"]
    return figures


@measure(GROUP, ("raw_round_trip", "round trip over a socket pair to another process", "us"))
def round_trip(place: Place) -> Figures:
    """One byte there and back."""
    count = place.size(5000, 20)
    ours, theirs = socket.socketpair()
    pid = os.fork()  # nothing is open in this process
    if pid == 0:
        ours.close()
        while byte := theirs.recv(1):
            theirs.send(byte)
        os._exit(0)
    theirs.close()
    began = time.perf_counter()
    for _ in range(count):
        ours.send(b".")
        ours.recv(1)
    took = time.perf_counter() - began
    ours.close()
    os.waitpid(pid, 0)
    return {"raw_round_trip": took / count * 1e6}


def _fork(count: int, what: str, size: str) -> tuple[float, float]:
    script = Path(__file__).with_name("forking.py")
    words = [sys.executable, "-P", str(script), str(count), what, size]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    rate, resident = json.loads(done.stdout)
    return rate, resident
