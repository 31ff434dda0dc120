"""Jobs that wait for others to end before they begin: held back at the enqueue, and let go or called off afterwards.

How a job ended does not matter here, nor who ended it, somebody with SQL included: what has ended and has dependents
is found by an index, and `settle` decides for each dependent.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from jobrunner import deadlock
from jobrunner.database import Database, Row
from jobrunner.errors import InvocationNotFound
from jobrunner.models import After
from jobrunner.status import Status
from jobrunner.times import now_ms

AT_ONCE = 1000
"""Dependencies that one transaction settles, about."""
_WHICH = "after job "
_ENDS = {
    Status.SUCCESS: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELLED: "was cancelled",
    Status.EXPIRED: "expired",
}


class Settled(NamedTuple):
    """How many jobs were let go, how many called off, and whether there is more to settle."""

    released: int
    cancelled: int
    more: bool


def attach(database: Database, invocation_id: int, after: str) -> None:
    """Inside the transaction that enqueued it: it depends on these; InvocationNotFound where one is not there."""
    edges: list[After] = [After(*edge) for edge in json.loads(after)]
    ids = sorted({edge.id for edge in edges})
    there = {row[0] for row in database.query("mark_awaited", ids=json.dumps(ids))}
    for one in ids:
        if one not in there or one >= invocation_id:  # itself has that number since a moment ago
            raise InvocationNotFound(one)
    database.change_many("put_dependency", [(edge.id, invocation_id, edge.kind) for edge in edges])


def settle(database: Database) -> Settled:
    """Inside a transaction: decide for the dependents of what has ended, and of what that calls off, and so on."""
    released = cancelled = settled = 0
    while rows := database.query("settling", limit=AT_ONCE):
        now = _settle(database, rows)
        released, cancelled = released + now.released, cancelled + now.cancelled
        settled += len(rows)
        if settled >= AT_ONCE:
            return Settled(released, cancelled, more=True)
    return Settled(released, cancelled, more=False)


def unfinished(database: Database, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Of each of these jobs those that it was to begin after, and that are not finished now: that one, and the job."""
    return database.query("unfinished_dependencies", ids=json.dumps(list(ids)))


def wait_again(database: Database, ids: Sequence[int]) -> None:
    """Inside the transaction that had them retried: those whose dependencies are not finished now wait anew.

    But not for one that waits for them, itself or through others: it has ended before, as it had to, and cannot end
    once more before they have.
    """
    names = json.dumps(list(ids))
    for on_id, one in database.query("unfinished_dependencies", ids=names):
        if not deadlock.depends(database, on_id, one):
            database.query("unsettle", on_id=on_id, id=one)
            database.query("mark_awaited", ids=json.dumps([on_id]))
    database.query("hold_back", ids=names, now=now_ms())


def of(database: Database, invocation_id: int) -> list[tuple[int, str, str]]:
    """What it was to wait for: the job, what had to come of it (success, any, failure), and its status now."""
    return database.query("dependencies", id=invocation_id)


def _settle(database: Database, rows: list[Row]) -> Settled:
    edges = [row for row in rows if row[1] is not None]
    met = Counter(edge[1] for edge in edges if _is_met(edge[2], edge[3]))
    failed = {edge[1]: _why(*edge) for edge in edges if not _is_met(edge[2], edge[3])}
    now = now_ms()
    database.change_many("meet", [(count, one) for one, count in met.items()])
    cancelled = database.change_many("call_off", [(why, now, one) for one, why in failed.items()])
    released = database.query("release", ids=json.dumps(list(met)), now=now)
    database.query("release_scheduled", ids=json.dumps(list(met)))
    database.change_many("settled", [(edge[0], edge[1]) for edge in edges])
    database.query("nobody_depends", ids=json.dumps([row[0] for row in rows if row[1] is None]))
    return Settled(len(released), len(cancelled), more=False)


def _is_met(kind: str, status: str) -> bool:
    return kind == "any" or (kind == "success") == (status == Status.SUCCESS)


def _why(on_id: int, _: int, __: str, status: str, reason: str | None) -> str:
    """The first of the chain, however far it is."""
    if status == Status.CANCELLED and reason is not None and reason.startswith(_WHICH):
        return reason
    return f"{_WHICH}{on_id}, which {_ENDS[Status(status)]}"
