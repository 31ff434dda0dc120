"""`jobrunner run` as a process of its own, where its exit code and its last sentence are what counts."""

import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.helpers.processes import ROOT, environment
from tests.helpers.waiting import SECONDS, until


class CommandRunner:
    """It starts listening before it is given, and is killed with its `with` block if it still runs then."""

    def __init__(self, folder: Path, path: Path, *words: str) -> None:
        self._log = folder / "command-runner.log"  # never on the disk that is full
        command = [sys.executable, "-W", "error", "-m", "jobrunner", "--db", str(path), "run", "--app-dir", str(ROOT)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *words],
                cwd=folder,
                env=environment(folder, JOBRUNNER_DB=str(path)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(lambda: " slots on " in self.stderr or self.process.poll() is not None)

    @property
    def stderr(self) -> str:
        """All that it has said so far."""
        return self._log.read_text(errors="replace")

    def says(self, *sentences: str) -> None:
        """Return when it has said all of these."""
        until(lambda: all(one in self.stderr for one in sentences) or self.process.poll() is not None)
        assert all(one in self.stderr for one in sentences), self.stderr

    def ends(self, code: int, *sentences: str, seconds: float = SECONDS) -> None:
        """It ends within so many seconds, with this exit code, having said this."""
        assert self.process.wait(seconds) == code, self.stderr
        assert "Traceback" not in self.stderr, self.stderr
        assert all(one in self.stderr for one in sentences), self.stderr

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
