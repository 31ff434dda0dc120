"""The client outside of workers: on a database connection of its own."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from jobrunner import broker, state_backend
from jobrunner.commit_watch import CommitWatch
from jobrunner.database import Database
from jobrunner.errors import UsageError, WaitTimeout
from jobrunner.models import InvocationId, Job, Json, LogPiece, Progress, Request, Runner, State
from jobrunner.state_backend import CameOf
from jobrunner.status import Status

_LOOK_AHEAD = 1000
_FIRST_SLEEP = 0.002
_LONGEST_SLEEP = 0.1


class DirectClient:
    """It starts with an open database, and ends with `close`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(cls, path: Path, *, create: bool = True, relaxed: bool = False) -> Self:
        """A client on a connection of its own."""
        return cls(Database(path, create=create, relaxed=relaxed))

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def enqueue(self, requests: Sequence[Request]) -> list[InvocationId]:
        """Put all in, or none; ids in order."""
        return broker.enqueue(self.database, requests)

    def enqueue_one(self, request: Request) -> InvocationId:
        """The same for one alone."""
        return broker.enqueue_one(self.database, request)

    def job(self, invocation_id: int) -> Job:
        """All facts of one invocation."""
        return state_backend.job(self.database, invocation_id)

    def states(self, ids: Sequence[int]) -> list[State]:
        """Where these stand, in order."""
        return state_backend.states(self.database, ids)

    def result(self, invocation_id: int) -> Json:
        """What it returned, or the exception that tells why there is nothing."""
        return state_backend.result(self.database, invocation_id)

    def cancel(self, ids: Sequence[int], *, children: bool = False) -> list[InvocationId]:
        """Call these off; the ids of those that were not finished."""
        self.states(ids)
        return broker.cancel(self.database, ids, reason="cancelled on request", children=children)

    def retry(self, ids: Sequence[int]) -> list[InvocationId]:
        """Have these done again; the ids of those that could be."""
        self.states(ids)
        return broker.retry(self.database, ids, reason="retried on request")

    def log(self, invocation_id: int, after: int = 0) -> list[LogPiece]:
        """The next pieces of output."""
        self.states([invocation_id])
        return state_backend.log(self.database, invocation_id, after)

    def progress(self, invocation_id: int) -> Progress | None:
        """What it last said of itself."""
        self.states([invocation_id])
        return state_backend.progress(self.database, invocation_id)

    def counts(self) -> dict[Status, int]:
        """How many are in each status."""
        return state_backend.counts(self.database)

    def runners(self) -> list[Runner]:
        """The runners that live; what died without a word is none of them."""
        from jobrunner import ownership  # brings psutil, which few clients need

        started = state_backend.runners(self.database)
        alive = ownership.holders(self.database.path, [runner.id for runner in started])
        return [runner for runner in started if runner.id in alive]

    def wait(self, ids: Sequence[int], timeout: float | None) -> list[State]:
        """Block until all are final, woken by each commit; one look costs the same however many are waited for."""
        unfinished = list(ids)

        def are_final() -> bool:
            nonlocal unfinished
            unfinished = self._skip_final(unfinished)
            return not unfinished

        if not self._block_until(are_final, timeout):
            raise WaitTimeout(timeout or 0, self._all_unfinished(unfinished))
        return self.states(ids)

    def await_result(self, invocation_id: int, timeout: float | None) -> Json:
        """Both, and asked for once."""
        came: CameOf

        def is_final() -> bool:
            nonlocal came
            came = state_backend.what_came_of(self.database, invocation_id)
            return came.state.status.is_final

        if not self._block_until(is_final, timeout):
            raise WaitTimeout(timeout or 0, [invocation_id])
        return state_backend.returned(self.database, came)

    def _block_until(self, look: Callable[[], bool], timeout: float | None) -> bool:
        """Look at each commit until it is so; False where it is not after `timeout` seconds."""
        deadline = _deadline(timeout)
        with CommitWatch(self.database) as watch:
            while not look():
                left = 3600.0 if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return False
                watch.wait(left)
        return True

    async def wait_async(self, ids: Sequence[int], timeout: float | None) -> None:
        """The same for asyncio, which sleeps between looks that get rarer."""
        import asyncio

        deadline = _deadline(timeout)
        sleep = _FIRST_SLEEP
        while unfinished := self._skip_final(list(ids)):
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(timeout or 0, self._all_unfinished(unfinished))
            await asyncio.sleep(sleep)
            sleep = min(sleep * 1.5, _LONGEST_SLEEP)

    def follow(self, invocation_id: int, after: int = 0) -> Iterator[LogPiece]:
        """The pieces of output that follow the piece number `after`, as they come, until the job is final."""
        with CommitWatch(self.database) as watch:
            while True:
                # Asked before the pieces are read: what a job wrote is there when it is final.
                is_final = self.states([invocation_id])[0].status.is_final
                while page := self.log(invocation_id, after):
                    yield from page
                    after = page[-1].id
                if is_final:
                    return
                watch.wait(3600.0)

    def _all_unfinished(self, ids: list[int]) -> list[int]:
        return [state.id for state in self.states(ids) if not state.status.is_final]

    def _skip_final(self, ids: list[int]) -> list[int]:
        """The ids from the first unfinished one on."""
        while ids:
            if not self.states(ids[:1])[0].status.is_final:
                return ids
            if len(ids) == 1:
                return []
            page = self.states(ids[:_LOOK_AHEAD])
            done = next((n for n, state in enumerate(page) if not state.status.is_final), len(page))
            ids = ids[done:]
        return ids


def _deadline(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if math.isnan(timeout):
        raise UsageError("a timeout is a number of seconds, and NaN is none")
    return time.monotonic() + timeout
