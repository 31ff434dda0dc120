"""What a disk holds after its power was cut: rebuilt from all that SQLite wrote and synced, at random points.

Run as a program: SEED POINTS full|relaxed|deaf; prints what was found as JSON. `deaf` is a disk that ignores syncs: it
must be found out.
"""

import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import apsw

from jobrunner import broker, claims, orchestrator, state_backend
from jobrunner.database import Database
from jobrunner.errors import JobRunnerError
from jobrunner.models import Outcome, Request, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.policy import Policy

SECTOR = 512
STEPS = 60
BATCH = 7
MOST_JOBS = 50_000
RUNNER = RunnerId(1)


class Event(NamedTuple):
    """Something that was done to a file, or told: `told` names what was acknowledged."""

    verb: str
    file: str = ""
    offset: int = 0
    data: bytes = b""
    told: tuple[int, ...] = ()


class Recorder(apsw.VFS):
    """The usual files; what is written to those of one folder is recorded."""

    def __init__(self, folder: Path, events: list[Event]) -> None:
        self._folder = folder
        self._events = events
        super().__init__("recorder", "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None or Path(path).parent != self._folder:
            return super().xOpen(name, flags)
        return RecordedFile(name, flags, Path(path).name, self._events)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - apsw's name
        if Path(filename).parent == self._folder:
            self._events.append(Event("delete", Path(filename).name, int(syncdir)))
        super().xDelete(filename, syncdir)


class RecordedFile(apsw.VFSFile):
    """One of them."""

    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], short: str, events: list[Event]) -> None:
        self._short = short
        self._events = events
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        self._events.append(Event("write", self._short, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's name
        self._events.append(Event("truncate", self._short, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        self._events.append(Event("sync", self._short))
        super().xSync(flags)


def work(path: Path, dice: random.Random, events: list[Event], *, relaxed: bool, checkpoint_pages: int = 30) -> None:
    """Enqueue, claim and record, by the package's own functions; the log is copied into the database often."""
    Database(path, create=True, relaxed=relaxed).close()  # most work is done by those who find the file made
    with Database(path, relaxed=relaxed, checkpoint_pages=checkpoint_pages) as database:
        for _ in range(STEPS):
            chance = dice.random()
            if chance < 0.4:
                ids = broker.enqueue(database, [Request("a:b", args=json.dumps({"x": "y" * dice.randrange(2000)}))])
                events.append(Event("told", "job", told=tuple(ids)))
            elif chance < 0.6:
                ids = broker.enqueue(database, [Request("batch:b")] * BATCH)
                events.append(Event("told", "job", told=tuple(ids)))
            else:
                claimed = claims.claim(database, RUNNER, [], 3)
                ended = [Ended(one, Policy(), Outcome(json.dumps("z" * dice.randrange(500))), None) for one in claimed]
                with database.transaction():
                    orchestrator.record_all(database, ended, RUNNER)
                events.append(Event("told", "success", told=tuple(one.id for one in claimed)))


class Disk:
    """The files as they were synced, and what was written after."""

    def __init__(self) -> None:
        self.synced: dict[str, bytearray] = {}
        self._pending: dict[str, list[Event]] = {}

    def take(self, event: Event, *, deaf: bool) -> None:
        """What is done to a file; a deaf disk says that it has synced, and has not."""
        if event.verb in ("write", "truncate"):
            self._pending.setdefault(event.file, []).append(event)
        elif event.verb == "sync" and not deaf:
            content = self.synced.setdefault(event.file, bytearray())
            for one in self._pending.pop(event.file, []):
                _apply(content, one)
        elif event.verb == "delete":
            # The name is gone when the folder is synced; what the file held does not matter any more.
            self.synced.pop(event.file, None)
            self._pending.pop(event.file, None)

    def cut(self, folder: Path, dice: random.Random) -> None:
        """Write the files as they may be found: of what was not synced some sectors, some of them garbage."""
        for name in self.synced.keys() | self._pending.keys():
            content = bytearray(self.synced.get(name, b""))
            for event in self._pending.get(name, []):
                for sector in _sectors(event):
                    chance = dice.random()
                    if chance < 0.4:
                        _apply(content, sector)
                    elif chance < 0.6 and sector.verb == "write":
                        _apply(content, sector._replace(data=dice.randbytes(len(sector.data))))
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)


def _sectors(event: Event) -> list[Event]:
    if event.verb == "truncate":
        return [event]
    cuts = range(0, len(event.data), SECTOR)
    return [event._replace(offset=event.offset + cut, data=event.data[cut : cut + SECTOR]) for cut in cuts]


def _apply(content: bytearray, event: Event) -> None:
    if event.verb == "truncate":
        del content[event.offset :]
        return
    content.extend(bytes(max(0, event.offset - len(content))))
    content[event.offset : event.offset + len(event.data)] = event.data


def examine(folder: Path, told: Sequence[Event]) -> list[str]:
    """What is wrong with an image, as a person would find it who starts the machine again."""
    path = folder / "jobs.db"
    if not path.exists():
        return ["there is no database"] if told else []
    try:
        with Database(path) as database:
            checked = database.query("quick_check")
            jobs = {
                one: status for one, status, *_ in database.query("states", ids=json.dumps(list(range(1, MOST_JOBS))))
            }
            tasks = [state_backend.job(database, one).task for one in jobs]
    except JobRunnerError as error:
        return [f"it cannot be opened: {error}"]
    wrong = [] if checked == [("ok",)] else [f"damaged: {checked}"]
    for event in told:
        lost = [one for one in event.told if one not in jobs or (event.file == "success" and jobs[one] != "success")]
        wrong += [f"lost: {event.file} {lost}"] if lost else []
    if tasks.count("batch:b") % BATCH:
        wrong.append("half a batch")
    return wrong


def main() -> None:
    """Record, cut, examine."""
    seed, points, disk_kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    dice = random.Random(seed)
    events: list[Event] = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "place"
        place.mkdir(mode=0o700)
        recorder = Recorder(place, events)
        work(place / "jobs.db", dice, events, relaxed=disk_kind == "relaxed")
        recorder.unregister()
        wrong = [found for _ in range(points) for found in _try(Path(name), events, dice, disk_kind)]
    told = sum(len(event.told) for event in events)
    sys.stdout.write(json.dumps({"events": len(events), "told": told, "points": points, "wrong": wrong}) + "\n")


def _try(folder: Path, events: Sequence[Event], dice: random.Random, disk_kind: str) -> list[str]:
    at = dice.randrange(len(events) + 1)
    disk = Disk()
    for event in events[:at]:
        disk.take(event, deaf=disk_kind == "deaf")
    # A relaxed commit may be forgotten, and a whole batch with it; the rest holds.
    told = [event for event in events[:at] if event.verb == "told" and disk_kind != "relaxed"]
    with tempfile.TemporaryDirectory(dir=folder) as image:
        disk.cut(Path(image), dice)
        return [f"at {at}: {found}" for found in examine(Path(image), told)]


if __name__ == "__main__":
    main()
