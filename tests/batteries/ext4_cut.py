"""A real filesystem that is shut down in the middle of work: ext4 in a file, its journal not written out.

Run as a program: SEED ROUNDS full|relaxed|liar FOLDER, as root; prints what was found as JSON. A liar commits relaxed
and tells as if it had not: it must be found out. With `work` in the place of SEED it is the one that works, and tells
line by line what it was told, and when.

What is told after the cut does not count: a sync that the kernel was in then may end as if it had been done (the
transaction that it waits for is gone, and taken for committed); a machine without power would tell nobody anything.
"""

import fcntl
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobrunner.errors import JobRunnerError
from tests.batteries.power_cut import Event, examine, work

EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/fs/ext4/ext4.h
WITHOUT_THE_JOURNAL = 2
MEGABYTES = 64


class Teller(list[Event]):
    """Tells what was acknowledged at once, on standard output, and keeps nothing."""

    def append(self, event: Event) -> None:
        if event.verb == "told":
            sys.stdout.write(json.dumps([time.monotonic(), event.file, *event.told]) + "\n")
            sys.stdout.flush()


def work_on(path: Path, seed: int, kind: str) -> None:
    """Until the disk is gone."""
    dice = random.Random(seed)
    try:
        while True:
            work(path, dice, Teller(), relaxed=kind != "full", checkpoint_pages=10_000 if kind == "liar" else 30)
    except (JobRunnerError, OSError) as error:
        sys.stdout.write(json.dumps([time.monotonic(), "ended", str(error)]) + "\n")
        sys.stdout.flush()
        os._exit(0)  # what is open cannot be closed any more


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[None]:
    """The filesystem, its journal replayed."""
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def cut_power(place: Path) -> None:
    """From now on nothing is read or written there; what was only in memory is gone."""
    folder = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_THE_JOURNAL))
    finally:
        os.close(folder)


def try_once(folder: Path, dice: random.Random, kind: str) -> tuple[int, list[str]]:
    """How much was told before the cut, and what is wrong after it."""
    image, place = folder / "image", folder / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(MEGABYTES << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with mounted(image, place):
        (place / "jobs").mkdir(mode=0o700)
        words = ["work", str(dice.randrange(1 << 30)), kind, str(place / "jobs" / "jobs.db")]
        worker = subprocess.Popen([sys.executable, "-m", "tests.batteries.ext4_cut", *words], stdout=subprocess.PIPE)
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(dice.uniform(0.0, 0.4))
        cut_at = time.monotonic()
        cut_power(place)
        said = [json.loads(line) for line in worker.communicate(timeout=60)[0].splitlines()]
    assert said[-1][1] == "ended", f"it worked on without a disk: {said[-1]}"
    before = [(verb, ids) for at, verb, *ids in said[:-1] if at < cut_at]
    told = [Event("told", verb, told=tuple(ids)) for verb, ids in before if kind != "relaxed"]
    with mounted(image, place):
        wrong = examine(place / "jobs", told)
    return sum(len(ids) for _, ids in before), wrong


def main() -> None:
    """Work, or cut the power again and again."""
    first, second, kind, where = sys.argv[1:]
    if first == "work":
        work_on(Path(where), int(second), kind)
    dice = random.Random(int(first))
    tried = []
    for _ in range(int(second)):
        with tempfile.TemporaryDirectory(dir=where) as folder:
            tried.append(try_once(Path(folder), dice, kind))
    wrong = [found for _, all_found in tried for found in all_found]
    sys.stdout.write(json.dumps({"told": sum(told for told, _ in tried), "rounds": len(tried), "wrong": wrong}) + "\n")


if __name__ == "__main__":
    main()
