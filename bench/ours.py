"""What jobrunner does: enqueue, drain, start, idle."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil

from bench import tasks
from bench.measure import Figures, Place, measure
from bench.running import PYTHON, SLOTS, drain, runner

GROUP = "jobrunner"

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


@measure(
    GROUP,
    ("drain_process", f"drain of no-op jobs, process mode, -j {SLOTS}", "/s"),
    ("drain_process_cpu", "the same: CPU of all processes for a job", "ms"),
)
def drain_process(place: Place) -> Figures:
    """A process for each job."""
    rate, cpu = drain(place, "process", place.size(1500, 10))
    return {"drain_process": rate, "drain_process_cpu": cpu}


@measure(
    GROUP,
    ("drain_thread", f"drain of no-op jobs, thread mode, -j {SLOTS}", "/s"),
    ("drain_thread_cpu", "the same: CPU of all processes for a job", "ms"),
)
def drain_thread(place: Place) -> Figures:
    """Pools of threads."""
    rate, cpu = drain(place, "thread", place.size(20_000, 50))
    return {"drain_thread": rate, "drain_thread_cpu": cpu}


@measure(
    GROUP,
    ("idle_runner_mb", "idle runner: resident size", "MB"),
    ("idle_template_mb", "its template: resident size", "MB"),
    ("idle_pss_mb", "both, and the process that waits for the next job: proportional size", "MB"),
    ("idle_cpu", "all: share of a core while idle", "%"),
    ("idle_written", "all: bytes written while idle", "B"),
)
def idle(place: Place) -> Figures:
    """A runner with nothing to do."""
    with runner("process") as process:
        (template,) = process.children()
        time.sleep(place.size(10, 1) / 10)
        all_of_it, began = [process, *process.children(recursive=True)], time.perf_counter()
        cpu, written = _cpu_seconds(all_of_it), _written(all_of_it)
        time.sleep(place.size(40, 2) / 10)
        return {
            "idle_runner_mb": process.memory_info().rss / 1e6,
            "idle_template_mb": template.memory_info().rss / 1e6,
            "idle_pss_mb": sum(one.memory_full_info().pss for one in all_of_it) / 1e6,
            "idle_cpu": (_cpu_seconds(all_of_it) - cpu) / (time.perf_counter() - began) * 100,
            "idle_written": _written(all_of_it) - written,
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
