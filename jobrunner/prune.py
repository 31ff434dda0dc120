"""The forgetting of finished jobs, a few at a time, so that nobody waits for it long."""

import json
import time
from typing import Literal, NamedTuple

from jobrunner.database import Database
from jobrunner.status import Status
from jobrunner.times import now_ms

LOOKED_AT = 500
"""Jobs that one query looks at."""
_UNNAMED = {"runners": "idle_runners", "batches": "empty_batches"}
FIRES_STAY_MS = 86_400_000
"""How long an instant that a schedule decided stays at least."""
FINAL = tuple(status for status in Status if status.is_final)
"""In the order of their definition, for people."""


class Rule(NamedTuple):
    """Which finished jobs to forget: all conditions hold. `older_than`: milliseconds since the end of the job."""

    older_than: int | None = None
    statuses: tuple[Status, ...] = FINAL
    keep_last: int | None = None
    """How many finished jobs of each task stay, the newest."""


class Pace:
    """How many jobs go in one transaction: as many as hold the write lock for a moment only, whatever their size."""

    HELD_SECONDS = 0.0015
    OTHERS = 2
    """How many times as long as it was held the lock is left to others."""
    MOST = 500

    def __init__(self) -> None:
        self.at_once = 10
        self.rest = 0.0
        """Seconds to leave to others after the last transaction."""

    def forget(self, database: Database, ids: list[int], before: int | None, statuses: tuple[Status, ...]) -> int:
        """Forget these, `at_once` of them at most, and learn; tells how many there were to forget still."""
        began = time.monotonic()
        # Asked once more: one of them may have been retried since, and have ended again, just now or otherwise.
        with database.transaction():
            gone = database.query("forget_jobs", ids=json.dumps(ids), before=before, statuses=json.dumps(statuses))
        self.learn(time.monotonic() - began)
        return len(gone)

    def learn(self, held: float) -> None:
        """The last transaction held the lock for so many seconds."""
        change = min(2.0, self.HELD_SECONDS / max(held, 1e-6))
        self.at_once = max(1, min(self.MOST, int(self.at_once * change) + (change > 1)))
        self.rest = held * self.OTHERS


class Pruned(NamedTuple):
    """How many were forgotten, or would be."""

    jobs: int
    runners: int
    """Those that stopped long ago."""
    fires: int
    """Instants that schedules decided."""
    batches: int
    """Complete ones of which no member is left."""


def prune(database: Database, rule: Rule, *, rehearse: bool = False) -> Pruned:
    """Forget what the rule says, with output, results and history. What is not finished, or awaited, stays.

    So does the newest job: no number is ever given again.
    """
    before = None if rule.older_than is None else now_ms() - rule.older_than
    kept = json.dumps(dict(database.query("first_kept", keep=rule.keep_last))) if rule.keep_last else None
    jobs, seen, pace = 0, 0, Pace()
    while page := database.query(
        "prunable", after=seen, before=before, statuses=json.dumps(rule.statuses), kept=kept, limit=LOOKED_AT
    ):
        seen = page[-1][0]
        ids = [one for one, is_to_go in page if is_to_go]
        jobs += len(ids) if rehearse else _forget_politely(database, ids, before, rule.statuses, pace)
    if before is None:
        return Pruned(jobs, 0, 0, 0)
    runners = _forget_unnamed(database, "runners", before, rehearse=rehearse)
    fires = _forget_fires(database, before, rehearse=rehearse)
    return Pruned(jobs, runners, fires, _forget_unnamed(database, "batches", before, rehearse=rehearse))


def prune_some(database: Database, older_than: int, pace: Pace) -> bool:
    """Forget the oldest that ended more than so many milliseconds ago, as many as go at once; whether there were any.

    Runners stay: to find those that no job names all jobs are read, which is not for a runner's loop.
    """
    before = now_ms() - older_than
    ids = [row[0] for row in database.query("oldest_finished", before=before, limit=pace.at_once)]
    if ids:
        pace.forget(database, ids, before, FINAL)
    return bool(ids) or forget_some_fires(database, before, pace.at_once)


def _forget_politely(
    database: Database, ids: list[int], before: int | None, statuses: tuple[Status, ...], pace: Pace
) -> int:
    forgotten = 0
    while ids:
        ids, now = ids[pace.at_once :], ids[: pace.at_once]
        forgotten += pace.forget(database, now, before, statuses)
        time.sleep(pace.rest)
    return forgotten


def forget_some_fires(database: Database, before: int, most: int) -> bool:
    """Forget so many instants that schedules decided before; whether there were as many.

    What was decided within a day stays: somebody may set the clock back, and no instant is to come twice.
    """
    before = min(before, now_ms() - FIRES_STAY_MS)
    return len(database.query("forget_fires", before=before, limit=most)) == most


def _forget_fires(database: Database, before: int, *, rehearse: bool) -> int:
    before = min(before, now_ms() - FIRES_STAY_MS)
    count = int(database.query("old_fires", before=before)[0][0])
    while not rehearse and forget_some_fires(database, before, LOOKED_AT):
        time.sleep(Pace.HELD_SECONDS * Pace.OTHERS)
    return count


def _forget_unnamed(database: Database, what: Literal["runners", "batches"], before: int, *, rehearse: bool) -> int:
    """Those that no job names any more."""
    # Asked outside of a transaction, since it reads all: who has stopped, or is complete, gets no more jobs.
    ids = [row[0] for row in database.query(_UNNAMED[what], before=before)]
    if ids and not rehearse:
        with database.transaction():
            database.query(f"forget_{what}", ids=json.dumps(ids))
    return len(ids)
