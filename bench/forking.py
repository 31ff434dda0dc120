"""Forks as fast as this interpreter can make them; a script, so that the process holds nothing else.

    python forking.py COUNT empty|task bare|template

`empty`: the child only ends. `task`: it reads a task, does it and sends the result over a socket, two children at
a time. `template`: in a process as large as jobrunner's template. Prints forks per second and resident megabytes.
"""

import gc
import json
import os
import socket
import sys
import time
from collections import deque

AT_A_TIME = 2


def fork_empty(count: int) -> None:
    """Children that do nothing, one after the other."""
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


def fork_task(count: int) -> None:
    """Children that do a trivial task."""
    running: deque[tuple[int, socket.socket]] = deque()
    for _ in range(count):
        if len(running) == AT_A_TIME:
            _finish(*running.popleft())
        running.append(_start())
    while running:
        _finish(*running.popleft())


def _start() -> tuple[int, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.sendall(json.dumps(["do", 1, "bench.tasks:noop", {}]).encode())
    pid = os.fork()
    if pid == 0:
        ours.close()
        _do(theirs)
        os._exit(0)
    theirs.close()
    return pid, ours


def _do(channel: socket.socket) -> None:
    _, number, _, args = json.loads(channel.recv(65536))
    channel.sendall(json.dumps(["outcome", number, noop(**args)]).encode())


def noop() -> object:
    """The trivial task."""
    return None


def _finish(pid: int, channel: socket.socket) -> None:
    json.loads(channel.recv(65536))
    channel.close()
    os.waitpid(pid, 0)


def resident_mb() -> float:
    """Of this process."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Do as the command line says."""
    count, what, size = sys.argv[1:]
    if size == "template":
        import jobrunner.runner.template  # noqa: F401
    gc.freeze()
    loop = {"empty": fork_empty, "task": fork_task}[what]
    began = time.perf_counter()
    loop(int(count))
    rate = int(count) / (time.perf_counter() - began)
    sys.stdout.write(json.dumps([rate, resident_mb()]) + "\n")


if __name__ == "__main__":
    main()
