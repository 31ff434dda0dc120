"""Who keeps the write-ahead log from being used anew: processes that read an old state of the database."""

import os
from pathlib import Path
from typing import NamedTuple

from jobrunner.text import visible

_READ_LOCKS = range(123, 128)
"""The bytes of the `-shm` file that readers lock (SQLite's walIndex format)."""


class Reader(NamedTuple):
    """A process that is in the middle of a read."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({visible(self.name)})"


def readers(database: Path) -> set[Reader]:
    """Those other than this process; empty where the kernel lists no locks."""
    index = Path(f"{database}-shm")
    try:
        inode = index.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    pids = {pid for line in lines if (pid := _holder(line.split(), inode)) is not None and pid != os.getpid()}
    return {Reader(pid, _name(pid)) for pid in pids if _may_have_open(pid, index)}


def _holder(words: list[str], inode: int) -> int | None:
    # 1: POSIX  ADVISORY  READ 26814 fe:00:2179175 124 124; one that waits for a lock has an arrow behind its number
    if len(words) != 8 or not words[4].isdigit() or words[5].rpartition(":")[2] != str(inode):
        return None
    first, last = int(words[6]), _READ_LOCKS[-1] if words[7] == "EOF" else int(words[7])
    return int(words[4]) if first <= _READ_LOCKS[-1] and last >= _READ_LOCKS[0] else None


def _may_have_open(pid: int, file: Path) -> bool:
    """Inodes are numbered on each disk anew: the file must be open there, as far as that may be seen."""
    try:
        return any(entry.readlink() == file for entry in Path(f"/proc/{pid}/fd").iterdir())
    except PermissionError:
        return True
    except OSError:
        return False


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"
