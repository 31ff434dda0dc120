"""Concurrency limits: who is let in when a place is free. Whether there really is one is judged by the claim."""

from collections.abc import Iterable

from jobrunner.database import Database
from jobrunner.times import now_ms


def let_in(database: Database, keys: Iterable[str | None]) -> None:
    """Inside a transaction: somebody has left a place of these limits, or has lost its turn to take one."""
    for key in set(keys) - {None}:
        row = database.one("free_places", key=key)
        if row is not None and row[0] > 0:
            database.query("unblock", key=key, free=row[0], now=now_ms())
