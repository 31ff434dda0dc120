"""Queues that are held back: paused, or limited in how many of their jobs run at a time, or begin in a period.

Asked at each claim, inside its transaction, so that what holds, holds across runners. Who is paused while it waits for
others takes no place of its queue, as it holds no slot. When they have ended it needs one to go on, before all that
have not begun: for those no place is free as long as it waits for one.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jobrunner.arrangements import QueueSetting
from jobrunner.database import Database
from jobrunner.errors import UsageError
from jobrunner.times import now_ms, read_rate

FOREVER = 2**62


class Share(NamedTuple):
    """Some queues, and how many of their jobs may be claimed together; None: as many as there are slots."""

    queues: list[str]
    most: int | None = None


class Shares(NamedTuple):
    """What may be claimed, the limited queues first; and when the clock alone lets more in, in ms since 1970."""

    shares: list[Share]
    next_at: int | None = None


def shares(database: Database, names: Sequence[str]) -> Shares:
    """Inside the claim's transaction: how the queues may be served now."""
    held = {one.queue: one for one in settings(database) if one.queue in names}
    if not held:
        return Shares([Share(list(names))])
    now = now_ms()
    found: list[Share] = []
    moments: list[int] = []
    for one in held.values():
        most, moment = _room(database, one, now)
        moments += [] if moment is None else [moment]
        if most is None or most > 0:
            found.append(Share([one.queue], most))
    rest = [name for name in names if name not in held]
    return Shares([*found, *([Share(rest)] if rest else [])], min(moments, default=None))


def places(database: Database, names: Iterable[str]) -> dict[str, int]:
    """How many that are paused may go on now, of these queues; those that are not limited are left out."""
    limited = {one.queue: one.concurrency for one in settings(database) if one.concurrency is not None}
    return {
        queue: limited[queue] - database.query("places_of_queue", queue=queue)[0][0]
        for queue in limited.keys() & set(names)
    }


def began(database: Database, counts: dict[str, int]) -> None:
    """Inside the claim's transaction: so many jobs of these queues begin now."""
    now = now_ms()
    for one in settings(database):
        if one.rate is not None and one.queue in counts:
            database.change_many("put_start", [(one.queue, now)] * counts[one.queue])


def settings(database: Database) -> list[QueueSetting]:
    """What was said of queues, by name; nothing of most."""
    return [QueueSetting(*row) for row in database.query("queue_settings")]


def paused(database: Database) -> set[str]:
    """The queues that are paused now."""
    now = now_ms()
    return {one.queue for one in settings(database) if one.paused_until is not None and one.paused_until > now}


def pause(database: Database, queue: str, until: int | None = None) -> None:
    """None of its jobs begin, until that moment or until it is resumed; what runs goes on."""
    _check(queue)
    with database.transaction():
        database.query("set_queue", queue=queue)
        database.query("pause_queue", queue=queue, until=FOREVER if until is None else until)


def resume(database: Database, queue: str) -> None:
    """Its jobs begin again."""
    with database.transaction():
        database.query("pause_queue", queue=queue, until=None)
        database.query("forget_plain_queues")


def limit(database: Database, queue: str, *, concurrency: int | None, rate: str | None) -> None:
    """At most so many of its jobs run at a time, and so many begin in any period (`100/min`); None: no limit."""
    _check(queue)
    if concurrency is not None and concurrency < 1:
        raise UsageError("a queue may run at least one job at a time: `jobrunner queue pause` stops it")
    count, period = (None, None) if rate is None else read_rate(rate)
    with database.transaction():
        database.query("set_queue", queue=queue)
        database.query("limit_queue", queue=queue, concurrency=concurrency, rate=count, period=period)
        database.query("forget_plain_queues")


def _room(database: Database, one: QueueSetting, now: int) -> tuple[int | None, int | None]:
    """How many may begin now, and when the clock lets more in."""
    if one.paused_until is not None and one.paused_until > now:
        return 0, None if one.paused_until == FOREVER else one.paused_until
    most: list[int] = []
    moment = None
    if one.concurrency is not None:
        most.append(max(0, one.concurrency - sum(database.query("places_of_queue", queue=one.queue)[0])))
    if one.rate is not None and one.period is not None:
        database.query("forget_starts", queue=one.queue, before=now - one.period)
        count, oldest = database.query("starts", queue=one.queue)[0]
        most.append(max(0, one.rate - count))
        moment = None if oldest is None else oldest + one.period + 1
    return min(most, default=None), moment


def _check(queue: str) -> None:
    if not queue:
        raise UsageError("a queue has a name")
