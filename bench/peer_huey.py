"""Runs in the environment of the peers: huey's SqliteHuey, measured. Prints figures as JSON.

PEER_DATABASE=FILE [PEER_FSYNC=0|1] python peer_huey.py enqueue COUNT | latency COUNT | drain thread|process COUNT
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from huey import SqliteHuey  # type: ignore[import-not-found,unused-ignore]  # only in the environment of the peers

_fsync = os.environ.get("PEER_FSYNC", "")
_settings: dict[str, Any] = {"fsync": _fsync == "1"} if _fsync else {}
huey: Any = SqliteHuey("peer", filename=os.environ["PEER_DATABASE"], **_settings)


@huey.task()  # type: ignore[untyped-decorator]
def noop() -> int:
    """Nothing; huey keeps no result that is None."""
    return 1


@contextlib.contextmanager
def consumer(kind: str) -> Iterator[None]:
    """Huey's own program with two workers."""
    words = ["-m", "huey.bin.huey_consumer", "peer_huey.huey", "--workers", "2", "--worker-type", kind, "--quiet"]
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def enqueue(count: str) -> dict[str, float]:
    """Tasks a second."""
    began = time.perf_counter()
    for _ in range(int(count)):
        noop()
    return {"rate": int(count) / (time.perf_counter() - began)}


def drain(kind: str, count: str) -> dict[str, float]:
    """Tasks a second between the first result and the last, so without the consumer's start."""
    for _ in range(int(count)):
        noop()
    with consumer(kind):
        first, seen = wait_for(1)
        last, _ = wait_for(int(count))
    return {"rate": (int(count) - seen) / (last - first)}


def wait_for(results: int) -> tuple[float, int]:
    """When there were so many results, and how many there were."""
    deadline = time.monotonic() + 120
    while (seen := huey.storage.result_store_size()) < results:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {seen} of {results} results")
        time.sleep(0.002)
    return time.perf_counter(), seen


def latency(count: str) -> dict[str, float]:
    """Milliseconds from the call to the result."""
    with consumer("thread"):
        noop().get(blocking=True, timeout=60)
        took = sorted(milliseconds() for _ in range(int(count)))
    return {"p50": took[len(took) // 2], "p99": took[min(len(took) - 1, len(took) * 99 // 100)]}


def milliseconds() -> float:
    """Of one task."""
    began = time.perf_counter()
    noop().get(blocking=True, timeout=60)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Do as the command line says."""
    verbs: dict[str, Callable[..., dict[str, float]]] = {"enqueue": enqueue, "drain": drain, "latency": latency}
    sys.stdout.write(json.dumps(verbs[sys.argv[1]](*sys.argv[2:])) + "\n")
