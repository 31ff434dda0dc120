"""The database as a file: made privately, and refused where others could write it.

Who can write the file can run code as the runner's user, so it is 0600 in a folder of 0700, and a
link or a file that a group or everybody may write is not opened.
"""

import os
import stat
from pathlib import Path

from jobrunner.errors import CannotCreate, NoDatabase, NotAllowed


def make_file(path: Path) -> bool:
    """Make an empty private file, and its folder where that is missing; False where the file was there already.

    Their names are on disk when it returns.
    """
    try:
        _make_folder(path.parent)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        if path.parent.is_dir():
            return False
        raise CannotCreate(f"{path} cannot be made: {path.parent} is no folder") from error
    except OSError as error:
        raise CannotCreate(f"{path} cannot be made: {error.strerror}") from error
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync_folder(path.parent)
    return True


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(path: Path) -> int:
    """How much more may be written where this file lies."""
    facts = os.statvfs(path.parent)
    return facts.f_bavail * facts.f_frsize


def descriptors_of(facts: os.stat_result) -> list[int]:
    """The descriptors by which this process has a file open; none where the system does not list them."""
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208 - of a folder that is no folder
    except OSError:
        return []
    return [number for number in numbers if _is_open_on(number, facts)]


def _is_open_on(descriptor: int, facts: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), facts)
    except OSError:  # the one that it took to look
        return False


def check_file(path: Path) -> None:
    """Refuse a database that is no regular file of its own, or that others may write."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        raise NoDatabase(path) from None
    except OSError as error:
        raise NotAllowed(f"{path} cannot be looked at: {error.strerror}") from error
    if stat.S_ISLNK(facts.st_mode):
        raise NotAllowed(f"{path} is a symbolic link: name the file itself, {path.resolve()}")
    if not stat.S_ISREG(facts.st_mode):
        raise NotAllowed(f"{path} is not a file")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotAllowed(f"{path} can be written by others, who could run code as you: chmod 600 {path}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise NotAllowed(f"{path} belongs to another user, or may not be written")
