"""Unique keys that do more than to refuse a second job: debounce and throttle. Inside the transaction of an enqueue."""

import json

from jobrunner.database import Database
from jobrunner.models import After, InvocationId, Request
from jobrunner.payload import INLINE_BYTES
from jobrunner.times import now_ms


def put_off(database: Database, request: Request, waiting: int) -> None:
    """The job that waits becomes what was asked for last, and begins at that request's time.

    Whose child it is, and of which batch, stays.
    """
    database.query("debounce", id=waiting, now=now_ms(), **request._asdict())
    database.query("forget_argument", id=waiting)
    if len(request.args) > INLINE_BYTES:
        database.change_many("put_argument", [(waiting, request.args, False)])


def hand_over(database: Database, request: Request, started: int) -> Request:
    """One that has begun knows nothing of what came since: a new job gets its key, and begins when it has ended."""
    database.query("give_up_key", id=started)
    return request._replace(after=json.dumps([After(started, "any")]))


def throttled(database: Database, request: Request) -> InvocationId | None:
    """The job that stands for this one: an unfinished one, or the last one with its key where it is young enough."""
    holder = database.one("key_holder", key=request.unique_key)
    last = holder or database.one("key_used", key=request.unique_key)
    if last is None or (holder is None and last[2] + (request.window or 0) <= now_ms()):
        return None
    return InvocationId(last[0])
