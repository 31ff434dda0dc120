"""Other programs doing the same, in an environment of their own: never a dependency, made only on request."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench import environments
from bench.measure import Figures, Place, measure

GROUP = "peers"
PACKAGES = ("huey>=3.5", "rq>=2.0")
HERE = Path(__file__).parent


def make_environment() -> None:
    """With all that is measured here."""
    environments.make("peers", PACKAGES)


def _huey(place: Place, name: str, verb: str, *words: str, fsync: str = "") -> Figures:
    """What peer_huey says, on a database `name`; `fsync` is 0 or 1, by default what huey has by default."""
    settings = {"PEER_DATABASE": str(place.folder / f"{name}.db"), "PEER_FSYNC": fsync, "PYTHONPATH": str(HERE)}
    # Not as a script: the consumer knows the task by the name of its module.
    command = [str(environments.python_of("peers")), "-c", "import peer_huey; peer_huey.main()", verb, *words]
    done = subprocess.run(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, check=True)
    figures: Figures = json.loads(done.stdout)
    return figures


@measure(
    GROUP,
    ("huey_enqueue", "huey on SQLite: enqueue one by one", "/s"),
    ("huey_latency_p50", "huey: latency, enqueue to result, 2 threads, idle: p50", "ms"),
    ("huey_latency_p99", "the same: p99", "ms"),
)
def huey_calls(place: Place) -> Figures:
    """Enqueueing, and waiting for results, with huey's defaults."""
    enqueued = _huey(place, "enqueue", "enqueue", str(place.size(1000, 20)))
    latencies = _huey(place, "latency", "latency", str(place.size(20, 2)))
    return {
        "huey_enqueue": enqueued["rate"],
        "huey_latency_p50": latencies["p50"],
        "huey_latency_p99": latencies["p99"],
    }


@measure(
    GROUP,
    ("huey_threads", "huey: drain of no-op tasks, 2 threads", "/s"),
    ("huey_processes", "huey: drain of no-op tasks, 2 processes", "/s"),
    ("huey_threads_unsafe", "huey, fsync=False: drain of no-op tasks, 2 threads", "/s"),
    ("huey_processes_unsafe", "huey, fsync=False: drain of no-op tasks, 2 processes", "/s"),
    ("huey_best", "huey: the better of both", "/s"),
    ("huey_best_unsafe", "huey, fsync=False: the better of both", "/s"),
)
def huey_drains(place: Place) -> Figures:
    """Its workers live on, and do one task after the other."""
    count = str(place.size(2000, 20))
    figures = {}
    for end, fsync in (("", ""), ("_unsafe", "0")):
        for kind in ("thread", "process"):
            name = "huey_threads" if kind == "thread" else "huey_processes"
            figures[name + end] = _huey(place, name + end, "drain", kind, count, fsync=fsync)["rate"]
        figures[f"huey_best{end}"] = max(figures[f"huey_threads{end}"], figures[f"huey_processes{end}"])
    return figures


@measure(
    GROUP,
    ("rq_enqueue", "RQ on Redis, which does not wait for its disk: enqueue one by one", "/s"),
    ("rq_drain", "RQ: drain of no-op jobs, 2 workers, a process a job", "/s"),
)
def rq(place: Place) -> Figures:
    """On a Redis server of its own; nothing where Redis is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        sys.stderr.write("no redis-server here: RQ is not measured\n")
        return {}
    words = ["-c", "import peer_rq; peer_rq.main()", program, str(place.folder), str(place.size(300, 10))]
    command = [str(environments.python_of("peers")), *words]
    settings = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, env=settings, stdout=subprocess.PIPE, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures
