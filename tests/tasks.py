"""The functions that the tests have done as jobs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from jobrunner import App, JobRunnerError, Retry, current
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


def leave_child(name: str) -> str:
    """When it may go on, it ends well, and leaves a child behind."""
    wait_for_file(name)
    mark("G", subprocess.Popen(["sleep", "1000"]).pid)
    return name


def leave_orphan(name: str) -> str:
    """The same with the child of one that has ended."""
    wait_for_file(name)
    mark("G", int(subprocess.check_output("sleep 1000 >&- & echo $!", shell=True)))
    return name


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


# Awkward ones: what users' code does to the process that it runs in


def use_multiprocessing(method: str) -> Any:
    import multiprocessing

    context: Any = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        squares = pool.map(double, range(5))
    queue = context.SimpleQueue()
    child = context.Process(target=put, args=(queue, 42))
    child.start()
    squares.append(queue.get())
    child.join()
    return squares


def double(n: int) -> int:
    return 2 * n


def put(queue: Any, value: int) -> None:
    queue.put(value)


def exit_at_once(code: int) -> None:
    os._exit(code)


def exit_politely(code: int) -> None:
    sys.exit(code)


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def recurse() -> None:
    recurse()


def close_everything() -> int:
    os.closerange(0, 1000)
    return 1


def print_much(megabytes: int) -> None:
    block = b"x" * 999_999 + b"\n"
    for _ in range(megabytes):
        os.write(1, block)


def print_for_ever() -> None:
    while True:
        sys.stdout.write("no newline ")


def print_bytes(numbers: list[int]) -> None:
    sys.stdout.flush()
    os.write(1, bytes(numbers))


def print_surrogate() -> None:
    sys.stdout.write("\ud800|")


def break_streams() -> int:
    sys.stdout.close()
    sys.stderr = None
    return 1


def give(what: str) -> Any:
    return AWKWARD[what]()


class Odd:
    def __repr__(self) -> str:
        raise ZeroDivisionError("no repr")


class OddError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError("no text")


HOLDS_ITSELF: list[Any] = []
HOLDS_ITSELF.append(HOLDS_ITSELF)
AWKWARD: dict[str, Any] = {
    "a set": lambda: {1, 2},
    "an object": Odd,
    "5 MB": lambda: "x" * 5_000_000,
    "NaN": lambda: float("nan"),
    "a lone surrogate": lambda: "\ud800",
    "too deep": lambda: json.loads("[" * 500 + "]" * 500),
    "a key that is no text": lambda: {(1, 2): 3},
    "itself": lambda: HOLDS_ITSELF,
}


def throw(what: str) -> None:
    raise ERRORS[what]


ERRORS: dict[str, BaseException] = {
    "odd": OddError("hidden"),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "surrogate": ValueError("\ud800 <b> \x1b[31m"),
    "large": ValueError("x" * 10_000_000),
    "group": ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
    "generator": GeneratorExit(),
}


def swallow_term() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    wait_for_ever()


def stop_itself() -> None:
    mark("S")
    os.kill(os.getpid(), signal.SIGSTOP)


def say_odd_progress(what: str) -> None:
    odd: dict[str, Any] = {"surrogate": "\ud800", "number": 12, "object": {"a": 1}, "large": "x" * 5_000_000}
    current().progress(0.5, odd[what])


def write_into_channel(text: str) -> None:
    """Every socket that the process has open gets these bytes."""
    for descriptor in range(3, 50):
        with contextlib.suppress(OSError):
            os.write(descriptor, text.encode("latin-1"))
    wait_for_ever()


def forked_child_returns() -> int:
    """A job that forks and forgets to end the child."""
    os.fork()
    return os.getpid()


def use_threads() -> int:
    results: list[int] = []
    threads = [threading.Thread(target=lambda n=n: results.append(n * current().id)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(results)


def leave_thread() -> int:
    threading.Thread(target=threading.Event().wait).start()
    return 1


def change_folder_and_environment() -> int:
    os.chdir("/")
    os.environ.clear()
    sys.path.clear()
    sys.modules.clear()
    return 1


async def fail_later() -> None:
    raise ValueError("later")


def many_descriptors() -> int:
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
    return len(held)


# As users declare them


@app.task
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@app.task(queue="mail", priority=7, unique="send:{user}", timeout="5m", label="a letter")
def send(user: int, *, account: str = "") -> str:
    return f"{user} {account}"


@app.task
async def send_later(user: int) -> str:
    return f"later {user}"


@app.task
def shapes(a: int, /, b: int, *more: int, c: int = 0, **named: int) -> list[Any]:
    return [a, b, list(more), c, named]


@app.task
def positional(a: int, b: int = 2, /) -> list[int]:
    return [a, b]


@app.task
def nothing() -> None:
    return None


@app.task(retry=Retry(attempts=2, base="1ms"))
def broken(text: str) -> None:
    raise LookupError(text)


@app.task
def parent(n: int) -> list[int]:
    """Enqueues from inside a job, and tells their numbers."""
    return [job.id for job in add.enqueue_many({"a": one} for one in range(n))]


@app.task
def ask_about(job: int) -> dict[str, Any]:
    """What a job can learn of another that is finished."""
    other = app.invocation(job)
    return {
        "status": other.status.value,
        "result": other.result(),
        "log": other.log(),
        "attempts": other.details.attempts,
        "counts": {status.value: count for status, count in app.counts().items() if count},
        "progress": other.progress and other.progress.message,
    }


@app.task
def ask_in_vain(job: int, what: str) -> str:
    """The error that a job meets when it asks for what is not there."""
    other = app.enqueue("a:b", hold=True) if what == "label" else None
    try:
        if what == "result":
            app.invocation(job).result()
        elif what == "surrogate":
            app.enqueue("a:b", label="\ud800")
        elif what == "too much":
            send.enqueue_many({"user": n, "account": "x" * 1_000_000} for n in range(70))
        elif what == "key":
            app.enqueue("a:b", unique="k", if_exists="error")
    except JobRunnerError as error:
        return f"{type(error).__name__}: {error}"
    return f"no error: {other}"


@app.task
def await_child(n: int) -> int:
    return add.enqueue(n, 1).result() + 1


@app.task
async def await_child_later(n: int) -> int:
    return await add.enqueue(n, 1).aresult() + 1


@app.task
def report() -> list[Any]:
    here = current()
    here.progress(0.25, "a quarter")
    here.progress(0.5)
    here.progress(message="half")
    return [here.id, here.attempt, here.claim]


@app.task
def report_and_wait() -> None:
    current().progress(0.4, "12/30")
    wait_for_file("go")


@app.task
def look_at_cancellation() -> str:
    """A polite job: it returns when somebody asks it to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mark("S")
    until(lambda: current().cancelled)
    return "stopped politely"


@app.task
def cancel_other(job: int) -> bool:
    return app.invocation(job).cancel()


# Of runners that hang


@app.task
def wait_for_file_at_first(name: str) -> str:
    """The first attempt waits for the file; later ones tell whether the processes that `look` names are gone."""
    seen = (folder() / "look").read_text().split() if current().claim > 1 and (folder() / "look").exists() else []
    said = " ".join("alive" if Path(f"/proc/{pid}").exists() and not _is_zombie(pid) else "gone" for pid in seen)
    mark("S")
    if current().claim == 1:
        until((folder() / name).exists)
    return said or str(current().claim)


def _is_zombie(pid: str) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"


@app.task
def enqueue_when_told(name: str) -> None:
    mark("S")
    until((folder() / name).exists)
    try:
        app.enqueue("a:b")
    except JobRunnerError as error:
        note("said", str(error))


@app.task
def wait(seconds: float) -> None:
    time.sleep(seconds)


def variable(name: str) -> str | None:
    return os.environ.get(name)
