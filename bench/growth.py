"""What a large file costs: beside finished, delayed and blocked rows, and with many that are pending."""

import statistics
import subprocess
import time
from pathlib import Path

import apsw
import psutil

from bench import tasks
from bench.latency import job_ms
from bench.measure import Figures, Place, measure
from bench.running import PYTHON, drain, run_words, runner
from jobrunner import broker, claims, orchestrator
from jobrunner.database import Database
from jobrunner.models import Exit, Outcome, Request, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.policy import Policy

GROUP = "jobrunner: growth"
BATCH = 100
SIZES = ("empty", "some", "full")
WORDS = {"empty": "empty", "some": "100,000 finished", "full": "1,000,000 finished, 100,000 delayed, 100,000 blocked"}
_FINISHED = """
INSERT INTO jr_invocation(task, args, created_at, status, changed_at, started_at, finished_at, runner, claim, attempt)
WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < ?)
SELECT 'bench.tasks:noop', '{}', n, 'success', n + 2, n + 1, n + 2, 1, 1, 1 FROM many"""
_DELAYED = """
INSERT INTO jr_invocation(task, args, created_at, status, run_at)
WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < ?)
SELECT 'bench.tasks:noop', '{}', n, 'scheduled', 9000000000000 + n FROM many"""
_BLOCKED = """
INSERT INTO jr_invocation(task, args, created_at, status, hold)
WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < ?)
SELECT 'bench.tasks:noop', '{}', n, 'blocked', 1 FROM many"""
_PENDING = """
INSERT INTO jr_invocation(task, args, created_at, status, hold)
WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < ?)
SELECT 'bench.tasks:noop', '{}', n, 'pending', 0 FROM many"""


def _insert(path: Path, *rows: tuple[str, int]) -> None:
    """Rows made by SQL, in bulk."""
    Database(path, create=True).close()
    connection = apsw.Connection(str(path))
    connection.pragma("synchronous", 1)
    for statement, count in rows:
        connection.execute(statement, (count,))
    connection.pragma("wal_checkpoint(truncate)")
    connection.close()


def _grow(path: Path, size: str, place: Place) -> None:
    rows: dict[str, tuple[tuple[str, int], ...]] = {
        "empty": (),
        "some": ((_FINISHED, place.size(100_000, 100)),),
        "full": (
            (_FINISHED, place.size(1_000_000, 1000)),
            (_DELAYED, place.size(100_000, 100)),
            (_BLOCKED, place.size(100_000, 100)),
        ),
    }
    _insert(path, *rows[size])


@measure(GROUP, *((f"grown_{size}", f"claim + record in batches of {BATCH}: {WORDS[size]}", "/s") for size in SIZES))
def claim_and_record(place: Place) -> Figures:
    """By broker and orchestrator; the three files in turns, batch by batch."""
    count = place.size(5000, 2 * BATCH)
    databases = {}
    for size in SIZES:
        path = place.folder / f"{size}.db"
        _grow(path, size, place)
        databases[size] = Database(path)
        broker.enqueue(databases[size], [Request("bench.tasks:noop")] * count)
    took = dict.fromkeys(SIZES, 0.0)
    for _ in range(count // BATCH):
        for size, database in databases.items():
            began = time.perf_counter()
            _batch(database)
            took[size] += time.perf_counter() - began
    for database in databases.values():
        database.close()
    return {f"grown_{size}": count / took[size] for size in SIZES}


def _batch(database: Database) -> None:
    runner_id = RunnerId(1)
    with database.transaction():
        for claimed in claims.claim(database, runner_id, (), BATCH):
            ended = Ended(claimed, Policy(), Outcome("null"), Exit(1, code=0, cpu_ms=1, peak_kb=1))
            orchestrator.record(database, ended, runner_id)


WORK = (1000, 5000, 20_000, 50_000)


@measure(GROUP, *((f"work_{count}", f"drain, thread mode: {count:,} queued", "/s") for count in WORK))
def work(place: Place) -> Figures:
    """One drain after the other, from few jobs to many."""
    return {f"work_{count}": drain(place, "thread", place.size(count, 50))[0] for count in WORK}


def _of_size(size: str) -> tuple[tuple[str, str, str], ...]:
    return (
        (f"drain_{size}", f"drain, thread mode: {WORDS[size]}", "/s"),
        (f"latency_{size}", "enqueue to result, thread mode, the same: p50", "ms"),
        (f"status_{size}", "status, beyond the program's start", "ms"),
        (f"list_{size}", "list --limit 50, beyond the program's start", "ms"),
        (f"show_{size}", "show, beyond the program's start", "ms"),
    )


@measure(GROUP, *_of_size("empty"))
def empty(place: Place) -> Figures:
    """Nothing in the file but what is measured."""
    return _beside(place, "empty")


@measure(GROUP, *_of_size("some"))
def some(place: Place) -> Figures:
    """Some history."""
    return _beside(place, "some")


@measure(GROUP, *_of_size("full"))
def full(place: Place) -> Figures:
    """A long history, and much that may not be started."""
    return _beside(place, "full")


def _beside(place: Place, size: str) -> Figures:
    _grow(place.database, size, place)
    rate, _ = drain(place, "thread", place.size(5000, 50))
    with runner("thread"):
        latency = statistics.median(job_ms()[1] for _ in range(place.size(50, 3)))
    tasks.app.close()
    return {f"drain_{size}": rate, f"latency_{size}": latency} | _commands(place, size)


def _commands(place: Place, size: str) -> Figures:
    """Of each command the median above that of `--version`, in turns."""
    words = {"start": ["--version"], "status": ["status"], "list": ["list", "--limit", "50"], "show": ["show", "7"]}
    took: dict[str, list[float]] = {name: [] for name in words}
    for _ in range(place.size(5, 1)):
        for name, arguments in words.items():
            began = time.perf_counter()
            subprocess.run([*PYTHON, "-m", "jobrunner", *arguments], stdout=subprocess.DEVNULL, check=True)
            took[name].append((time.perf_counter() - began) * 1000)
    start = statistics.median(took.pop("start"))
    return {f"{name}_{size}": statistics.median(times) - start for name, times in took.items()}


@measure(
    GROUP,
    ("memory_few", "runner's resident size, 1,000 queued", "MB"),
    ("memory_many", "runner's resident size, 1,000,000 queued", "MB"),
)
def memory(place: Place) -> Figures:
    """After some hundreds of jobs."""
    few = _resident_mb(place, "few.db", place.size(1000, 100), place.size(800, 50))
    many = _resident_mb(place, "many.db", place.size(1_000_000, 1000), place.size(800, 50))
    return {"memory_few": few, "memory_many": many}


def _resident_mb(place: Place, name: str, queued: int, done: int) -> float:
    path = place.folder / name
    _insert(path, (_PENDING, queued))
    process = psutil.Popen([*run_words("thread"), "--db", str(path)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(path, done)
        return float(process.memory_info().rss) / 1e6
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_for(path: Path, done: int) -> None:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5000)
    deadline = time.monotonic() + 60
    while connection.execute("SELECT count(*) FROM jr_invocation WHERE finished_at IS NOT NULL").get < done:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {done} jobs were done in a minute")
        time.sleep(0.01)
    connection.close()
