"""What is wrong with a database and its runners, and how it is mended: the checks of `jobrunner doctor`."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from jobrunner import mending, schedules, sql
from jobrunner.database import Database
from jobrunner.database_file import check_file, free_bytes, is_open_to_others
from jobrunner.direct_client import DirectClient
from jobrunner.errands import objects_of
from jobrunner.errors import DatabaseBroken, NoDatabase, NotAllowed, NotWritten, UsageError
from jobrunner.kernel import boot_id
from jobrunner.pulse import Life, pulses
from jobrunner.runner.log_readers import readers
from jobrunner.state_backend import queue_counts, runners
from jobrunner.times import now_ms, words

LARGE_LOG = 256 << 20
LITTLE_ROOM = 16 << 20
_MINUTE = 60_000
_BESIDE = ("", "-wal", "-shm", "-journal", "-runners")


class Finding(NamedTuple):
    """What a check found, and what to do; `mend` is what `--fix` does."""

    check: str
    level: Literal["ok", "warning", "fault"]
    text: str
    mend: Callable[[], None] | None = None


def examine(path: Path) -> list[Finding]:
    """All checks, one after the other; NoDatabase, ForeignDatabase where there is nothing to examine."""
    found = list(_modes(path))
    try:
        check_file(path)
    except NotAllowed as error:
        return found if any(one.level == "fault" for one in found) else [Finding("files", "fault", str(error))]
    try:
        with Database(path) as database:
            for check in (_integrity, _schema, _runners, _orphans, _queues, _tasks, _schedules, _stale, _clock):
                found += _guarded(check, database)
    except (DatabaseBroken, NotWritten) as error:
        found.append(Finding("integrity", "fault", f"{error}: take the last backup, or save what `.recover` reads"))
    return [*found, *_room(path)]


def _guarded(check: Callable[[Database], Iterator[Finding]], database: Database) -> list[Finding]:
    """Damage ends the check that meets it, and no other."""
    name = check.__name__.strip("_")
    try:
        return list(check(database)) or [Finding(name, "ok", "nothing is wrong")]
    except DatabaseBroken as error:
        return [Finding(name, "fault", str(error))]


def _modes(path: Path) -> Iterator[Finding]:
    is_there = False
    for one in [Path(f"{path}{ending}") for ending in _BESIDE]:
        try:
            mode = one.lstat().st_mode
        except FileNotFoundError:
            continue
        is_there |= one == path
        if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
            level: Literal["warning", "fault"] = "fault" if mode & (stat.S_IWGRP | stat.S_IWOTH) else "warning"
            text = f"{one} has the mode {stat.S_IMODE(mode):04o}, so others see or change jobs: chmod 600 {one}"
            yield Finding("files", level, text, partial(os.chmod, one, 0o600))
    if not is_there:
        raise NoDatabase(path)
    if is_open_to_others(path.parent):
        text = f"others may write into the folder {path.parent}, and put another database in place: chmod go-w"
        closed = stat.S_IMODE(path.parent.stat().st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH)
        yield Finding("files", "fault", text, partial(os.chmod, path.parent, closed))


def _integrity(database: Database) -> Iterator[Finding]:
    for (said,) in database.query("quick_check"):
        if said != "ok":
            yield Finding("integrity", "fault", f"{said}: take the last backup, or save what `.recover` reads")
    for table, row, parent in database.query("lost_references"):
        yield Finding("integrity", "fault", f"row {row} of {table} belongs to a row of {parent} that is not there")


def _schema(database: Database) -> Iterator[Finding]:
    there: dict[str, str] = dict(database.query("objects"))
    is_guest = not database.identity.is_ours_alone
    for name, text in objects_of(sql.schema()).items():
        if is_guest and (not name.startswith("jr_") or " ON jobs" in text):
            continue  # the application may have a table of this name
        if name not in there:
            yield Finding("schema", "fault", f"{name} is missing: copy it from schema.sql into the sqlite3 shell")
        elif there[name] != text:
            yield Finding("schema", "fault", f"{name} is not what schema.sql says: somebody has changed it")


def _runners(database: Database) -> Iterator[Finding]:
    known = [one for one in runners(database) if one.stopped_at is None]
    for number, seen in pulses(database.path, known).items():
        if seen.life is Life.DEAD:
            text = f"runner {number} has died, and nobody has taken over its jobs: the next runner will, or --fix"
            yield Finding("runners", "fault", text, partial(mending.rescue, database.path, number))
        elif seen.life is Life.STALLED:
            text = f"runner {number} does not answer ({seen.note}): `jobrunner runner stop {number} --kill`"
            yield Finding("runners", "warning", text)


def _orphans(database: Database) -> Iterator[Finding]:
    for runner, count in database.query("forsaken"):
        text = f"{count} jobs are said to run, but runner {runner} has stopped: --fix gives them back"
        yield Finding("orphans", "fault", text, partial(mending.give_back, database.path, runner))
    for kind, name in (("killed", "left_killed"), ("edges", "lost_edges"), ("waiters", "miscounted")):
        count = len(database.query(name))
        if count:
            text = f"{count} rows are not what they must be ({kind}): --fix puts them right"
            yield Finding("orphans", "fault", text, partial(mending.put_right, database.path))


def _queues(database: Database) -> Iterator[Finding]:
    served = [json.loads(one.queues) for one in DirectClient(database).runners()]
    for queue in queue_counts(database):
        if queue.pending and not any(not names or queue.queue in names for names in served):
            text = f"{queue.pending} jobs are pending in the queue {queue.queue!r}, and no runner serves it"
            yield Finding("queues", "warning", f"{text}: `jobrunner run` starts one")


def _tasks(database: Database) -> Iterator[Finding]:
    for task, count, why in database.query("unknown_tasks"):
        yield Finding("tasks", "warning", f"{count} jobs of {task} wait: {why}")


def _schedules(database: Database) -> Iterator[Finding]:
    for one in schedules.schedules(database):
        try:
            schedules.upcoming(one, 1)
        except UsageError as error:
            yield Finding("schedules", "fault", f"the schedule {one.plan.name} does not fire: {error}")


def _stale(database: Database) -> Iterator[Finding]:
    count = database.query("all_stale")[0][0]
    if count:
        text = f"{count} outcomes came too late, when their jobs had been given to others, and were dropped"
        yield Finding("stale", "warning", text)


def _clock(database: Database) -> Iterator[Finding]:
    for jumps, last in database.query("jumps", boot_id=boot_id()):
        way = "back" if last < 0 else "forward"
        text = (
            f"the wall clock was set {jumps} times since the machine started, the last time {way} by {words(abs(last))}"
        )
        yield Finding("clock", "warning", f"{text}: retries were moved along, and moments that people chose were not")
    count, latest = database.query("from_the_future", soon=now_ms() + _MINUTE)[0]
    if count:
        ahead = words(latest - now_ms())
        yield Finding("clock", "warning", f"{count} jobs have times up to {ahead} ahead: the clock was set back")


def _room(path: Path) -> Iterator[Finding]:
    log = Path(f"{path}-wal")
    size = log.stat().st_size if log.exists() else 0
    who = ", ".join(map(str, sorted(readers(path)))) or "nobody that can be seen from here"
    if size > LARGE_LOG:
        yield Finding("room", "warning", f"{log} has {size:,} bytes, and cannot shrink while it is read: by {who}")
    free = free_bytes(path)
    if free < LITTLE_ROOM:
        yield Finding("room", "warning", f"only {free:,} bytes are free beside {path}: runners start nothing")
    if size <= LARGE_LOG and free >= LITTLE_ROOM:
        yield Finding("room", "ok", f"{free >> 20:,} MiB are free, and the log has {size / 2**20:.1f} MiB")
