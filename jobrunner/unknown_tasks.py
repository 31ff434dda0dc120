"""Jobs of tasks that no runner knew: they wait together, and when their moment has come one of them is tried for all.

The one that is tried is a job like any other, so whichever runner claims it says whether the task is known by now.
"""

from typing import NamedTuple

from jobrunner.database import Database
from jobrunner.models import Claimed, InvocationId
from jobrunner.status import STARTED, Status
from jobrunner.times import now_ms

FIRST_MS = 5000
LONGEST_MS = 600_000
"""When a task is tried again: later each time, and whenever a runner starts."""
SOON_MS = 200
"""When to look first what became of the one that is tried."""
KNOWN_MS = 10_000
"""What runs for so long is known: a worker that finds no such task says so at once."""
WHY = "no runner knows its task"
"""How the reason of a job that is put off begins."""
TASKS_AT_ONCE = 500
JOBS_AT_ONCE = 5000


class _Try(NamedTuple):
    """A task of a queue whose moment has come: the job that is tried, where it stands, and since when."""

    task: str
    queue: str
    probe: InvocationId | None
    status: str | None
    hold: int | None
    changed_at: int | None


def joined(database: Database, claimed: Claimed, now: int) -> None:
    """Inside the transaction that put it off: it waits with the others of its task."""
    database.query(
        "note_unknown",
        id=claimed.id,
        task=claimed.task,
        queue=claimed.queue,
        now=now,
        first=FIRST_MS,
        longest=LONGEST_MS,
    )
    database.query("wait_with_task", id=claimed.id, task=claimed.task, queue=claimed.queue)


def try_now(database: Database) -> None:
    """A runner starts, perhaps with newer code: of each task that no other knew one job is tried now."""
    while len(database.query("try_unknown_now", now=now_ms(), limit=TASKS_AT_ONCE)) == TASKS_AT_ONCE:
        pass


def look(database: Database) -> int:
    """Inside a transaction: try those whose moment has come, and let all go whose task is known; how many changed."""
    now = now_ms()
    tries = [_Try(*row) for row in database.query("unknown_due", now=now, limit=TASKS_AT_ONCE)]
    return sum(_look(database, one, now) for one in tries)


def _look(database: Database, one: _Try, now: int) -> int:
    if _is_known(one, now):
        return _let_go(database, one, now)
    if one.status not in (Status.PENDING, *STARTED):  # called off, say, or over a limit: it tells nothing
        return _try(database, one, now)
    waited = now - (now if one.changed_at is None else one.changed_at)
    _wait(database, one, now + min(LONGEST_MS, max(SOON_MS, waited)))
    return 0


def _is_known(one: _Try, now: int) -> bool:
    if one.status in STARTED:
        return one.changed_at is not None and now - one.changed_at >= KNOWN_MS
    # A retry that waits has begun before.
    return one.status in (Status.SUCCESS, Status.FAILED) or (one.status == Status.SCHEDULED and one.hold == 0)


def _let_go(database: Database, one: _Try, now: int) -> int:
    gone = database.query("let_go", task=one.task, queue=one.queue, now=now, limit=JOBS_AT_ONCE)
    if len(gone) < JOBS_AT_ONCE:
        database.query("is_known", task=one.task, queue=one.queue)
    return len(gone)


def _try(database: Database, one: _Try, now: int) -> int:
    tried = database.query("let_go", task=one.task, queue=one.queue, now=now, limit=1)
    if not tried:
        database.query("is_known", task=one.task, queue=one.queue)  # or nobody asks for it any more
        return 0
    _wait(database, one._replace(probe=tried[0][0]), now + SOON_MS)
    return 1


def _wait(database: Database, one: _Try, next_at: int) -> None:
    database.query("try_unknown", task=one.task, queue=one.queue, probe=one.probe, next_at=next_at)
