"""What jobrunner does: enqueue, drain, answer, start, idle."""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import psutil

from bench import tasks
from bench.measure import TOP, Figures, Place, measure
from jobrunner.invocation import AnyInvocation

GROUP = "jobrunner"
SLOTS = 2
PYTHON = [sys.executable, "-P"]


# Enqueueing


@measure(GROUP, ("enqueue_full", "enqueue one by one", "/s"))
def enqueue_one_by_one(place: Place) -> Figures:
    """`task.enqueue()`, each on disk when it returns."""
    count = place.size(1000, 20)
    tasks.noop.enqueue()
    began = time.perf_counter()
    for _ in range(count):
        tasks.noop.enqueue()
    return {"enqueue_full": count / (time.perf_counter() - began)}


@measure(GROUP, ("enqueue_relaxed", "enqueue one by one, relaxed", "/s"))
def enqueue_one_by_one_relaxed(place: Place) -> Figures:
    """The same without waiting for the disk."""
    count = place.size(1000, 20)
    tasks.relaxed_noop.enqueue()
    began = time.perf_counter()
    for _ in range(count):
        tasks.relaxed_noop.enqueue()
    return {"enqueue_relaxed": count / (time.perf_counter() - began)}


@measure(GROUP, ("enqueue_many", "enqueue_many", "/s"))
def enqueue_many(place: Place) -> Figures:
    """`task.enqueue_many`, all in one transaction."""
    count = place.size(50_000, 100)
    tasks.noop.enqueue()
    began = time.perf_counter()
    tasks.noop.enqueue_many({} for _ in range(count))
    return {"enqueue_many": count / (time.perf_counter() - began)}


@measure(GROUP, ("enqueue_jsonl", "enqueue --jsonl, the program's start included", "/s"))
def enqueue_jsonl(place: Place) -> Figures:
    """Lines from a file, all in one transaction."""
    count = place.size(50_000, 100)
    lines = place.folder / "jobs.jsonl"
    lines.write_text('{"task": "bench.tasks:noop", "args": {}}\n' * count, "utf-8")
    began = time.perf_counter()
    subprocess.run([*PYTHON, "-m", "jobrunner", "enqueue", "--jsonl", lines], stdout=subprocess.DEVNULL, check=True)
    return {"enqueue_jsonl": count / (time.perf_counter() - began)}


# Running


def _run_words(mode: str, *words: str) -> list[str]:
    options = ["--mode", mode, "--jobs", str(SLOTS), "--app-dir", str(TOP), "--import", "bench.tasks"]
    return [*PYTHON, "-m", "jobrunner", "run", *options, *words]


@measure(
    GROUP,
    ("drain_process", f"drain of no-op jobs, process mode, -j {SLOTS}", "/s"),
    ("drain_process_cpu", "the same: CPU of all processes for a job", "ms"),
)
def drain_process(place: Place) -> Figures:
    """A process for each job."""
    rate, cpu = _drain(place, "process", place.size(1500, 10))
    return {"drain_process": rate, "drain_process_cpu": cpu}


@measure(
    GROUP,
    ("drain_thread", f"drain of no-op jobs, thread mode, -j {SLOTS}", "/s"),
    ("drain_thread_cpu", "the same: CPU of all processes for a job", "ms"),
)
def drain_thread(place: Place) -> Figures:
    """Pools of threads."""
    rate, cpu = _drain(place, "thread", place.size(20_000, 50))
    return {"drain_thread": rate, "drain_thread_cpu": cpu}


def _drain(place: Place, mode: str, count: int) -> tuple[float, float]:
    """Jobs a second from the first claim to the last record, so without the runner's start; and CPU ms for a job."""
    tasks.noop.enqueue_many({} for _ in range(count))
    tasks.app.close()
    said = place.folder / "runner.log"
    with said.open("wb") as log:
        runner = subprocess.Popen(_run_words(mode, "--drain"), stderr=log)
    _, status, usage = os.wait4(runner.pid, 0)
    runner.returncode = os.waitstatus_to_exitcode(status)
    if runner.returncode:
        raise RuntimeError(f"the runner ended with exit code {runner.returncode}: {said.read_text('utf-8')[-2000:]}")
    return count / _seconds_of_work(place, count), (usage.ru_utime + usage.ru_stime) * 1000 / count


def _seconds_of_work(place: Place, count: int) -> float:
    connection = apsw.Connection(str(place.database))
    statement = "SELECT min(started_at), max(finished_at), count(*) FROM jr_invocation WHERE status = 'success'"
    ((first, last, succeeded),) = connection.execute(statement)
    if succeeded != count:
        raise RuntimeError(f"{succeeded} of {count} jobs succeeded")
    return float(last - first) / 1000


@contextlib.contextmanager
def _runner(mode: str) -> Iterator[psutil.Popen]:
    """A runner that has done a job and waits for more."""
    process = psutil.Popen(_run_words(mode), stderr=subprocess.DEVNULL)
    try:
        tasks.noop.enqueue().result(timeout=60)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


@measure(
    GROUP,
    ("latency_process_p50", "latency, enqueue to result, process mode, idle: p50", "ms"),
    ("latency_process_p99", "the same: p99", "ms"),
)
def latency_process(place: Place) -> Figures:
    """A process for each job."""
    took = _latencies_ms("process", place.size(200, 5))
    return {"latency_process_p50": statistics.median(took), "latency_process_p99": _percentile(took, 99)}


@measure(
    GROUP,
    ("latency_thread_p50", "latency, enqueue to result, thread mode, idle: p50", "ms"),
    ("latency_thread_p99", "the same: p99", "ms"),
)
def latency_thread(place: Place) -> Figures:
    """Pools of threads."""
    took = _latencies_ms("thread", place.size(200, 5))
    return {"latency_thread_p50": statistics.median(took), "latency_thread_p99": _percentile(took, 99)}


def _latencies_ms(mode: str, count: int) -> list[float]:
    """From the call of `enqueue` to the return of `result` in the same process, one job at a time."""
    with _runner(mode):
        return [_seconds_to_result() * 1000 for _ in range(count)]


def _seconds_to_result() -> float:
    time.sleep(0.005)  # the runner is to be idle again
    began = time.perf_counter()
    job: AnyInvocation = tasks.noop.enqueue()
    job.result(timeout=60)
    return time.perf_counter() - began


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


@measure(
    GROUP,
    ("idle_runner_mb", "idle runner: resident size", "MB"),
    ("idle_template_mb", "its template: resident size", "MB"),
    ("idle_pss_mb", "both: proportional size", "MB"),
    ("idle_cpu", "both: share of a core while idle", "%"),
    ("idle_written", "both: bytes written while idle", "B"),
)
def idle(place: Place) -> Figures:
    """A runner with nothing to do."""
    with _runner("process") as runner:
        (template,) = runner.children()
        time.sleep(place.size(10, 1) / 10)
        both, began = [runner, template], time.perf_counter()
        cpu, written = _cpu_seconds(both), _written(both)
        time.sleep(place.size(40, 2) / 10)
        return {
            "idle_runner_mb": runner.memory_info().rss / 1e6,
            "idle_template_mb": template.memory_info().rss / 1e6,
            "idle_pss_mb": sum(one.memory_full_info().pss for one in both) / 1e6,
            "idle_cpu": (_cpu_seconds(both) - cpu) / (time.perf_counter() - began) * 100,
            "idle_written": _written(both) - written,
        }


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    # psutil knows it to a hundredth of a second, the scheduler to the nanosecond.
    return sum(int(Path(f"/proc/{one.pid}/schedstat").read_text().split()[0]) for one in processes) / 1e9


def _written(processes: list[psutil.Process]) -> int:
    return sum(one.io_counters().write_chars for one in processes)


# Starting


@measure(
    GROUP,
    ("command_cpu", "CPU of `jobrunner enqueue -- true`", "ms"),
    ("imports_cpu", 'CPU of `python -c "import typer, apsw"`', "ms"),
)
def command_cpu(place: Place) -> Figures:
    """User and system time of the whole process, in turns."""
    tasks.noop.enqueue()
    command = [str(Path(sys.executable).with_name("jobrunner")), "enqueue", "--", "true"]
    imports = [sys.executable, "-c", "import typer, apsw"]
    took = [(_cpu_ms(command), _cpu_ms(imports)) for _ in range(place.size(15, 2))]
    commands, bare = zip(*took, strict=True)
    return {"command_cpu": statistics.median(commands), "imports_cpu": statistics.median(bare)}


def _cpu_ms(words: list[str]) -> float:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{words} ended with exit code {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000
