"""The way out of the queue: what a runner claims, in which order and within which limits, and with which arguments."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from jobrunner import limits, outputs, payload
from jobrunner.database import Database
from jobrunner.errors import InvocationNotFound, OutputMissing
from jobrunner.models import Claimed, InvocationId, RunnerId
from jobrunner.queues import began, shares
from jobrunner.status import Status
from jobrunner.times import now_ms

BLOCKED_AT_ONCE = 5000
"""How many rows one turn blocks by a limit, so that a transaction stays short."""


class Taken(NamedTuple):
    """What `take` took; how many it cancelled instead, since they are not to wait; whether to look again at once."""

    claimed: list[Claimed]
    dropped: int = 0
    more: bool = False
    next_at: int | None = None
    """When the clock alone lets more in, by the rate or the pause of a queue."""
    rated: bool = False
    """Whether it came upon jobs whose key has a rate: what is due next may have changed."""


def claim(database: Database, runner: RunnerId, queues: Sequence[str], limit: int) -> list[Claimed]:
    """Take up to `limit` pending invocations of the queues (none named: all); then they are RUNNING and ours."""
    with database.transaction():
        return take(database, runner, queues, limit).claimed


def take(
    database: Database, runner: RunnerId, queues: Sequence[str], limit: int, *, awaited_only: bool = False
) -> Taken:
    """`claim`, inside a transaction, of all or of those that others wait for.

    It tells, too, of those that were over a limit which drops them.
    """
    names = list(dict.fromkeys(queues)) or [row[0] for row in database.query("queues_with_pending")]
    if not names:
        return Taken([])
    found = shares(database, names)
    taken = Taken([], next_at=found.next_at)
    for share in found.shares:
        left = limit - len(taken.claimed)
        most = left if share.most is None else min(left, share.most)
        now = _take(database, runner, share.queues, most, awaited_only=awaited_only)
        if share.most is not None and now.claimed:
            began(database, Counter(one.queue for one in now.claimed))
        taken = Taken(
            taken.claimed + now.claimed,
            taken.dropped + now.dropped,
            taken.more or now.more,
            found.next_at,
            taken.rated or now.rated,
        )
    return taken if len(found.shares) == 1 else taken._replace(claimed=_best_first(taken.claimed))


def _take(database: Database, runner: RunnerId, names: Sequence[str], limit: int, *, awaited_only: bool) -> Taken:
    if len(names) == 1 and not database.query("any_limited")[0][0]:
        return Taken(_take_unlimited(database, runner, names[0], limit, awaited_only=awaited_only))
    claimed: list[Claimed] = []
    dropped = parked = 0
    let_in = is_rated = False
    over: list[int] = []
    looked_at: list[tuple[str | None, limits.Terms]] = []
    while names and len(claimed) < limit and parked < BLOCKED_AT_ONCE:
        now = now_ms()
        rows = database.query(
            "claim",
            runner=runner,
            queues=json.dumps(names),
            limit=limit - len(claimed),
            least_waiters=int(awaited_only),
            now=now,
        )
        rated = [(one, status) for one, *_, status, rate, _, _ in rows if rate is not None]
        if rated:
            is_rated = True
            let_in |= limits.began(database, [one for one, status in rated if status == Status.RUNNING], now)
            over += [one for one, status in rated if status == Status.BLOCKED]
        claimed += [Claimed(*row) for *row, status, _, _, _ in rows if status == Status.RUNNING]
        dropped += sum(row[-4] == Status.CANCELLED for row in rows)
        now_parked = sum(row[-4] != Status.RUNNING for row in rows)
        if now_parked == 0:
            break  # nobody was moved out of the way of others
        parked += now_parked
        looked_at += [(row[-5], row[-3:]) for row in rows]
    if over:
        limits.blocked(database, over)
    if parked:
        let_in |= limits.let_in(database, limits.mixed(looked_at))
    return Taken(_best_first(claimed), dropped, more=parked >= BLOCKED_AT_ONCE or let_in, rated=is_rated)


def _take_unlimited(
    database: Database, runner: RunnerId, queue: str, limit: int, *, awaited_only: bool
) -> list[Claimed]:
    now = now_ms()
    rows = database.query("best_unlimited", queue=queue, limit=limit, least_waiters=int(awaited_only), now=now)
    if rows:
        database.query("claim_these", runner=runner, queue=queue, limit=limit, least_waiters=int(awaited_only), now=now)
    return [Claimed._make(row) for row in rows]


def _best_first(claimed: list[Claimed]) -> list[Claimed]:
    claimed.sort()  # by their numbers, which no two share
    if any(one.waiters or one.priority for one in claimed):
        claimed.sort(key=lambda one: (-one.waiters, -one.priority))
    return claimed


def argument(database: Database, invocation_id: InvocationId) -> str:
    """Arguments that are not in the invocation's own row, as JSON text: they are large, or have results of others.

    OutputMissing where one of these is not there.
    """
    row = database.one("argument", id=invocation_id)
    if row is None:
        raise InvocationNotFound(invocation_id)
    return _with_results(database, row[0]) if row[1] else str(row[0])


def _with_results(database: Database, text: str) -> str:
    wanted = outputs.wanted(text)
    ids = json.dumps(list(wanted))
    found = {row[0]: row for row in database.query("result_sizes", ids=ids)}
    for one in wanted:
        if one not in found or found[one][1] != Status.SUCCESS:
            raise OutputMissing(one, found[one][1] if one in found else None)
    size = len(text.encode()) + sum(found[one][2] * count for one, count in wanted.items())
    payload.check_size(size, "arguments, with the results of other jobs,")  # before all of that is in memory
    return outputs.filled(text, {**dict.fromkeys(wanted, "null"), **dict(database.query("results", ids=ids))})
