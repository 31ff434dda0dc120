"""A consistent copy of the database while others work with it."""

import os
import secrets
import stat
from pathlib import Path

from jobrunner.database_file import check_file, sync_folder
from jobrunner.errands import copy
from jobrunner.errors import CannotCreate, UsageError

_OF_SQLITE = ("-wal", "-shm", "-journal")
_BESIDE = (*_OF_SQLITE, "-runners")
_NAME_MAX = 255
_LONGEST = _NAME_MAX - len("-runners")


def backup(path: Path, target: Path, *, replace: bool = False) -> int:
    """Copy the database to a private file, which is whole when it has its name; gives its size in bytes.

    UsageError where there is a file already and `replace` is not set, CannotCreate where none can be made.
    """
    check_file(path)
    _check_target(path, target, replace=replace)
    unfinished = target.with_name(f".jobrunner-{secrets.token_hex(8)}")  # however long the name
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        copy(path, unfinished)
        _put_in_place(unfinished, target, replace=replace)
    except OSError as error:
        raise CannotCreate(f"{target} cannot be made: {error.strerror}") from error
    finally:
        for ending in ("", *_OF_SQLITE):
            Path(f"{unfinished}{ending}").unlink(missing_ok=True)
    return target.stat().st_size


def _check_target(path: Path, target: Path, *, replace: bool) -> None:
    if target.name.endswith(_BESIDE):
        raise UsageError(f"{target} has the name of a file that belongs to a database: a copy needs another name")
    if len(os.fsencode(target.name)) > _LONGEST:
        raise UsageError(f"{target} has too long a name: with -runners behind it, it must fit into {_NAME_MAX} bytes")
    _check_nothing_beside(target)
    try:
        facts = target.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise CannotCreate(f"{target} cannot be made: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise UsageError(f"{target} is no file that a copy could replace")
    if os.path.samestat(facts, path.stat()):
        raise UsageError(f"{target} is the database itself: a copy of it needs another name")
    if not replace:
        raise UsageError(f"{target} is there already: name another file, or say --force to replace it")


def _check_nothing_beside(target: Path) -> None:
    # SQLite would take the log of what was there before for the copy's own, and show old rows, or mixed ones.
    for ending in _OF_SQLITE:
        beside = Path(f"{target}{ending}")
        if os.path.lexists(beside):
            raise UsageError(
                f"{beside} is there: a database {target.name} is open, or was left in the middle of its work, "
                "and its log would be taken for that of the copy: name another file"
            )


def _put_in_place(unfinished: Path, target: Path, *, replace: bool) -> None:
    descriptor = os.open(unfinished, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _check_nothing_beside(target)
    if replace or not _link(unfinished, target):
        unfinished.replace(target)
    sync_folder(target.parent)


def _link(unfinished: Path, target: Path) -> bool:
    """Unlike a renaming, this fails where somebody else was faster; without hard links, take the name: False."""
    try:
        os.link(unfinished, target)
    except FileExistsError:
        raise
    except OSError:  # FAT has none
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return False
    return True
