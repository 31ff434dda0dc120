"""Limits by key, of how many run and how many begin: who is let in. Whether there is room is judged by the claim.

A rate is a window that slides: those that begin are numbered and remembered for as long as they count, so that in no
period more begin than it says, whichever runners claim them. `queues` does the same for whole queues.
"""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobrunner.database import Database
from jobrunner.times import now_ms

LET_IN_AT_ONCE = 5000
"""How many of a key one transaction lets in, so that it stays short."""
_FORGET_AT_ONCE = 1000
_KEYS_AT_ONCE = 500
_LOOK_AGAIN_MS = 50
"""For keys whose jobs name different rates: nothing is looked at more often than so, where nothing could begin."""


class Limit(NamedTuple):
    """What holds for a job, and how much of it is used."""

    key: str
    size: int | None
    rate: int | None
    period: int | None
    places_taken: int
    let_in_at: int | None
    """When the clock lets more of the key begin, where some wait for that."""


def let_in(database: Database, keys: Iterable[str | None]) -> bool:
    """Inside a transaction: somebody has left a place of these limits, or has lost its turn to take one.

    Tells whether anybody was let in for whom a rate had to be asked.
    """
    rows = [(str(key), database.one("free_places", key=key)) for key in set(keys) - {None}]
    return sum(_let_in(database, key, *row) for key, row in rows if row is not None) > 0


def let_in_due(database: Database) -> None:
    """Inside a transaction: the clock may have made room for those that wait for a rate."""
    let_in(database, [row[0] for row in database.query("rates_due", now=now_ms(), limit=_KEYS_AT_ONCE)])


def began(database: Database, ids: Sequence[int], now: int) -> bool:
    """Inside the claim's transaction: these, which have a rate, begin now.

    Tells whether there is room for more, who were let in.
    """
    if not ids:
        return False
    names = json.dumps(ids)
    database.query("count_begun", ids=names, now=now)
    keys = {row[0] for row in database.query("put_begun", ids=names, now=now)}
    for key in keys:
        database.query("forget_begun", key=key, now=now, limit=_FORGET_AT_ONCE)
    database.query("forget_rates", now=now, limit=2 * len(keys))
    return let_in(database, keys)


def blocked(database: Database, ids: Sequence[int]) -> None:
    """Inside the claim's transaction, when all that begin have begun: these have a rate, and are over a limit."""
    now = now_ms()
    database.query("wait_for_rate", ids=json.dumps(ids), now=now, later=now + _LOOK_AGAIN_MS)


def of(database: Database, invocation_id: int) -> Limit | None:
    """What holds for a job; None where it has no key."""
    row = database.one("limits_of", id=invocation_id)
    return None if row is None else Limit(*row)


def _let_in(database: Database, key: str, places: int | None, rate: int | None, period: int | None) -> bool:
    if rate is None:
        if places is not None and places > 0:
            for queue in _queues(database, key):  # since not every queue has a runner
                database.query("unblock", key=key, queue=queue, limit=places, now=now_ms())
        return False
    now = now_ms()
    room, opens_at = database.one("rate_room", key=key, rate=rate, period=period, now=now) or (rate, None)
    free = room if places is None else min(places, room)
    later = opens_at if room <= 0 else now if free > LET_IN_AT_ONCE else None
    database.query("let_in_at", key=key, at=later)
    if free <= 0:
        return False
    queues = _queues(database, key)
    return sum(_unblock(database, key, queue, min(free, LET_IN_AT_ONCE), now) for queue in queues) > 0


def _queues(database: Database, key: str) -> list[str]:
    """Those in which somebody is blocked by the limit."""
    return [row[0] for row in database.query("blocked_queues", key=key)]


def _unblock(database: Database, key: str, queue: str, free: int, now: int) -> bool:
    """Those who are to be claimed before them anyway have their turns already: else one start would let in many."""
    limit = free - database.query("turns", key=key, queue=queue, limit=free)[0][0]
    return limit > 0 and database.change("unblock", key=key, queue=queue, limit=limit, now=now) > 0
