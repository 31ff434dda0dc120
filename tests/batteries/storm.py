"""Runners, templates, workers and enqueuers that are killed at random, while others go on."""

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from jobrunner import App
from tests.helpers.files import rows
from tests.helpers.processes import RunnerProcess, children, environment
from tests.helpers.trace import whole_lines
from tests.helpers.waiting import until

RUNNERS = 3
KINDS: tuple[dict[str, Any], ...] = (
    {"mode": "process", "jobs": 4},
    {"mode": "thread", "jobs": 2, "threads": 3},
)
BATCH = 10

ENQUEUE = """
import os, random, sys, time
from tests.batteries.storm_tasks import work
dice = random.Random(int(sys.argv[1]))
told = os.open("told", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
while True:
    jobs = work.enqueue_many({"milliseconds": dice.randrange(100)} for _ in range(int(sys.argv[2])))
    os.write(told, (" ".join(str(job.id) for job in jobs) + "\\n").encode())
    time.sleep(0.1)  # as fast as the runners work, so that they have something to do all the time
"""


class Kill(NamedTuple):
    """What was killed, and how many executions that can have broken off."""

    what: str
    executions: int


class Storm:
    """It begins with runners and an enqueuer, and ends when the dice have been thrown for long enough."""

    def __init__(self, folder: Path, path: Path, start: Callable[..., RunnerProcess], seed: int) -> None:
        self.kills: list[Kill] = []
        self.recoveries: list[float] = []
        """Seconds from the death of a runner until none of its jobs was its own any more."""
        self._folder = folder
        self._path = path
        self._start = start
        self._dice = random.Random(seed)
        self._runners: list[tuple[RunnerProcess, dict[str, Any]]] = []
        self._enqueuer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_enqueuer()

    def rage(self, jobs: int, seconds: float) -> None:
        """Kill for so long, and until enqueuers were told of so many jobs; then nobody enqueues any more."""
        for _ in range(RUNNERS):
            self._runners.append(self._new_runner())
        until_moment = time.monotonic() + seconds
        while time.monotonic() < until_moment or len(self.told()) < jobs:
            self._keep_enqueuing()
            threading.Event().wait(self._dice.uniform(0.02, 0.2))  # the pace of the storm
            self._dice.choice([self._kill_worker] * 4 + [self._kill_runner, self._kill_template, self._kill_enqueuer])()
        self._end_enqueuer()
        for runner, _ in self._runners:
            runner.until_ready()  # one that has not begun would not end well when it is told to

    def told(self) -> list[int]:
        """The ids that enqueuers were told, as these wrote them down."""
        return [int(word) for line in whole_lines(self._folder / "told") for word in line.split()]

    def figures(self) -> str:
        """In a line, for people."""
        counts = Counter(kill.what for kill in self.kills)
        counted = ", ".join(f"{counts[what]} {what}s" for what in ("runner", "template", "worker", "enqueuer"))
        times = self.recoveries or [0.0]
        recovered = f"{statistics.median(times):.2f} s, at most {max(times):.2f} s ({len(self.recoveries)} times)"
        return f"killed {counted}; the jobs of a killed runner were taken over after {recovered}"

    def _new_runner(self) -> tuple[RunnerProcess, dict[str, Any]]:
        kind = self._dice.choice(KINDS)
        return self._start(**kind), kind

    def _keep_enqueuing(self) -> None:
        if self._enqueuer is None:
            words = [str(self._dice.randrange(1 << 30)), str(BATCH)]
            self._enqueuer = subprocess.Popen(
                [sys.executable, "-c", ENQUEUE, *words], cwd=self._folder, env=environment(self._folder)
            )

    def _end_enqueuer(self) -> None:
        if self._enqueuer is not None:
            self._enqueuer.kill()
            self._enqueuer.wait()
            self._enqueuer = None

    def _kill_enqueuer(self) -> None:
        if self._enqueuer is not None:
            self._end_enqueuer()
            self.kills.append(Kill("enqueuer", 0))

    def _kill_runner(self) -> None:
        place = self._dice.randrange(len(self._runners))
        runner, kind = self._runners[place]
        if not _has_begun(runner):
            return
        ((number,),) = rows(self._path, "SELECT max(id) FROM jr_runner WHERE pid = ?", runner.pid)
        runner.kill()
        died = time.monotonic()
        self.kills.append(Kill("runner", _slots(kind)))
        self._runners[place] = self._new_runner()
        held = "SELECT count(*) FROM jr_invocation WHERE runner = ? AND status IN ('running', 'paused', 'resumed')"
        if rows(self._path, held, number) != [(0,)]:
            until(lambda: rows(self._path, held, number) == [(0,)])
            self.recoveries.append(time.monotonic() - died)

    def _kill_template(self) -> None:
        runner, kind = self._dice.choice(self._runners)
        for template in children(runner.pid) if _has_begun(runner) else []:
            if _kill(template, runner.pid):
                self.kills.append(Kill("template", _slots(kind)))

    def _kill_worker(self) -> None:
        runner, kind = self._dice.choice(self._runners)
        workers = [(one, template) for template in children(runner.pid) for one in children(template)]
        if workers and _kill(*self._dice.choice(workers)):
            self.kills.append(Kill("worker", kind.get("threads", 1)))


def _has_begun(runner: RunnerProcess) -> bool:
    """Before, the death of its template is its own end."""
    return " slots on " in runner.stderr


def _slots(kind: dict[str, Any]) -> int:
    return int(kind["jobs"] * kind.get("threads", 1))


def _kill(pid: int, parent: int) -> bool:
    """KILL the process if it still is a child of that parent: never somebody who was given its pid."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if pid in children(parent):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return True
        finally:
            os.close(descriptor)
    return False


def finish(app: App, ids: list[int]) -> None:
    """After the storm: all that was told becomes final."""
    app.wait(ids, timeout=100)
