"""What is known of invocations: their state, results, attempts, history, output; and the writing of output."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from jobrunner.database import Database
from jobrunner.errors import InvocationCancelled, InvocationFailed, InvocationNotFound, UsageError
from jobrunner.models import (
    Attempt,
    InvocationId,
    Job,
    Json,
    LogPiece,
    Process,
    Progress,
    Runner,
    RunnerId,
    State,
    Transition,
)
from jobrunner.status import Status
from jobrunner.times import now_ms

LOG_PAGE = 256
"""How many pieces of output are read at a time."""
LIST_PAGE = 1000
"""How many jobs."""


class Filter(NamedTuple):
    """Which jobs to list; None: any. `task`, `label`, `error` and `text` match a part; times are milliseconds."""

    statuses: tuple[Status, ...] | None = None
    queue: str | None = None
    task: str | None = None
    label: str | None = None
    since: int | None = None
    until: int | None = None
    parent: int | None = None
    schedule: str | None = None
    batch: str | None = None
    error: str | None = None
    text: str | None = None
    before: int | None = None
    """Jobs with a number less than this: the next page."""


class Relative(NamedTuple):
    """A job in a family: `depth` generations below the first one that is known."""

    id: InvocationId
    depth: int


class QueueCounts(NamedTuple):
    """How much of a queue is alive."""

    queue: str
    pending: int
    running: int
    paused: int
    scheduled: int
    blocked: int


def job(database: Database, invocation_id: int) -> Job:
    """All that the invocation's row tells; InvocationNotFound where there is none."""
    found = _jobs(database, [invocation_id])
    if not found:
        raise InvocationNotFound(invocation_id)
    return found[0]


def _jobs(database: Database, ids: Sequence[int]) -> list[Job]:
    """Newest first; those that there are."""
    rows = database.query("jobs", ids=json.dumps(list(ids)))
    return [Job(number, Status(status), *facts) for number, status, *facts in rows]


def states(database: Database, ids: Sequence[int]) -> list[State]:
    """Where these stand, in the order of `ids`; InvocationNotFound for the first that is none."""
    found = {
        row[0]: State(row[0], Status(row[1]), row[2], row[3])
        for row in database.query("states", ids=json.dumps(list(ids)))
    }
    for one in ids:
        if one not in found:
            raise InvocationNotFound(one)
    return [found[InvocationId(one)] for one in ids]


def result(database: Database, invocation_id: int) -> Json:
    """What the job returned; raises what became of it where that is not success."""
    return returned(database, what_came_of(database, invocation_id))


class CameOf(NamedTuple):
    """Where a job stands, and the JSON text of what it returned, if that is kept."""

    state: State
    value: str | None


def what_came_of(database: Database, invocation_id: int) -> CameOf:
    """Both by one question: whoever waits for a result asks again and again."""
    row = database.one("what_came_of", id=invocation_id)
    if row is None:
        raise InvocationNotFound(invocation_id)
    return CameOf(State(row[0], Status(row[1]), row[2], row[3]), row[4])


def returned(database: Database, came: CameOf) -> Json:
    """`result`, where it is known already what came of the job."""
    state, value = came
    if state.status is Status.FAILED:
        raise failure(database, state)
    if state.status is not Status.SUCCESS:
        raise InvocationCancelled(state.id, state.status, state.reason)
    return None if value is None else json.loads(value)


def failure(database: Database, state: State) -> InvocationFailed:
    """The error of a failed job."""
    last = next((one for one in reversed(attempts(database, state.id)) if one.error_type), None)
    if last is None:
        return InvocationFailed(state.id, "Failed", state.reason or "for a reason not kept", None, state.attempts)
    return InvocationFailed(state.id, last.error_type or "", last.error_message or "", last.traceback, last.attempt)


def attempts(database: Database, invocation_id: int) -> list[Attempt]:
    """What was measured of each attempt that is over, oldest first."""
    return [Attempt(*row) for row in database.query("attempts", id=invocation_id)]


def history(database: Database, invocation_id: int) -> list[Transition]:
    """Every change of status, oldest first."""
    return [Transition(*row) for row in database.query("history", id=invocation_id)]


def log(database: Database, invocation_id: int, after: int = 0) -> list[LogPiece]:
    """Up to LOG_PAGE pieces of output that follow the piece number `after`."""
    return [LogPiece(*row) for row in database.query("log", id=invocation_id, after=after, limit=LOG_PAGE)]


def progress(database: Database, invocation_id: int) -> Progress | None:
    """What the job last said of itself."""
    row = database.one("progress", id=invocation_id)
    return Progress(*row) if row else None


def children(database: Database, invocation_id: int) -> list[InvocationId]:
    """The jobs that this one enqueued."""
    return [row[0] for row in database.query("children", id=invocation_id)]


def ancestors(database: Database, invocation_id: int, limit: int) -> list[Relative]:
    """Who led to this job, from the first one on that is known; at most `limit`, the nearest."""
    rows = database.query("ancestors", id=invocation_id, limit=limit)
    return [Relative(one, len(rows) - height) for one, height in reversed(rows)]


def descendants(database: Database, invocation_id: int, limit: int) -> list[Relative]:
    """This job and those that it led to, each before its own children; at most `limit`."""
    first = len(ancestors(database, invocation_id, limit))
    rows = database.query("descendants_in_order", id=invocation_id, limit=limit)
    return [Relative(one, first + depth) for one, depth in rows]


def counts(database: Database) -> dict[Status, int]:
    """How many jobs are in each status."""
    return {Status(status): count for status, count in database.query("counts")}


def queue_counts(database: Database) -> list[QueueCounts]:
    """The queues that have something alive."""
    return [QueueCounts(*row) for row in database.query("queue_counts")]


def find(database: Database, wanted: Filter, limit: int) -> list[Job]:
    """The newest `limit` jobs that match, newest first."""
    with database.snapshot():
        return _jobs(database, find_ids(database, wanted, limit))


def find_all(database: Database, wanted: Filter, limit: int | None = None) -> Iterator[Job]:
    """All jobs that match, or the newest `limit`, newest first, read a page at a time."""
    while page := find(database, wanted, LIST_PAGE if limit is None else min(limit, LIST_PAGE)):
        yield from page
        wanted = wanted._replace(before=page[-1].id)
        limit = None if limit is None else limit - len(page)


def find_ids(database: Database, wanted: Filter, limit: int = -1) -> list[InvocationId]:
    """The numbers of the newest `limit` jobs that match (-1: of all), newest first."""
    statuses = json.dumps(wanted.statuses) if wanted.statuses is not None else None
    bindings = wanted._asdict() | {"statuses": statuses}
    return [row[0] for row in database.query("list", **bindings, limit=limit)]


def unfinished(database: Database) -> list[InvocationId]:
    """All jobs that are not final, oldest first."""
    return sorted(row[0] for row in database.query("all_unfinished"))


def waiting_since(database: Database) -> int | None:
    """Since when (ms since 1970) the oldest pending job is pending; None where none is."""
    row = database.one("waiting_longest")
    return row[0] if row else None


def started_counts(database: Database) -> dict[RunnerId, int]:
    """How many jobs each runner has, of those that have any."""
    return dict(database.query("started_counts"))


def unknown_tasks(database: Database) -> dict[str, int]:
    """Tasks that no runner knew, and how many of their jobs wait for one that does."""
    return {task: count for task, count, _ in database.query("unknown_tasks")}


def runners(database: Database, *, stopped: bool = False) -> list[Runner]:
    """The runners that have not stopped, or all."""
    return [Runner(*row) for row in database.query("runners", all=stopped)]


def processes(database: Database) -> list[Process]:
    """The processes of threads of all runners that have not stopped."""
    return [Process(*row) for row in database.query("processes")]


def put_processes(database: Database, runner: RunnerId, processes: Iterable[Process]) -> None:
    """Write down the processes of threads of a runner, instead of what stood there."""
    database.query("forget_processes", runner=runner)
    database.change_many("put_process", processes)


def put_output(
    database: Database, invocation_id: InvocationId, claim: int, pieces: Iterable[tuple[int, str, bytes, int]]
) -> None:
    """Keep pieces of output: (time in ms, stream, data, bytes cut)."""
    database.change_many("put_output", ((invocation_id, claim, *piece) for piece in pieces))


def put_progress(
    database: Database, invocation_id: int, claim: int, fraction: float | None, message: str | None
) -> bool:
    """Keep what a running job says of itself; False where that claim does not run any more."""
    if fraction is not None and not 0 <= fraction <= 1:
        raise UsageError(f"progress is a fraction from 0 to 1, not {fraction}")
    rows = database.query(
        "put_progress", id=invocation_id, claim=claim, fraction=fraction, message=message, now=now_ms()
    )
    return bool(rows)
