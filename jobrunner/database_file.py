"""The database as a file: made privately, and refused where others could write it.

Who can write the file can run code as the runner's user, so it is 0600 in a folder of 0700. A link, or a file that
somebody else may write, put in place or fill, is not opened; nor are such files beside it, which SQLite would read.
"""

import errno
import os
import shlex
import stat
from pathlib import Path

from jobrunner.errors import CannotCreate, NoDatabase, NotAllowed

_BESIDE = ("-wal", "-shm", "-journal", "-runners")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


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
    sync_folder(path.parent)
    return True


def _make_folder(folder: Path) -> None:
    # Not mkdir(parents=True): it makes the parents as the umask has it.
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in it on disk."""
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
    """Refuse a database that is not the user's own, or that others may write: NotAllowed says how to mend it.

    Root may look at, and put work into, a file of anybody; whether it does that work is for `check_root`.
    """
    facts = _look(path)
    if facts is None:
        raise NoDatabase(path)
    if stat.S_ISLNK(facts.st_mode):
        raise NotAllowed(f"{path} is a symbolic link: name the file itself, {path.resolve()}")
    _check(path, facts, {os.geteuid()} if os.geteuid() else {facts.st_uid})
    if not os.access(path, os.R_OK | os.W_OK):
        if facts.st_mode & stat.S_IRUSR and facts.st_mode & stat.S_IWUSR:
            raise NotAllowed(f"{path} may not be written: its file system is read-only, or the file is protected")
        raise NotAllowed(f"{path} may not be read and written: chmod u+rw {shlex.quote(str(path))}")
    _check_folder(path.parent)
    for ending in _BESIDE:
        beside = Path(f"{path}{ending}")
        found = _look(beside)
        if found is not None:
            # Of root, too: what it makes beside a file of others, SQLite gives to their owner a moment later.
            _check(beside, found, {facts.st_uid, 0})


def check_root(path: Path) -> None:
    """Where this is root: refuse a database that anybody else could have written. It would do as root what they say."""
    if os.geteuid() != 0:
        return
    folder = next(parent for parent in path.parents if parent.is_dir())
    for one, facts in ((path, _look(path)), (folder, folder.stat())):
        if facts is not None and facts.st_uid != 0:
            raise NotAllowed(
                f"{one} belongs to {_user(facts.st_uid)}, who could have root run anything: "
                "run as that user, or say --allow-root"
            )
    if _others_may_write(folder.stat()):
        raise NotAllowed(
            f"others may write into {folder}, and this is root: name a database elsewhere, or say --allow-root"
        )


def open_beside(path: Path, ending: str, flags: int) -> int:
    """A descriptor of a private file beside the database: the same rules, of what really was opened."""
    beside = Path(f"{path}{ending}")
    try:
        descriptor = os.open(beside, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAllowed(_is_link(beside)) from error
        raise
    try:
        owner = path.lstat()
        if os.geteuid() == 0 and flags & os.O_CREAT:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)  # as SQLite does: or its owner could not use it
        _check(beside, os.fstat(descriptor), {owner.st_uid, 0})
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotAllowed(f"{path} cannot be looked at: {error.strerror}") from error


def _check(path: Path, facts: os.stat_result, owners: set[int]) -> None:
    if stat.S_ISLNK(facts.st_mode):
        raise NotAllowed(_is_link(path))
    if not stat.S_ISREG(facts.st_mode):
        raise NotAllowed(f"{path} is not a file")
    if facts.st_uid not in owners:
        user = _user(facts.st_uid)
        raise NotAllowed(f"{path} belongs to {user}, who could run code as you: work as {user}, or name another file")
    if facts.st_mode & _OTHERS_WRITE:
        raise NotAllowed(
            f"{path} can be written by others, who could run code as you: chmod go-w {shlex.quote(str(path))}"
        )


def _is_link(path: Path) -> str:
    return f"{path} is a symbolic link, and must be a file of its own: rm {shlex.quote(str(path))}"


def is_open_to_others(folder: Path) -> bool:
    """Whether others could put a file of theirs in the place of one in it; in a sticky one, as /tmp, they cannot."""
    facts = folder.stat()
    return not facts.st_mode & stat.S_ISVTX and _others_may_write(facts)


def _check_folder(folder: Path) -> None:
    if is_open_to_others(folder):
        raise NotAllowed(
            f"others may write into the folder {folder}, and could put another database in place: "
            f"chmod go-w {shlex.quote(str(folder))}"
        )


def _others_may_write(facts: os.stat_result) -> bool:
    """Not where the group is one that only the owner is in: folders are made so on systems with a umask of 002."""
    bits = facts.st_mode & _OTHERS_WRITE
    return bool(bits) and not (bits == stat.S_IWGRP and _is_private_group(facts.st_uid, facts.st_gid))


def _is_private_group(owner: int, group: int) -> bool:
    import grp  # seldom needed
    import pwd

    try:
        user, members = pwd.getpwuid(owner), grp.getgrgid(group)
    except KeyError:
        return False
    is_own = user.pw_gid == group and members.gr_name == user.pw_name
    return is_own and set(members.gr_mem) <= {user.pw_name}


def _user(number: int) -> str:
    import pwd  # seldom needed

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
