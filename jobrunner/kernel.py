"""What the kernel offers beyond the standard library, and what stands in for it where it is missing."""

import contextlib
import ctypes
import os
import struct
import sys
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IN_MODIFY = 0x2
_IN_CLOSE_NOWRITE = 0x10
_EVENT = struct.Struct("iIII")
_EVENTS = 256 * _EVENT.size
_IN_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC

is_linux = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True)
# Nobody asks for the errno of this one, which each worker would have to copy.
_prctl = ctypes.CDLL(None).prctl if is_linux else None


def die_with_parent(signal_number: int, parent: int) -> bool:
    """Have this process get the signal when its parent ends; False where the parent has ended already."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    return os.getppid() == parent


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends (a child subreaper)."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> list[int]:
    """The pids of this one-threaded process's children, adopted ones too; empty where the kernel tells none."""
    listed = b""
    try:
        descriptor = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)  # open() would take twice as long
        try:
            while piece := os.read(descriptor, 65536):
                listed += piece
        finally:
            os.close(descriptor)
    except OSError:
        return []
    return list(map(int, listed.split()))


def open_descriptors() -> set[str]:
    """The names of this process's open descriptors, and of the one that it takes to look."""
    try:
        return set(os.listdir("/dev/fd"))
    except OSError:
        return set()


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty where it is gone or not ours to see."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            block = file.read()
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in block.decode("utf-8", "surrogateescape").split("\0"))
    return {name: value for name, _, value in pairs}


class OwnEnvironment:
    """A variable of this process's environment that can be rewritten in place.

    What /proc/PID/environ shows of a forked process is the memory that its ancestor was started with;
    os.environ changes a copy. So a fork that is to be told from its siblings finds that memory written over, with a
    value as long as the old one.
    """

    def __init__(self, name: str) -> None:
        value = os.environ[name].encode()
        self.memory = memoryview(bytearray(value))
        """What others see of this process, and of what it forks from now on; os.environ is another thing."""
        if is_linux:
            _libc.getenv.restype = ctypes.c_void_p
            address = _libc.getenv(name.encode())
            self.memory = memoryview((ctypes.c_char * len(value)).from_address(address)).cast("B")

    def rewrite(self, value: str) -> None:
        """Set it; ValueError where the length is another."""
        self.memory[:] = value.encode()


class FileChanges(NamedTuple):
    """What happened to a watched file: whether it was written; whether then it was opened to be read, and closed."""

    written: bool
    touched: bool


_idle_watchers: list[int] = []
_watches: dict[int, int] = {}
_of_process: list[int] = []


def watch_changes(path: os.PathLike[str]) -> int | None:
    """A descriptor that gets readable when the file is changed; None where there is no inotify, or no watch left."""
    if not is_linux:
        return None
    if _of_process != [os.getpid()]:
        # A child shares its parent's watchers, and would take events away from it.
        _idle_watchers.clear()
        _of_process[:] = [os.getpid()]
    try:
        descriptor = _idle_watchers.pop()
    except IndexError:
        descriptor = int(_libc.inotify_init1(_IN_FLAGS))
    if descriptor < 0:
        return None
    watch = _libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY | _IN_CLOSE_NOWRITE)
    if watch < 0:
        os.close(descriptor)
        return None
    _watches[descriptor] = watch
    return descriptor


def file_changes(descriptor: int) -> FileChanges:
    """What `watch_changes` has seen since this was last asked."""
    last = 0
    written = False
    with contextlib.suppress(BlockingIOError):
        is_full = True
        while is_full:
            events = os.read(descriptor, _EVENTS)
            is_full = len(events) == _EVENTS
            for _, last, _, _ in _EVENT.iter_unpack(events):  # of a file, not of a folder: no names between them
                written |= last != _IN_CLOSE_NOWRITE
    return FileChanges(written, last == _IN_CLOSE_NOWRITE)


def stop_watching(descriptor: int) -> None:
    """Give back what `watch_changes` gave. It is kept for the next use: closing one blocks for some 10 ms."""
    _libc.inotify_rm_watch(descriptor, _watches.pop(descriptor))
    file_changes(descriptor)
    _idle_watchers.append(descriptor)


def boot_id() -> str:
    """A name of the time since the machine started; empty where the kernel has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""
