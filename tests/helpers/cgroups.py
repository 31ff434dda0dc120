"""A group of processes that may be no more than so many: what takes root, and a kernel that counts them."""

import contextlib
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

_PLACES = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))


class Group:
    """It starts empty and without a limit."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def add(self, pids: Iterable[int]) -> None:
        """Have these in it, and all that they start from now on."""
        for pid in pids:
            (self._place / "cgroup.procs").write_text(str(pid))

    def allow(self, more: int | None) -> None:
        """So many more than there are; None: as many as they like."""
        there = int((self._place / "pids.current").read_text())
        (self._place / "pids.max").write_text("max" if more is None else str(there + more))


@contextlib.contextmanager
def group_of_processes() -> Iterator[Group]:
    """A group, gone when its last process is."""
    for parent in _PLACES:
        place = parent / f"jobrunner-{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):
            place.mkdir()
            if (place / "pids.max").exists():
                break
            place.rmdir()
    else:
        pytest.skip("processes cannot be counted here: there is no cgroup of pids that may be written")
    try:
        yield Group(place)
    finally:
        (parent / "cgroup.procs").write_text("0")
        with contextlib.suppress(OSError):  # what a failed test left in it ends later
            place.rmdir()
