"""The functions that the tests have done as jobs."""

import os
import sys
import threading
from pathlib import Path
from typing import Any

from jobrunner import App, current
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
