"""The functions that the tests have done as jobs."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from jobrunner import App, Retry, current
from tests.helpers.trace import FOLDER_VARIABLE, Mark, append_mark
from tests.helpers.waiting import until

app = App()


def folder() -> Path:
    """Of the test that this job belongs to."""
    return Path(os.environ[FOLDER_VARIABLE])


def mark(event: str, pid: int | None = None) -> None:
    """Write down, where no database is needed to read it, that this happened."""
    here = current()
    append_mark(folder(), Mark(here.id, here.claim, pid or os.getpid(), event))


def note(name: str, text: str = "") -> None:
    """Make a file in the test's folder, all at once."""
    file = folder() / f".{name}"
    file.write_text(text)
    file.rename(folder() / name)


# Plain ones


@app.task
def touch() -> None:
    mark("S")


def square(n: int) -> int:
    mark("S")
    return n * n


def say(text: str) -> str:
    mark("S")
    sys.stdout.write(text)
    return text


async def square_later(n: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    mark("S")
    return n * n


def fail_until(attempt: int) -> int:
    mark("S")
    if current().attempt < attempt:
        raise RuntimeError(f"attempt {current().attempt}")
    return current().attempt


# Those that go on until something happens


def wait_for_ever() -> None:
    mark("S")
    threading.Event().wait()


def wait_for_file(name: str) -> str:
    mark("S")
    until((folder() / name).exists)
    mark("E")
    return name


def length(text: str) -> int:
    return len(text)


def echo(value: Any) -> Any:
    return value


def wait_at_first() -> int:
    """The first time it is claimed it goes on until it is killed."""
    mark("S")
    if current().claim == 1:
        threading.Event().wait()
    return current().claim


# Those that leave or kill processes


def kill_itself() -> None:
    mark("S")
    os.kill(os.getpid(), signal.SIGKILL)


def kill_template() -> None:
    mark("S")
    os.kill(os.getppid(), signal.SIGKILL)
    threading.Event().wait()


def start_family() -> None:
    """Deaf to TERM, and so are a child in its process group, one in a session of its own, and a daemon."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for apart in (False, True):
        mark("G", subprocess.Popen(["sleep", "1000"], start_new_session=apart).pid)
    mark("G", start_daemon())


def start_daemon() -> int:
    """Fork twice and leave the session, as daemons do; gives the daemon's pid."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
            threading.Event().wait()
        os._exit(0)
    os.wait()
    return int(os.read(reader, 20))


def family_at_first() -> int:
    """The first time it is claimed it starts its family and waits for ever."""
    if current().claim == 1:
        start_family()
    return wait_at_first()


def family_for_ever() -> None:
    start_family()
    wait_for_ever()


def leave_family() -> None:
    """It ends well, and leaves its family behind."""
    start_family()
    mark("S")


# Others


@app.task(retry=Retry(attempts=3, base="1ms", on=(ConnectionError,)))
def fail_as(kind: str) -> None:
    mark("S")
    raise {"ConnectionError": ConnectionResetError, "ValueError": ValueError}[kind](kind)


def use_much(megabytes: int, cpu_ms: int) -> int:
    held = bytearray(os.urandom(1 << 20) * megabytes)
    while time.process_time() * 1000 < cpu_ms:
        pass
    return len(held)
