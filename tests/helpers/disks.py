"""Small disks, and files that cannot be changed: what takes root and a kernel that lets it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.waiting import until


def _as_root(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"`{' '.join(command[:2])}` is not permitted here: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of this size, mounted in the folder."""
    place = folder / "disk"
    place.mkdir()
    _as_root("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0700", "none", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def resize(place: Path, kilobytes: int) -> None:
    """Make it larger or smaller."""
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(place)], check=True)


def fill(place: Path) -> Path:
    """Leave not a byte; gives the file that takes all of them."""
    filler = place / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError:
        return filler
    finally:
        os.close(descriptor)


@contextmanager
def immutable(file: Path) -> Iterator[None]:
    """A file that even root cannot write, while the block lasts."""
    _as_root("chattr", "+i", str(file))
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(file)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder mounted over itself, and read-only while the block lasts."""
    _as_root("mount", "--bind", str(folder), str(folder))
    try:
        _as_root("mount", "-o", "remount,bind,ro", str(folder))
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def failing_syncs(pid: int) -> Iterator[None]:
    """A process whose every fdatasync fails with EIO, while the block lasts."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing on this machine (apt install strace)")
    inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"]
    tracer = subprocess.Popen([*inject, "-p", str(pid)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: _tracer(pid) or tracer.poll() is not None)
        if tracer.poll() is not None:
            pytest.skip("strace may not be used on this machine")
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def _tracer(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("TracerPid:"))
