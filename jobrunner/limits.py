"""Limits by key, of how many run and how many begin: who is let in. Whether there is room is judged by the claim.

A rate is a window that slides: those that begin are numbered and remembered for as long as they count, so that in no
period more begin than it says, whichever runners claim them. `queues` does the same for whole queues. Jobs of one key
may say different things of its limit: then each keeps to what it says itself, and all of the key count for it.
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


Terms = tuple[int | None, int | None, int | None]
"""Size, rate and period."""


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

    Tells whether anybody was let in.
    """
    return sum(_let_in(database, str(key)) for key in set(keys) - {None}) > 0


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


def mixed(rows: Iterable[tuple[str | None, Terms]]) -> set[str]:
    """The keys whose jobs differ in what they say of the limit."""
    said: dict[str, Terms] = {}
    return {key for key, terms in rows if key is not None and said.setdefault(key, terms) != terms}


def blocked(database: Database, ids: Sequence[int]) -> None:
    """Inside the claim's transaction, when all that begin have begun: these have a rate, and are over a limit."""
    now = now_ms()
    database.query("wait_for_rate", ids=json.dumps(ids), now=now, later=now + _LOOK_AGAIN_MS)


def of(database: Database, invocation_id: int) -> Limit | None:
    """What holds for a job; None where it has no key."""
    row = database.one("limits_of", id=invocation_id)
    return None if row is None else Limit(*row)


def _let_in(database: Database, key: str) -> bool:
    """By each of the terms that those name who are blocked, for themselves."""
    now = now_ms()
    some = is_rated = False
    moments: list[int] = []
    for terms, places, rate, period in database.query("blocked_terms", key=key):
        free = places or 0
        if rate is not None:
            room, opens_at = database.one("rate_room", key=key, rate=rate, period=period, now=now) or (rate, None)
            free = room if places is None else min(places, room)
            later = opens_at if room <= 0 else now if free > LET_IN_AT_ONCE else None
            is_rated, moments = True, [*moments, *([] if later is None else [later])]
        for queue in _queues(database, key, terms) if free > 0 else ():  # since not every queue has a runner
            some |= _unblock(database, key, terms, queue, min(free, LET_IN_AT_ONCE), now)
    if is_rated:
        database.query("let_in_at", key=key, at=min(moments, default=None))
    return some


def _queues(database: Database, key: str, terms: str) -> list[str]:
    """Those in which somebody with these terms is blocked by the limit."""
    return [row[0] for row in database.query("blocked_queues", key=key, terms=terms)]


def _unblock(database: Database, key: str, terms: str, queue: str, free: int, now: int) -> bool:
    """Those who are to be claimed before them anyway have their turns already: else one start would let in many."""
    limit = free - database.query("turns", key=key, terms=terms, queue=queue, limit=free)[0][0]
    return limit > 0 and database.change("unblock", key=key, terms=terms, queue=queue, limit=limit, now=now) > 0
