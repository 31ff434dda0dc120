"""Runners for the measures: one that drains and ends, one that waits for more."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import apsw
import psutil

from bench import tasks
from bench.measure import TOP, Place
from jobrunner.task import Task

SLOTS = 2
PYTHON = [sys.executable, "-P"]


def run_words(mode: str, *words: str, jobs: int = SLOTS) -> list[str]:
    """The command line of a runner."""
    options = ["--mode", mode, "--jobs", str(jobs), "--app-dir", str(TOP), "--import", "bench.tasks"]
    return [*PYTHON, "-m", "jobrunner", "run", "--quiet", *options, *words]  # as those of the peers


def drain(
    place: Place, mode: str, count: int, task: Task[[], Any, Any] = tasks.noop, jobs: int = SLOTS
) -> tuple[float, float]:
    """Jobs a second from the first claim to the last record, so without the runner's start; and CPU ms for a job."""
    ids = [job.id for job in task.enqueue_many({} for _ in range(count))]
    tasks.app.close()
    said = place.folder / "runner.log"
    with said.open("wb") as log:
        process = subprocess.Popen(run_words(mode, "--drain", jobs=jobs), stderr=log)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the runner ended with exit code {process.returncode}: {said.read_text('utf-8')[-2000:]}")
    seconds = _seconds_of_work(place, ids[0], ids[-1], count)
    return count / seconds, (usage.ru_utime + usage.ru_stime) * 1000 / count


def _seconds_of_work(place: Place, first_id: int, last_id: int, count: int) -> float:
    connection = apsw.Connection(str(place.database))
    statement = """SELECT min(started_at), max(finished_at), count(*) FROM jr_invocation
                    WHERE status = 'success' AND id BETWEEN ? AND ?"""
    ((first, last, succeeded),) = connection.execute(statement, (first_id, last_id))
    if succeeded != count:
        raise RuntimeError(f"{succeeded} of {count} jobs succeeded")
    return max(float(last - first), 1) / 1000


@contextlib.contextmanager
def runner(mode: str) -> Iterator[psutil.Popen]:
    """A runner that has done a job and waits for more."""
    process = psutil.Popen(run_words(mode), stderr=subprocess.DEVNULL)
    try:
        tasks.noop.enqueue().result(timeout=60)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent are at or below."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]
