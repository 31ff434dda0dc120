"""The queue: what goes in, what becomes due, what is called off or done again. `claims` is how it goes out."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from jobrunner import dependencies, keys, limits, outputs, unknown_tasks
from jobrunner.database import Database, Value
from jobrunner.errors import UniqueKeyTaken, UsageError
from jobrunner.models import Enqueued, InvocationId, Request
from jobrunner.payload import INLINE_BYTES
from jobrunner.status import STARTED
from jobrunner.times import now_ms

_WAITS = 2
"""`hold` of who waits for others to end."""
DUE_AT_ONCE = 5000
"""How many rows one turn promotes or expires, so that a transaction stays short."""
_NO_MORE = Request("")[8:]
"""Of a plain request nothing is said but its first fields, which are those that `enqueue_plain` binds."""


def enqueue(database: Database, requests: Sequence[Request]) -> list[InvocationId]:
    """Put all of them in, or none; gives the ids in order. A request whose key is held gives the holder's id."""
    return [enqueue_one(database, requests[0])] if len(requests) == 1 else _enqueue_many(database, requests)


def enqueue_one(database: Database, request: Request) -> InvocationId:
    """The same for one alone."""
    row = _plain_row(request, now_ms())
    if row is None:
        return _enqueue_many(database, [request])[0]
    # One statement is a transaction already: half of the time that is not the disk's.
    number: InvocationId = database.insert("enqueue_plain", row)
    return number


def _enqueue_many(database: Database, requests: Sequence[Request]) -> list[InvocationId]:
    rows = _plain_rows(requests)
    if len(rows) == len(requests):
        return _insert_plain(database, rows)
    if _have_keys(requests):
        return [one.id for one in _put_keyed(database, requests)]
    return _insert(database, requests)


def put(database: Database, requests: Sequence[Request]) -> list[Enqueued]:
    """`enqueue`, and tell of each whether it is new."""
    if _have_keys(requests):
        return _put_keyed(database, requests)
    return [Enqueued(one, True) for one in enqueue(database, requests)]


def _plain_row(request: Request, now: int) -> tuple[Value, ...] | None:
    """Its row, where that is all that there is to write, and has nothing in it but what most rows have."""
    if request[8:] != _NO_MORE or len(request.args) > INLINE_BYTES:
        return None
    return request[:8] + (now,)  # noqa: RUF005 -- to unpack it takes longer


def _plain_rows(requests: Sequence[Request]) -> list[tuple[Value, ...]]:
    """Those of the first ones that are plain, all of them where all are."""
    now, rows = now_ms(), []
    for request in requests:
        row = _plain_row(request, now)
        if row is None:
            break
        rows.append(row)
    return rows


def _insert_plain(database: Database, rows: Sequence[tuple[Value, ...]]) -> list[InvocationId]:
    with database.transaction():
        first = database.query("last_id")[0][0] + 1
        database.change_many("enqueue_plain", rows)
    return list(map(InvocationId, range(first, first + len(rows))))


def _have_keys(requests: Sequence[Request]) -> bool:
    return any(request.unique_key is not None for request in requests)


def _put_keyed(database: Database, requests: Sequence[Request]) -> list[Enqueued]:
    done: list[Enqueued] = []
    ids: list[InvocationId] = []
    with database.transaction():
        for request in requests:
            done.append(_enqueue_keyed(database, outputs.placed(request, ids)))
            ids.append(done[-1].id)
    return done


def _enqueue_keyed(database: Database, request: Request) -> Enqueued:
    if request.if_exists == "debounce":
        return _debounce(database, request)
    if request.if_exists == "throttle":
        earlier = keys.throttled(database, request)
        return Enqueued(_insert(database, [request])[0], True) if earlier is None else Enqueued(earlier, False)
    asked = "key_used" if request.if_exists == "once" else "key_holder"
    holder = database.one(asked, key=request.unique_key) if request.unique_key is not None else None
    if holder is not None:
        started = holder[1] in STARTED
        if request.if_exists in ("skip", "once"):
            return Enqueued(InvocationId(holder[0]), False)
        if request.if_exists == "error" or started:
            raise UniqueKeyTaken(str(request.unique_key), holder[0], started and request.if_exists == "replace")
        cancel(database, [holder[0]], reason="replaced by a newer job with the same key")
    return Enqueued(_insert(database, [request])[0], True)


def _debounce(database: Database, request: Request) -> Enqueued:
    if request.after is not None:
        raise UsageError(
            "debounce says when it begins: a job with it waits for no others, and takes no results of them"
        )
    request = request._replace(run_at=now_ms() + (request.window or 0))
    holder = database.one("key_holder", key=request.unique_key)
    if holder is not None and holder[1] not in STARTED:
        keys.put_off(database, request, holder[0])
        limits.let_in(database, [holder[2]])  # it may have had its turn
        return Enqueued(InvocationId(holder[0]), False)
    if holder is not None:
        request = keys.hand_over(database, request, holder[0])
    return Enqueued(_insert(database, [request])[0], True)


def _insert(database: Database, requests: Sequence[Request]) -> list[InvocationId]:
    now = now_ms()
    if len(requests) == 1 and _is_one_row(requests[0]):
        return [InvocationId(database.insert("enqueue", (*requests[0], now)))]
    large = [number for number, one in enumerate(requests) if len(one.args) > INLINE_BYTES or one.outputs]
    with database.transaction():
        _join(database, requests, now)
        first = database.query("last_id")[0][0] + 1
        requests = _placed(requests, first)
        database.change_many("enqueue", ((*request, now) for request in requests))
        database.change_many(
            "put_argument", ((first + number, requests[number].args, requests[number].outputs) for number in large)
        )
        _attach(database, first, requests)
    return list(map(InvocationId, range(first, first + len(requests))))


def _is_one_row(request: Request) -> bool:
    return request.after is None and request.batch is None and not request.outputs and len(request.args) <= INLINE_BYTES


def _placed(requests: Sequence[Request], first: int) -> Sequence[Request]:
    behind = [number for number, request in enumerate(requests) if request.after is not None]
    if not behind:
        return requests
    found = list(requests)
    for number in behind:
        found[number] = outputs.placed(found[number], range(first, first + number))
    return found


def _join(database: Database, requests: Sequence[Request], now: int) -> None:
    sizes = Counter(request.batch for request in requests if request.batch is not None)
    database.change_many("need_batch", [(name, now) for name in sizes])
    database.change_many("more_members", [(size, name) for name, size in sizes.items()])


def _attach(database: Database, first: int, requests: Sequence[Request]) -> None:
    depend = [(first + number, request.after) for number, request in enumerate(requests) if request.after is not None]
    for one, after in depend:
        dependencies.attach(database, one, after)
        if requests[one - first].outputs:
            _check_outputs(database, requests[one - first].args)
    if depend:
        dependencies.settle(database)  # some of what they wait for may have ended already


def _check_outputs(database: Database, args: str) -> None:
    if program := database.one("program_among", ids=json.dumps(list(outputs.wanted(args)))):
        raise UsageError(f"job {program[0]} is a command, and has no result: `jobrunner log` shows what it wrote")


def next_due(database: Database, *, schedules: bool = True, without: Iterable[str] = ()) -> int | None:
    """The next moment at which the clock alone changes something, in ms since 1970; `without` names schedules."""
    row = database.query("next_due", schedules=schedules, without=json.dumps(list(without)))[0]
    return min((moment for moment in row if moment is not None), default=None)


def promote_and_expire(database: Database) -> int:
    """Do what the clock demands: expired ones first, so that none of them is promoted; tells how many."""
    expired = database.query("expire_due", now=now_ms(), limit=DUE_AT_ONCE)
    limits.let_in(database, (row[1] for row in expired))
    limits.let_in_due(database)
    promoted = database.query("promote_due", hold=0, now=now_ms(), limit=DUE_AT_ONCE)
    waiting = database.query("promote_due", hold=_WAITS, now=now_ms(), limit=DUE_AT_ONCE)
    if waiting:
        database.query("hold_back", ids=json.dumps([row[0] for row in waiting]), now=now_ms())
    return len(expired) + len(promoted) + len(waiting) + unknown_tasks.look(database)


def is_drained(database: Database, queues: Sequence[str]) -> bool:
    """Whether nothing is pending in the queues (none named: all) and nothing that was tried is to be heard of again."""
    from jobrunner.queues import paused  # 3 ms that who only enqueues does not need

    names = list(queues) or [row[0] for row in database.query("queues_with_pending")]
    held_back = paused(database)
    names = [name for name in names if name not in held_back]
    pending = database.query("has_pending", queues=json.dumps(names))[0][0]
    waiting = {"queues": json.dumps(list(queues)), "paused": json.dumps(sorted(held_back))}
    return not pending and not database.query("retries_waiting", **waiting)[0][0]


def cancel(database: Database, ids: Sequence[int], *, reason: str, children: bool = False) -> list[InvocationId]:
    """Call off what is not finished: at once what has not started, through its runner what has. Gives their ids."""
    with database.transaction():
        if children:
            ids = [row[0] for row in database.query("descendants", ids=json.dumps(list(ids)))]
        names = json.dumps(list(ids))
        now = now_ms()
        waiting = database.query("cancel_waiting", ids=names, now=now, reason=reason)
        limits.let_in(database, (row[1] for row in waiting))
        started = database.query("cancel_started", ids=names, now=now)
        dependencies.settle(database)
    return sorted(InvocationId(row[0]) for row in waiting + started)


def retry(database: Database, ids: Sequence[int], *, reason: str) -> list[InvocationId]:
    """Have finished, held or delayed ones done now, with all budgets anew. Gives the ids of those that were."""
    with database.transaction():
        if conflict := database.one("key_conflict", ids=json.dumps(list(ids))):
            raise UniqueKeyTaken(conflict[0], conflict[1], False)
        _uncount(database, ids)
        again = [
            InvocationId(row[0])
            for row in database.query("retry", ids=json.dumps(list(ids)), now=now_ms(), reason=reason)
        ]
        database.query("forget_results", ids=json.dumps(again))
        dependencies.wait_again(database, again)
    return sorted(again)


def _uncount(database: Database, ids: Sequence[int]) -> None:
    """Their batches are not finished any more."""
    counted = database.query("to_recount", ids=json.dumps(list(ids)))
    if counted:
        database.change_many("reopen", [(batch,) for batch in {row[1] for row in counted}])
        database.change_many("uncount", [(well, 1 - well, batch) for _, batch, well in counted])
        names = json.dumps([row[0] for row in counted])
        database.query("not_counted", ids=names)
        database.query("stays_counted", ids=names)
