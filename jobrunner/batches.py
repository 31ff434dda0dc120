"""Batches: jobs that are looked at as one, counted as they end, with jobs to follow when all have.

Who ended a member and how does not matter here: what has ended and is not counted is found by an index.
"""

import json
from collections import Counter
from typing import NamedTuple

from jobrunner import broker
from jobrunner.arrangements import Batch
from jobrunner.database import Database
from jobrunner.errors import BatchNotFound, InvocationNotFound, UniqueKeyTaken, UsageError
from jobrunner.models import InvocationId, Request
from jobrunner.status import Status
from jobrunner.times import now_ms

AT_ONCE = 1000
"""Members that one transaction counts."""


class Callbacks(NamedTuple):
    """What is enqueued when all members have ended: well, with a failure among them, and in any case."""

    on_success: Request | None = None
    on_failure: Request | None = None
    on_complete: Request | None = None


class Counted(NamedTuple):
    """How many members were counted, how many batches completed, what could not follow, and whether there is more."""

    members: int
    completed: int
    more: bool
    left_out: list[str]


def make(database: Database, name: str, callbacks: Callbacks, *, is_open: bool) -> int:
    """The unfinished batch of this name, or a new one, with these callbacks; an open one cannot complete."""
    if any(one is not None and (one.run_at or one.expires_at) for one in callbacks):
        raise UsageError("what follows a batch comes when the batch is complete: no delay, time or expiry beside it")
    with database.transaction():
        said = [None if one is None else json.dumps(one) for one in callbacks]
        database.query(
            "make_batch",
            batch=name,
            now=now_ms(),
            open=is_open,
            on_success=said[0],
            on_failure=said[1],
            on_complete=said[2],
        )
        return find(database, name).id


def close(database: Database, batch_id: int) -> None:
    """Nothing more comes from who made it: it completes when its members have ended, at once where there is none."""
    with database.transaction():
        database.query("close_batch", id=batch_id)
        count(database)


def find(database: Database, name: str) -> Batch:
    """The unfinished one of this name, else the newest; BatchNotFound where there is none."""
    row = database.one("batch", batch=name)
    if row is None:
        raise BatchNotFound(name)
    return Batch(*row)


def by_number(database: Database, batch_id: int) -> Batch:
    """One that is known to be there."""
    return Batch(*database.query("batch_of_number", id=batch_id)[0])


def batches(database: Database, limit: int = 1000) -> list[Batch]:
    """The newest first."""
    return [Batch(*row) for row in database.query("batches", limit=limit)]


def members(database: Database, batch_id: int, *, unfinished_only: bool = False) -> list[InvocationId]:
    """Their numbers, in order."""
    return [row[0] for row in database.query("members", id=batch_id, unfinished=unfinished_only)]


def cancel(database: Database, batch_id: int) -> list[InvocationId]:
    """Call off what of it has not ended; gives the numbers."""
    with database.transaction():
        ids = members(database, batch_id, unfinished_only=True)
        cancelled = broker.cancel(database, ids, reason="cancelled with its batch")
        while count(database).more:
            pass
    return cancelled


def retry(database: Database, batch_id: int) -> list[InvocationId]:
    """Have those of it done again that did not succeed: it is not complete any more; gives the numbers."""
    ids = [row[0] for row in database.query("unhappy_members", id=batch_id)]
    return broker.retry(database, ids, reason="retried with its batch")


def count(database: Database) -> Counted:
    """Inside a transaction: count what has ended, and complete the batches whose members all have."""
    rows = database.query("uncounted", limit=AT_ONCE)
    if rows:
        done = Counter(batch for _, batch, status in rows if status == Status.SUCCESS)
        failed = Counter(batch for _, batch, status in rows if status != Status.SUCCESS)
        database.query("counted", ids=json.dumps([row[0] for row in rows]))
        database.change_many("count_members", [(done[one], failed[one], one) for one in done | failed])
    completed = [Batch(*row) for row in database.query("complete", now=now_ms())]
    left_out = [why for one in completed for why in _follow(database, one)]
    return Counted(len(rows), len(completed), len(rows) == AT_ONCE, left_out)


def _follow(database: Database, one: Batch) -> list[str]:
    """Gives what cannot be enqueued any more, with why: it must not keep others from being done."""
    ways = (one.on_complete, one.on_failure if one.failed else one.on_success)
    left_out = [why for said in ways if said is not None and (why := _enqueue(database, said)) is not None]
    if left_out:
        database.query("remark_on_batch", id=one.id, remark="; ".join(left_out))
    return [f"batch {one.name}: {why}" for why in left_out]


def _enqueue(database: Database, said: str) -> str | None:
    what = said[:100]
    try:
        request = Request(*json.loads(said))
        what = request.task
        with database.transaction():
            broker.enqueue(database, [request])
    except (UniqueKeyTaken, InvocationNotFound, UsageError, ValueError, TypeError) as error:
        return f"{what} could not follow: {error}"
    return None
