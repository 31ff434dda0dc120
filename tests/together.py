"""Functions that the tests have done as jobs that have to do with one another: waiting, sharing places."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from jobrunner import JobRunnerError, WaitTimeout, current
from tests.helpers.trace import marks
from tests.helpers.waiting import until
from tests.tasks import app, folder, mark

# Those that wait for others


def nest(depth: int) -> int:
    """A chain: each waits for the next."""
    mark("S")
    return 0 if depth == 0 else 1 + int(app.enqueue("tests.together:nest", {"depth": depth - 1}).result())


def family(widths: list[int]) -> int:
    """A tree: each waits for `widths[0]` children, and so on; gives the number of leaves."""
    mark("S")
    if not widths:
        return 1
    children = [app.enqueue("tests.together:family", {"widths": widths[1:]}) for _ in range(widths[0])]
    return sum(child.result() for child in app.wait(children))


def wait_for(ids: list[int], timeout: float | None = None) -> list[Any]:
    """Wait for all, then give their results; E marks that it went on."""
    mark("S")
    jobs = app.wait(ids, timeout)
    mark("E")
    return [job.result() for job in jobs]


def times_stopped(ids: list[int] | None = None) -> int:
    """How often this process was told to go on, while it waited for these; for a short job where there are none."""
    told: list[int] = []
    signal.signal(signal.SIGCONT, lambda number, _: told.append(number))
    app.wait(ids or [app.enqueue("tests.tasks:square", {"n": 3})])
    return len(told)


def wait_for_one_that_is_nearly_done() -> None:
    """It is under way already, and ends a moment after this begins to wait."""
    name = f"go {current().id}"
    job = app.enqueue("tests.together:end_a_moment_after", {"name": name})
    until((folder() / f"begun {name}").exists)
    (folder() / name).touch()
    job.result()


def end_a_moment_after(name: str) -> None:
    """When the file is there, and 2 ms are over."""
    (folder() / f"begun {name}").touch()
    _look_for(name, 60.0)
    time.sleep(0.002)


def wait_in_short_turns(ids: list[int], seconds: float) -> int:
    """So long in all, a few milliseconds at a time; gives how often."""
    times, waited = 0, 0.0
    while waited < seconds:
        began = time.monotonic()
        with contextlib.suppress(WaitTimeout):
            app.wait(ids, timeout=0.004)
        times, waited = times + 1, waited + time.monotonic() - began
    return times


def turn_away(ids: list[int], then: list[int]) -> list[int]:
    """A signal makes it turn away from a wait, soon after it was paused; it asks for something else instead."""

    class Rings(Exception):
        pass

    def ring(*_: object) -> None:
        raise Rings

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.012)
    try:
        app.wait(ids)
    except Rings:
        (folder() / "rung").touch()
    return [job.id for job in app.wait(then)] if then else [app.enqueue("tests.tasks:square", {"n": 3}).id]


def last(name: str) -> None:
    """Until the file is there, or for a second."""
    _look_for(name, 1.0)


def _look_for(name: str, seconds: float) -> None:
    """Until the file is there, or for so long; it is seen sooner than by `until`."""
    until_over = time.monotonic() + seconds
    while time.monotonic() < until_over and not (folder() / name).exists():
        time.sleep(0.0002)


def wait_for_in_vain(ids: list[int], timeout: float | None = None) -> str:
    """The error that comes instead of the results."""
    try:
        return f"no error: {wait_for(ids, timeout)}"
    except JobRunnerError as error:
        return f"{type(error).__name__}: {error}"


def wait_at_second(ids: list[int]) -> list[Any]:
    """The first time it ends at once, from then on it waits for all."""
    return [] if current().claim == 1 else wait_for(ids)


def wait_when_let(ids: list[int]) -> str:
    """The same, from the moment on at which the file is there."""
    mark("L")
    until((folder() / "let").exists)
    return wait_for_in_vain(ids)


async def gather(ids: list[int]) -> list[Any]:
    mark("S")
    return await asyncio.gather(*(app.invocation(one).aresult() for one in ids))


def wait_at_first_for(ids: list[int]) -> int:
    """It waits for others the first time that it is claimed, and after that for nobody."""
    mark("S")
    if current().claim == 1:
        app.wait(ids)
    return current().claim


def wait_then_for_ever(id: int) -> None:
    app.wait([id])
    while True:
        threading.Event().wait(0.05)


def wait_deaf_to_term(ids: list[int]) -> None:
    """Only KILL ends it, in a process of its own."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: None)
    mark("S")
    app.wait(ids)


def catch_and_return(ids: list[int]) -> str:
    """A job that is told to stop while it waits, and ends with a result all the same."""
    import signal

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    mark("S")
    try:
        app.wait(ids)
    except BaseException as error:  # noqa: BLE001 - a stubborn job
        return type(error).__name__
    return "waited"


def wait_in_background(ids: list[int]) -> str:
    """One thread of the job waits for others; the job itself does not, and ends."""
    import contextvars

    here = contextvars.copy_context()
    threading.Thread(target=lambda: here.run(app.wait, ids), daemon=True).start()
    mark("S")
    until((folder() / "go").exists)
    return "done"


# Those that keep a place


def keep_place(key: str, name: str | None = None) -> int:
    """Keep it until the file is there, or for a moment; write down from when to when."""
    began = time.monotonic()
    mark("S")
    if name is None:
        threading.Event().wait(0.01)
    else:
        until((folder() / name).exists)
    line = f"{key} {began} {time.monotonic()}\n"
    descriptor = os.open(folder() / "places", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)
    return current().claim


@app.task(concurrency=1)
def alone(n: int = 0, name: str | None = None) -> int:
    keep_place("alone", name)
    return n


@app.task(concurrency=2)
def two(name: str | None = None) -> None:
    keep_place("two", name)


@app.task(concurrency=1, concurrency_key="{account}")
def by_account(account: str, n: int, name: str | None = None) -> int:
    keep_place(account, name)
    return n


@app.task(concurrency=3, concurrency_key="{account}", rate="50/s")
def at_a_rate(account: str) -> None:
    keep_place(account)


@app.task(concurrency=1, concurrency_key="{*}")
def by_everything(account: str, n: int, name: str | None = None) -> None:
    keep_place(f"{account}-{n}", name)


@app.task(concurrency=1, concurrency_key="press")
def on_the_press(name: str | None = None) -> None:
    keep_place("press", name)


@app.task(concurrency=1, concurrency_key="press")
def on_the_press_too(name: str | None = None) -> None:
    keep_place("press", name)


@app.task(concurrency=1)
def fail_alone(attempts: int) -> int:
    keep_place("fail")
    if current().attempt < attempts:
        raise RuntimeError("once more")
    return current().attempt


@app.task(concurrency=1, concurrency_key="press")
def press_and_wait(ids: list[int]) -> str:
    """It keeps the press while it waits for others."""
    return wait_for_in_vain(ids)


@app.task(concurrency=1, concurrency_key="ink")
def ink_and_wait(ids: list[int]) -> str:
    """It keeps the ink while it waits for others."""
    return wait_for_in_vain(ids)


@app.task(concurrency=1, concurrency_key="ink")
def use_ink() -> str:
    mark("S")
    return "ink"


# Those that share a process


def where(name: str | None = None) -> list[int]:
    """The process and thread that did it, once the file is there."""
    mark("S")
    if name is not None:
        until((folder() / name).exists)
    return [os.getpid(), threading.get_ident()]


def say_in_many_ways(word: str, times: int) -> None:
    import logging

    # As in real life: configured by the first that comes, in a process that all share.
    logging.basicConfig(level=logging.INFO, format="log:%(message)s")
    for n in range(times):
        print(f"print:{word}:{n}")  # noqa: T201 - it is what most people use
        logging.getLogger("shop").info("%s:%d", word, n)
        sys.stdout.buffer.write(f"bytes:{word}:{n}\n".encode())
        sys.stdout.buffer.flush()
        sys.stderr.write(f"error:{word}:{n}\n")
        if n % 10 == 0:
            threading.Event().wait(0.001)


def write_bytes(numbers: list[list[int]]) -> None:
    for some in numbers:
        sys.stdout.buffer.write(bytes(some))


def print_long(characters: int) -> None:
    print("é" * characters)  # noqa: T201


def deaf(name: str | None = None) -> str:
    """It hears nothing of exceptions that are raised in its thread: it is inside C code."""
    mark("S")
    ctypes.CDLL(None).sleep(1000) if name is None else until((folder() / name).exists)
    return "heard"


def polite(name: str | None = None) -> str:
    """It can be interrupted at any moment, and tidies up."""
    mark("S")
    try:
        while name is None or not (folder() / name).exists():
            threading.Event().wait(0.01)
    finally:
        mark("T")
    return "done"


def ask_while_interrupted() -> list[Any]:
    """Asks its runner again and again, also after it was told to stop: every answer must belong to its question."""
    mark("S")
    wrong: list[Any] = []

    def ask(times: int) -> None:
        for n in range(times):
            got = current().cache.setdefault(f"{current().id}-{n}", n)
            if got != n:
                wrong.append((n, got))

    with contextlib.suppress(BaseException):
        ask(10_000_000)
    ask(50)
    return wrong


def ask_without_waiting() -> None:
    """Ask the runner for something, and go on without the answer."""
    mark("S")
    until((folder() / "go").exists)
    link = current().link
    assert link is not None
    link.send("ask", "cache", ["add", "count", 1])
    mark("A")
    threading.Event().wait()


def ask_and_end() -> None:
    """Ask the runner for something, and end without the answer, as a thread does that its job does not wait for."""
    link = current().link
    assert link is not None
    link.send("ask", "cache", ["add", "count", 1])
    link.send("ask", "states", [[current().id]])


def exit_with_neighbours(neighbours: int) -> None:
    """End the whole process, once it has neighbours, or after its last chance is given to it alone."""
    mark("X")
    if current().claim < 3:
        until(lambda: len(marks(folder())) >= current().claim * neighbours)
    os._exit(7)


def fork_and_return() -> int:
    """A job that forks and forgets to end the child; gives the pid of the parent."""
    parent = os.getpid()
    child = os.fork()
    if child:
        mark("F", child)
    return parent


def grow(megabytes: int) -> int:
    KEPT.append(bytearray(os.urandom(1 << 20) * megabytes))
    return os.getpid()


KEPT: list[bytearray] = []


def tell_folder_and_environment() -> list[str | None]:
    return [str(Path.cwd()), os.environ.get("COLOUR"), os.environ.get("JOBRUNNER_JOB")]


# The cache


def count_in_cache(times: int) -> int:
    return max(int(current().cache.add("count")) for _ in range(times))


def use_cache() -> list[Any]:
    cache = current().cache
    cache["list"] = [1, "é", None, {"a": True}]
    return [
        cache["list"],
        cache.get("nothing"),
        cache.get("nothing", 3),
        cache.setdefault("first", "mine"),
        cache.setdefault("first", "yours"),
        cache.add("sum", 2),
        cache.add("sum", 0.5),
        cache.delete("sum"),
        cache.delete("sum"),
    ]


def misuse_cache(what: str) -> str:
    cache = current().cache
    try:
        if what == "missing":
            return str(cache["missing"])
        if what == "object":
            cache["object"] = {1, 2}
        elif what == "text":
            cache["text"] = "x"
            cache.add("text")
        elif what == "amount":
            cache.add("amount", "x")  # type: ignore[arg-type]
        elif what == "name":
            cache.set(7, 7)  # type: ignore[arg-type]
        elif what == "large":
            cache["large"] = "x" * 2_000_000
        elif what == "many":
            for n in range(20_000):
                cache[f"{n}"] = n
    except (JobRunnerError, KeyError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def _status(pid: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


def _siblings() -> dict[int, tuple[str, bool]]:
    """The processes of this runner: the state of each, and whether it was forked ahead and has not begun."""
    template = os.getppid()
    found = {}
    for pid in Path(f"/proc/{template}/task/{template}/children").read_text().split():
        with contextlib.suppress(OSError):
            told = _status(pid)
            found[int(pid)] = told["State"][0], bool(int(told.get("SigBlk", "0"), 16) >> signal.SIGTERM - 1 & 1)
    return found


def neighbours() -> int:
    """How many processes of this runner work just now, this one among them: not those that wait for others."""
    # Who works at both looks did so between them, all at once; one that has begun while the first was taken need not.
    working = _who_works() & _who_works()
    waiters = {one.pid for one in marks(folder())}  # after them: who only now begins to wait is none of those that work
    return len({os.getpid()} | working - waiters)  # the list of children may lack some while others end


def _who_works() -> set[int]:
    return {pid for pid, (state, is_ahead) in _siblings().items() if state not in "TZX" and not is_ahead}


def kill_who_has_not_begun(number: int) -> list[list[int]]:
    """Send a signal that ends them to those that were forked ahead; gives them, and who of them has begun instead."""
    template = os.getppid()
    os.kill(template, signal.SIGSTOP)  # who tells them to begin
    try:
        until(lambda: _status(str(template))["State"][0] == "T")
        idle = [pid for pid, (state, is_ahead) in _siblings().items() if state == "S" and is_ahead]
        for pid in idle:
            os.kill(pid, number)
        until(lambda: all(_status(str(pid))["State"][0] in "ZX" for pid in idle))
    finally:
        os.kill(template, signal.SIGCONT)
    return [idle, sorted({*idle} & {one.pid for one in marks(folder())})]


def what_it_finds() -> list[Any]:
    """Which signals are blocked, whose environment it is, whether it leads a session, and how it is linked."""
    blocked = sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    is_its_own = os.environ["JOBRUNNER_JOB"] == str(current().id)
    return [blocked, is_its_own, os.getsid(0) == os.getpid(), os.environ.get("LD_BIND_NOW")]


def count_channels(text: str = "") -> int:
    """How many sockets and pipes this process has open."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that it takes to look
            names.append(str(descriptor.readlink()))
    return sum(name.startswith(("socket:", "pipe:")) for name in names)


_connected: list[socket.socket] = []


def connect_in_the_place_of_everything(path: str, count: int) -> None:
    """Close all descriptors but the first three, and open sockets with their numbers."""
    os.closerange(3, 1000)
    for _ in range(count):
        _connected.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        _connected[-1].connect(path)


_at_work: list[int] = []


def count_at_work() -> int:
    """How many jobs of this process are at it at a time."""
    _at_work.append(current().id)
    threading.Event().wait(0.0005)
    count = len(_at_work)
    _at_work.remove(current().id)
    return count


def nothing() -> None:
    """As short as can be."""


def enqueue_after_itself() -> None:
    app.enqueue("tests.tasks:touch", after=current().id)


def enqueue_after_itself_and_wait(limit: int | None) -> None:
    app.enqueue("tests.tasks:touch", after=current().id, concurrency=limit).result()


def add_to_batch(name: str, depth: int) -> None:
    for _ in range(2 if depth else 0):
        app.enqueue("tests.together:add_to_batch", {"name": name, "depth": depth - 1}, batch=name)


def enqueue_in_a_burst(option: str) -> list[int]:
    """Three times the same key; gives the numbers that it was told."""
    window: Any = {option: "1h"}
    return [app.enqueue("tests.tasks:square", {"n": n}, unique=f"from a job {option}", **window).id for n in range(3)]
