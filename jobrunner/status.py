"""The names of the statuses. The law, which may follow which, is the table jr_status_law in schema.sql."""

from enum import StrEnum


class Status(StrEnum):
    """Where an invocation stands."""

    SCHEDULED = "scheduled"
    """Its time has not come: a delay, or a retry that waits."""
    BLOCKED = "blocked"
    """Held by hand, or its concurrency limit is reached."""
    PENDING = "pending"
    """May be claimed."""
    RUNNING = "running"
    """A runner's worker does it."""
    PAUSED = "paused"
    """It waits for results of others; its process is stopped and it holds no slot."""
    RESUMED = "resumed"
    """Running again after a pause."""
    KILLED = "killed"
    """Its process or runner died; it goes on to pending or failed in the same transaction."""
    SUCCESS = "success"
    """Done; the result is kept."""
    FAILED = "failed"
    """Not done, and no attempt is left; the error is kept."""
    CANCELLED = "cancelled"
    """Somebody called it off."""
    EXPIRED = "expired"
    """It was not started in time."""

    @property
    def is_final(self) -> bool:
        """Whether only an operator's retry leads out of it."""
        return self in FINAL


FINAL = frozenset({Status.SUCCESS, Status.FAILED, Status.CANCELLED, Status.EXPIRED})
STARTED = frozenset({Status.RUNNING, Status.PAUSED, Status.RESUMED})
WAITING = frozenset({Status.SCHEDULED, Status.BLOCKED, Status.PENDING})
