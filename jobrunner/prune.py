"""The forgetting of finished jobs, a few at a time, so that nobody waits for it."""

import json
import time
from typing import NamedTuple

from jobrunner.database import Database
from jobrunner.status import Status
from jobrunner.times import now_ms

AT_ONCE = 500
"""Jobs in a transaction: a few milliseconds."""
FINAL = tuple(status for status in Status if status.is_final)
"""In the order of their definition, for people."""


class Rule(NamedTuple):
    """Which finished jobs to forget: all conditions hold. `older_than`: milliseconds since the end of the job."""

    older_than: int | None = None
    statuses: tuple[Status, ...] = FINAL
    keep_last: int | None = None
    """How many finished jobs of each task stay, the newest."""


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
    jobs, seen = 0, 0
    while page := database.query(
        "prunable", after=seen, before=before, statuses=json.dumps(rule.statuses), kept=kept, limit=AT_ONCE
    ):
        seen = page[-1][0]
        ids = [one for one, is_to_go in page if is_to_go]
        jobs += len(ids) if rehearse or not ids else _forget_politely(database, ids, before, rule.statuses)
    return Pruned(jobs, _forget_runners(database, before, rehearse=rehearse))


def prune_some(database: Database, older_than: int) -> int:
    """Forget the oldest that ended more than so many milliseconds ago, as many as go at once; tells how many."""
    before = now_ms() - older_than
    ids = [row[0] for row in database.query("oldest_finished", before=before, limit=AT_ONCE)]
    return _forget(database, ids, before, FINAL) if ids else 0


def _forget_politely(database: Database, ids: list[int], before: int | None, statuses: tuple[Status, ...]) -> int:
    """Half of the time is for others, who may be waiting to write."""
    began = time.monotonic()
    forgotten = _forget(database, ids, before, statuses)
    time.sleep(time.monotonic() - began)
    return forgotten


def _forget(database: Database, ids: list[int], before: int | None, statuses: tuple[Status, ...]) -> int:
    # Asked once more: one of them may have been retried since, and have ended again, just now or otherwise.
    with database.transaction():
        return len(
            database.query("forget_jobs", ids=json.dumps(ids), before=before, statuses=json.dumps(statuses)),
        )


def _forget_runners(database: Database, before: int | None, *, rehearse: bool) -> int:
    if before is None:
        return 0
    # Asked outside of a transaction, since it reads all jobs: a runner that has stopped gets no more of them.
    ids = [row[0] for row in database.query("idle_runners", before=before)]
    if ids and not rehearse:
        with database.transaction():
            database.query("forget_runners", ids=json.dumps(ids))
    return len(ids)
