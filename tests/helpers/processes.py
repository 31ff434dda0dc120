"""Runners as real processes, and who is alive."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobrunner.ownership import TOKEN_VARIABLE
from tests.helpers.trace import FOLDER_VARIABLE
from tests.helpers.waiting import SECONDS, until

ROOT = Path(__file__).parents[2]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """For a program that a test starts in its folder."""
    ours = {"PYTHONPATH": str(ROOT), FOLDER_VARIABLE: str(folder), "JOBRUNNER_DB": str(folder / "jobs.db")}
    return {**os.environ, **ours, **more}


def run_python(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python to its end in a fresh interpreter, warnings being errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def carriers(folder: Path, tokens: set[str]) -> dict[int, str]:
    """Who carries one of the runners' tokens, or was started in the test's folder: pids and commands."""
    signs = [f"{FOLDER_VARIABLE}={folder}\0".encode(), *(f"{TOKEN_VARIABLE}={token}\0".encode() for token in tokens)]
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - of every process, after every test
        if name.isdigit() and int(name) != os.getpid():
            environment_of_it = _read(f"/proc/{name}/environ") + b"\0"
            if any(sign in environment_of_it for sign in signs):
                found[int(name)] = _read(f"/proc/{name}/cmdline").replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


def _read(file: str) -> bytes:
    try:
        with open(file, "rb", buffering=0) as opened:
            return opened.read()
    except OSError:  # gone, or a zombie, or not ours
        return b""


def children(pid: int) -> list[int]:
    """The pids of a process's children; none where it is gone."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether the process runs: neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def peak_kb(pid: int) -> int:
    """The largest resident set that a living process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


class RunnerProcess:
    """A runner on the test's database, from its start to its end; settings are those of RunSettings.

    Where there is `through`, a program with its arguments, that one becomes it by exec.
    """

    def __init__(self, folder: Path, number: int, settings: dict[str, Any], through: Sequence[str] = ()) -> None:
        self.may_fail = False
        """Set by a test of a runner that cannot do its work."""
        self._log = folder / f"runner-{number}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*through, sys.executable, "-W", "error", "-m", "tests.helpers.start_runner", json.dumps(settings)],
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        """All that it has said so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def template(self) -> int:
        """The pid of its template, once there is one."""
        return until(lambda: children(self.pid))[0]

    @property
    def templates(self) -> list[int]:
        """The pids of its templates that live, the oldest first."""
        return [pid for pid in children(self.pid) if is_alive(pid)]

    @property
    def workers(self) -> list[int]:
        """The pids of its workers at this moment, adopted orphans of theirs included."""
        return children(self.template)

    def until_ready(self) -> None:
        """Return when it listens."""
        until(lambda: " slots on " in self.stderr or not self.is_running)
        assert self.is_running, self.stderr

    def hang_up(self) -> None:
        """What an operator does after new code has come."""
        self._process.send_signal(signal.SIGHUP)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, seconds: float = SECONDS) -> int:
        """Its exit code; negative: the signal that it died of."""
        return self._process.wait(seconds)

    def stop(self) -> None:
        """End it in the way that an operator does, and see that it went well."""
        if self.is_running:
            self.terminate()
            assert self.wait() == 0, self.stderr
