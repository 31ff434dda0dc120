"""Runs in the environment of the peers: RQ, measured on a Redis server of its own. Prints figures as JSON.

    python -c 'import peer_rq; peer_rq.main()' REDIS-SERVER FOLDER COUNT

Redis has its defaults: what it was told is not on disk when it answers.
"""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import redis  # type: ignore[import-not-found,unused-ignore]  # only in the environment of the peers
import rq  # type: ignore[import-not-found,unused-ignore]  # the same

WORKERS = 2


def noop() -> None:
    """Nothing."""


@contextlib.contextmanager
def server(program: str, folder: str) -> Iterator[int]:
    """A Redis server on loopback, gone afterwards; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    words = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)


def connect(port: int) -> Any:
    """A connection, as soon as the server answers."""
    connection = redis.Redis(port=port)
    deadline = time.monotonic() + 20
    while True:
        try:
            connection.ping()
        except redis.exceptions.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return connection


@contextlib.contextmanager
def workers(port: int) -> Iterator[None]:
    """RQ's own program, a process for each job."""
    words = ["-m", "rq.cli", "worker", "--url", f"redis://127.0.0.1:{port}", "--quiet"]
    processes = [subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL) for _ in range(WORKERS)]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=60)


def drain(port: int, count: int) -> dict[str, float]:
    """Jobs a second while they are enqueued, and between the first end and the last."""
    queue = rq.Queue(connection=connect(port))
    began = time.perf_counter()
    for _ in range(count):
        queue.enqueue("peer_rq.noop")
    enqueued = count / (time.perf_counter() - began)
    with workers(port):
        first, seen = wait_for(queue, 1)
        last, _ = wait_for(queue, count)
    return {"rq_enqueue": enqueued, "rq_drain": (count - seen) / (last - first)}


def wait_for(queue: Any, finished: int) -> tuple[float, int]:
    """When so many had finished, and how many there were."""
    deadline = time.monotonic() + 120
    while (seen := int(queue.finished_job_registry.get_job_count(cleanup=False))) < finished:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {seen} of {finished} jobs finished")
        time.sleep(0.005)
    return time.perf_counter(), seen


def main() -> None:
    """Do as the command line says."""
    program, folder, count = sys.argv[1:]
    with server(program, folder) as port:
        sys.stdout.write(json.dumps(drain(port, int(count))) + "\n")
