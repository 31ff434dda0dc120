"""How long one waits: for the first line of a job, for its result, for waking up when what was awaited has finished."""

import contextlib
import statistics
import subprocess
import time
from collections.abc import Iterator

from bench import tasks
from bench.measure import TOP, Figures, Place, measure
from bench.running import PYTHON, SLOTS, drain, percentile, runner

GROUP = "jobrunner: waiting"
LOAD_MS = {"thread": 5, "process": 20}
"""Under load another process enqueues a job so often, which is well below what a runner does."""


def _words(mode: str) -> tuple[tuple[str, str, str], ...]:
    """The figures of a mode, idle and under load."""
    found = []
    for when, words in (("", "idle"), ("_load", f"one more job every {LOAD_MS[mode]} ms")):
        for what, to in (("start", "first line"), ("latency", "result")):
            key = f"{what}_{mode}{when}"
            found.append((f"{key}_p50", f"enqueue to {to}, {mode} mode, {words}: p50", "ms"))
            found.append((f"{key}_p99", "the same: p99", "ms"))
    return tuple(found)


@measure(GROUP, *_words("thread"))
def latency_thread(place: Place) -> Figures:
    """Pools of threads."""
    return _latencies(place, "thread")


@measure(GROUP, *_words("process"))
def latency_process(place: Place) -> Figures:
    """A process for each job."""
    return _latencies(place, "process")


def _latencies(place: Place, mode: str) -> Figures:
    count = place.size(200, 5)
    figures: Figures = {}
    with runner(mode):
        figures |= _figures(mode, count)
        with _load(LOAD_MS[mode]):
            figures |= _figures(f"{mode}_load", count)
    return figures


def _figures(name: str, count: int) -> Figures:
    starts, results = zip(*(job_ms() for _ in range(count)), strict=True)
    return {
        f"start_{name}_p50": statistics.median(starts),
        f"start_{name}_p99": percentile(starts, 99),
        f"latency_{name}_p50": statistics.median(results),
        f"latency_{name}_p99": percentile(results, 99),
    }


def job_ms() -> tuple[float, float]:
    """From the call of `enqueue` to the first line of the job, and to the return of `result` in this process."""
    time.sleep(0.005)  # the runner is to be idle again
    began = time.monotonic()
    started = tasks.now.enqueue().result(timeout=60)
    return (started - began) * 1000, (time.monotonic() - began) * 1000


@contextlib.contextmanager
def _load(pause_ms: int) -> Iterator[None]:
    process = subprocess.Popen([*PYTHON, "-c", _LOAD, str(TOP), str(pause_ms)])
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


_LOAD = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bench.load import main; main()"


@measure(
    GROUP,
    ("wake_thread_p50", "end of the awaited to its waiter's next line, thread mode: p50", "ms"),
    ("wake_process_p50", "the same, process mode: p50", "ms"),
)
def wake(place: Place) -> Figures:
    """A job that waits for another."""
    figures = {}
    for mode in ("thread", "process"):
        with runner(mode):
            took = [tasks.wake_ms.enqueue().result(timeout=60) for _ in range(place.size(60, 3))]
        figures[f"wake_{mode}_p50"] = statistics.median(took)
    return figures


@measure(
    GROUP,
    ("burn_one", "jobs that keep a processor busy, process mode, -j 1", "/s"),
    ("burn_two", f"the same, -j {SLOTS}", "/s"),
)
def busy(place: Place) -> Figures:
    """Whether a second process doubles what is done."""
    count = place.size(40, 2)
    one, _ = drain(place, "process", count, tasks.burn, jobs=1)
    two, _ = drain(place, "process", count, tasks.burn)
    return {"burn_one": one, "burn_two": two}
