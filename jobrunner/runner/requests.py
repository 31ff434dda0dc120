"""What a job may ask of its runner, and the runner's answer: the other end of `channel_client`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jobrunner import broker, state_backend
from jobrunner.cache import SharedCache
from jobrunner.database import Database
from jobrunner.errors import DatabaseBroken, DatabaseBusy, JobRunnerError, UsageError, facts_of
from jobrunner.models import Claimed, Json, Request

_LOG_PAGE = 16
"""Pieces of output in an answer: each has up to 64 KiB, and a byte takes up to six as JSON."""

Answer = tuple[str, Json]


def answer(database: Database, asker: Claimed, verb: str, facts: list[Json]) -> Answer:
    """Do what is asked, changes alone in a savepoint; ("answer", value) or ("error", [class, message, attributes])."""
    return _attempt(verb, partial(_answer, database, asker, verb, facts))


def answer_from_cache(cache: SharedCache, facts: list[Json]) -> Answer:
    """The same for what a job asks of the cache, which needs no database."""
    return _attempt("cache", partial(cache.call, *facts))


def _attempt(verb: str, do: Callable[[], Json]) -> Answer:
    try:
        return "answer", do()
    except (DatabaseBroken, DatabaseBusy):
        raise  # the runner's trouble, not the job's
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        known = error if isinstance(error, JobRunnerError) else UsageError(f"{verb}: {error}")
        return "error", facts_of(known)
    except JobRunnerError as error:
        return "error", facts_of(error)


def _answer(database: Database, asker: Claimed, verb: str, facts: list[Json]) -> Json:
    if verb not in _VERBS:
        raise UsageError(f"a job cannot ask for {verb!r}")
    if verb not in _CHANGES:
        return _VERBS[verb](database, asker, *facts)
    with database.transaction():
        # The fence: an attempt that was given up is being made again, and would do all this twice.
        if database.one("still_holds", id=asker.id, claim=asker.claim) != (1,):
            raise JobRunnerError(f"job {asker.id} does not run any more")
        return _VERBS[verb](database, asker, *facts)


def _enqueue(database: Database, asker: Claimed, rows: list[list[Any]]) -> Json:
    return broker.enqueue(database, [Request(*row)._replace(parent=asker.id) for row in rows])


def _cancel(database: Database, asker: Claimed, ids: list[int], children: bool) -> Json:
    return broker.cancel(database, ids, reason=f"cancelled by job {asker.id}", children=children)


def _retry(database: Database, asker: Claimed, ids: list[int]) -> Json:
    return broker.retry(database, ids, reason=f"retried by job {asker.id}")


def _log(database: Database, _: Claimed, invocation_id: int, after: int) -> Json:
    pieces = state_backend.log(database, invocation_id, after)[:_LOG_PAGE]
    return [piece._replace(data=piece.data.decode("latin-1")) for piece in pieces]  # type: ignore[arg-type]


_CHANGES = ("enqueue", "cancel", "retry")
_VERBS: dict[str, Callable[..., Json]] = {
    "enqueue": _enqueue,
    "job": lambda database, _, one: state_backend.job(database, one),
    "states": lambda database, _, ids: state_backend.states(database, ids),
    "result": lambda database, _, one: state_backend.result(database, one),
    "cancel": _cancel,
    "retry": _retry,
    "log": _log,
    "progress": lambda database, _, one: state_backend.progress(database, one),
    "counts": lambda database, _: state_backend.counts(database),
}
