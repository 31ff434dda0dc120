"""What is told to a runner that only starts: each signal comes in the middle of its imports."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobrunner import App
from jobrunner.status import Status
from tests.helpers.processes import environment
from tests.helpers.waiting import SECONDS, until
from tests.test_reload import AT_TERMINAL, IGNORING

# Python imports a module of this name when it starts.
SIGNAL_AT_IMPORT = """
import importlib.abc, os, sys

class SignalAt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["SIGNAL_AT"]:
            sys.meta_path.remove(self)
            {what}

sys.meta_path.insert(0, SignalAt())
"""
WAIT = """open("imports", "w").close()
            while not os.path.exists("go"):
                pass
"""
TELL_ITSELF = 'os.kill(os.getpid(), int(os.environ["SIGNAL"]))'
AS_A_COMMAND = ("-m", "jobrunner", "run", "--drain"), "typer"
AS_A_CALL = ("-c", "from jobrunner import App; print(App().run(drain=True))"), "jobrunner.runner.base_runner"
WAYS = pytest.mark.parametrize(("words", "module"), [AS_A_COMMAND, AS_A_CALL], ids=["command", "call"])


def start(
    folder: Path,
    words: tuple[str, ...],
    module: str,
    number: signal.Signals,
    through: tuple[str, ...] = (),
    what: str = TELL_ITSELF,
) -> subprocess.Popen[str]:
    """A runner that gets the signal when it imports the module."""
    (folder / "hook").mkdir(exist_ok=True)
    (folder / "hook" / "sitecustomize.py").write_text(SIGNAL_AT_IMPORT.format(what=what))
    inherited = environment(folder, SIGNAL=str(number.value), SIGNAL_AT=module)
    inherited["PYTHONPATH"] = f"{folder / 'hook'}:{inherited['PYTHONPATH']}"
    return subprocess.Popen(
        [*through, sys.executable, *words],
        cwd=folder,
        env=inherited,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@WAYS
def test_a_runner_that_is_told_of_new_code_while_it_starts_does_its_work(
    app: App, folder: Path, words: tuple[str, ...], module: str
) -> None:
    job = app.enqueue("tests.tasks:add", {"a": 1, "b": 2})
    started = start(folder, words, module, signal.SIGHUP)
    _, said = started.communicate(timeout=SECONDS)
    assert started.returncode == 0, said
    assert job.result() == 3


@WAYS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_runner_that_is_told_to_stop_while_it_starts_does_so(
    app: App, folder: Path, words: tuple[str, ...], module: str, number: signal.Signals
) -> None:
    job = app.enqueue("tests.tasks:add", {"a": 1, "b": 2})
    started = start(folder, tuple(word for word in words if word != "--drain"), module, number)
    _, said = started.communicate(timeout=SECONDS)
    assert started.returncode == 0, said
    assert "Traceback" not in said
    assert job.status is Status.PENDING


def test_a_terminal_that_is_closed_while_its_runner_starts_ends_it(folder: Path) -> None:
    ours, theirs = pty.openpty()
    through = (*AT_TERMINAL, os.ttyname(theirs))
    started = start(folder, ("-m", "jobrunner", "run"), "typer", signal.SIGHUP, through, WAIT)
    until((folder / "imports").exists)
    os.close(theirs)
    os.close(ours)
    (folder / "go").touch()
    _, said = started.communicate(timeout=SECONDS)
    assert (started.returncode, "stopped by a signal" in said) == (0, True), said


def test_where_hangups_are_ignored_they_are_not_kept_either(app: App, folder: Path) -> None:
    job = app.enqueue("tests.tasks:add", {"a": 1, "b": 2})
    started = start(folder, *AS_A_COMMAND, signal.SIGHUP, IGNORING)
    _, said = started.communicate(timeout=SECONDS)
    assert (started.returncode, "new code" in said, job.result()) == (0, False, 3), said


def test_what_no_runner_has_taken_goes_to_whoever_had_it_before(folder: Path) -> None:
    code = """
import signal
from jobrunner import App, UsageError
signal.signal(signal.SIGTERM, lambda *_: print("told"))
try:
    App().run(jobs=-1)
except UsageError:
    print("refused")
"""
    started = start(folder, ("-c", code), "jobrunner.runner.base_runner", signal.SIGTERM)
    assert started.communicate(timeout=SECONDS)[0].split() == ["told", "refused"]


@pytest.mark.parametrize("words", [("enqueue", "true"), ("list", "run"), ("--db", "run", "list")])
def test_other_commands_end_at_once(folder: Path, words: tuple[str, ...]) -> None:
    started = start(folder, ("-m", "jobrunner", *words), "typer", signal.SIGTERM)
    started.communicate(timeout=SECONDS)
    assert started.returncode == -signal.SIGTERM
