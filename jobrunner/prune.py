"""The forgetting of finished jobs, a few at a time, so that nobody waits for it long."""

import json
import time
from typing import NamedTuple

from jobrunner.database import Database
from jobrunner.status import Status
from jobrunner.times import now_ms

LOOKED_AT = 500
"""Jobs that one query looks at."""
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
    """How many were forgotten, or would be: jobs, and runners that stopped long ago."""

    jobs: int
    runners: int


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
    return Pruned(jobs, _forget_runners(database, before, rehearse=rehearse))


def prune_some(database: Database, older_than: int, pace: Pace) -> bool:
    """Forget the oldest that ended more than so many milliseconds ago, as many as go at once; whether there were any.

    Runners stay: to find those that no job names all jobs are read, which is not for a runner's loop.
    """
    before = now_ms() - older_than
    ids = [row[0] for row in database.query("oldest_finished", before=before, limit=pace.at_once)]
    if ids:
        pace.forget(database, ids, before, FINAL)
    return bool(ids)


def _forget_politely(
    database: Database, ids: list[int], before: int | None, statuses: tuple[Status, ...], pace: Pace
) -> int:
    forgotten = 0
    while ids:
        ids, now = ids[pace.at_once :], ids[: pace.at_once]
        forgotten += pace.forget(database, now, before, statuses)
        time.sleep(pace.rest)
    return forgotten


def _forget_runners(database: Database, before: int | None, *, rehearse: bool) -> int:
    if before is None:
        return 0
    # Asked outside of a transaction, since it reads all jobs: a runner that has stopped gets no more of them.
    ids = [row[0] for row in database.query("idle_runners", before=before)]
    if ids and not rehearse:
        with database.transaction():
            database.query("forget_runners", ids=json.dumps(ids))
    return len(ids)
