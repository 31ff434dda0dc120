"""The mending of what `diagnosis` finds: each in a transaction, and within the law of statuses."""

from pathlib import Path

from jobrunner import orchestrator
from jobrunner.database import Database
from jobrunner.models import Claimed, RunnerId
from jobrunner.runner.dismissal import dismiss
from jobrunner.runner.rescue import orphan
from jobrunner.times import now_ms

_SECONDS = 10.0


def rescue(path: Path, runner: int) -> None:
    """What the next runner would do for a dead one."""
    with Database(path) as database:
        dismiss(database, runner, _SECONDS)


def give_back(path: Path, runner: int) -> None:
    """The jobs that are said to run with a runner that has stopped count as crashed with it."""
    with Database(path) as database, database.transaction():
        for row in database.query("held_by", runner=runner):
            ended = orphan(Claimed(*row), "its runner had stopped without it")
            orchestrator.record(database, ended, RunnerId(runner))


def put_right(path: Path) -> None:
    """Statuses that nobody stays in, edges of who does not wait, and numbers of waiters that are wrong."""
    with Database(path) as database, database.transaction():
        for job, claim in database.query("left_killed"):
            reason = "given back by `jobrunner doctor`"
            database.query("reroute", id=job, claim=claim, now=now_ms(), reason=reason, forgiven=1)
        database.query("drop_lost_edges")
        database.query("recount_waiters")
