"""The command line as people use it: real processes, with pipes or a terminal at their ends."""

import contextlib
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.helpers import ready
from tests.helpers.processes import environment
from tests.helpers.waiting import SECONDS

HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07",
    "[bold]markup[/bold] [link=http://x]y[/link]",
    "quotes \" ' ` $(touch pwned) \\n",
    "'; DROP TABLE jr_invocation; --",
    "two\nlines\tand a tab\r",
    "nul\x00inside",
    "c1 \x9b31m bidi \u202e zero\u200bwidth",
    "Grüße, 世界 🎉",
)
"""Texts that must come out whole for programs and harmless for people."""

TASKS = """
import sys

def add(a, b=1):
    print("adding", a, b)
    return a + b

def echo(*args, **named):
    return [args, named]

def fail(text="bad"):
    raise ValueError(text)

def write(out="", err=""):
    sys.stdout.write(out); sys.stdout.flush()
    sys.stderr.write(err)
"""

Done = subprocess.CompletedProcess[str]


class Cli:
    """`jobrunner` in a folder that has a module `shop` with tasks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(TASKS)
        # Compiled once for all calls of a test run, as an installed program is.
        cache = Path(tempfile.gettempdir()) / f"jobrunner-tests-{os.getuid()}"
        self.environment = environment(folder, PYTHONPYCACHEPREFIX=str(cache))
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.environment.pop("NO_COLOR", None)

    def start(self, *words: str, stdin: Any = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """A call that is looked at while it runs."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self, *words: str, stdin: str = "", cwd: Path | None = None, variables: Mapping[str, str] = {}
    ) -> Done:
        """A call with pipes at its ends, over when it returns."""
        folder, environment, given = cwd or self.folder, {**self.environment, **variables}, stdin.encode()
        if len(given) < ready.MOST > len(str([words, environment])) and not variables:
            done = ready.call(words, folder, environment, given)
        else:
            done = self._apart(words, folder, environment, given)
        # Not text=True, which would take the carriage returns away.
        return Done(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def _apart(self, words: Sequence[str], folder: Path, environment: Mapping[str, str], given: bytes) -> Any:
        return subprocess.run(
            self.command(*words),
            cwd=folder,
            env=environment,
            input=given,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )

    def ok(self, *words: str, stdin: str = "", **variables: str) -> str:
        """What a call prints that goes well."""
        done = self(*words, stdin=stdin, variables=variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str, stdin: str = "") -> Any:
        """The objects that a call prints with --json; the object itself where it is only one."""
        found = self.parse(self.ok("--json", *words, stdin=stdin))
        return found[0] if len(found) == 1 else found

    @staticmethod
    def parse(printed: str) -> list[Any]:
        """The objects that a call with --json printed."""
        return [json.loads(line) for line in printed.splitlines()]

    def enqueue(self, *words: str, stdin: str = "") -> int:
        """The number of the job."""
        return int(self.ok("enqueue", *words, stdin=stdin))

    def drain(self, *words: str) -> None:
        """Do all that is due; a job may fail."""
        done = self("run", "--drain", "-q", "-j", "2", *words)
        assert done.returncode in {0, 1}, done

    def at_terminal(self, *words: str, columns: int = 100) -> str:
        """What a person sees: all that the call writes to a terminal."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        process = subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment | {"TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        with contextlib.closing(os.fdopen(ours, "rb", buffering=0)) as screen:
            seen = b"".join(iter(lambda: _read(screen.fileno()), b""))
        process.wait(SECONDS)
        return seen.decode().replace("\r\n", "\n")

    @staticmethod
    def command(*words: str) -> list[str]:
        """The words with the interpreter in front; warnings are errors."""
        return [sys.executable, "-W", "error", "-m", "jobrunner", *words]


def _read(screen: int) -> bytes:
    readable, _, _ = select.select([screen], [], [], SECONDS)
    assert readable, "nothing more came, and the call did not end"
    try:
        return os.read(screen, 65536)
    except OSError:  # the last one at the other end is gone
        return b""
