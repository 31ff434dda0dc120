"""What is done for a runner that died: its leftovers are killed, and its invocations given back."""

from collections.abc import Callable
from typing import NamedTuple

from jobrunner import orchestrator, ownership
from jobrunner.database import Database
from jobrunner.errors import UsageError
from jobrunner.models import Claimed, Runner
from jobrunner.orchestrator import Ended
from jobrunner.ownership import RunnerLocks
from jobrunner.policy import Policy
from jobrunner.times import now_ms


class Rescued(NamedTuple):
    """How many processes were left and are killed, and how many invocations were given back."""

    killed: int
    jobs: int


def rescue(
    database: Database,
    locks: RunnerLocks,
    dead: Runner,
    kill_leftovers: Callable[[str], list[int]] = ownership.kill_leftovers,
) -> Rescued | None:
    """Rescue a runner whose byte we have taken, and free the byte; None where it had stopped, and left nothing."""
    # We hold its lock: it is gone, and no other rescuer does this at the same time.
    try:
        row = database.one("runner", runner=dead.id)
        now = dead if row is None else Runner(*row)
        if now.stopped_at is not None:  # between the reading of its row by our caller and the taking of its byte
            return None
        why = now.stop_reason  # who killed it wrote it down before
        killed = kill_leftovers(dead.token)
        with database.transaction():
            died = "the runner died" if why is None else f"the runner was {why}"
            orphaned = [Claimed(*row) for row in database.query("held_by", runner=dead.id)]
            for claimed in orphaned:
                orchestrator.record(database, orphan(claimed, died), dead.id)
            database.query("forget_processes", runner=dead.id)
            database.query("stop_runner", runner=dead.id, now=now_ms(), reason=why or "died")
    finally:
        locks.free(dead.id)
    return Rescued(len(killed), len(orphaned))


def orphan(claimed: Claimed, died: str) -> Ended:
    """An attempt whose runner is gone, and why, in words; one whose policy cannot be read fails for that."""
    try:
        return Ended(claimed, Policy.from_json(claimed.policy), None, None, runner_died=died)
    except UsageError as error:
        return orchestrator.unreadable(claimed, error)
