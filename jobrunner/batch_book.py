"""`app.batch(...)`: a batch as its maker holds it."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from jobrunner import batches, options
from jobrunner.arrangements import Batch
from jobrunner.batches import Callbacks
from jobrunner.client import Client
from jobrunner.commit_watch import CommitWatch
from jobrunner.database import Database
from jobrunner.direct_client import DirectClient
from jobrunner.errors import UsageError, WaitTimeout
from jobrunner.models import InvocationId

_LONG = 3600.0


class OpenBatch:
    """It completes when it is closed and all members have ended; in a `with` block every enqueue joins it."""

    def __init__(self, client: Callable[[], Client], name: str, callbacks: Callbacks) -> None:
        self._client = client
        self.name = name
        self.id = batches.make(self._database, name, callbacks, is_open=True)

    @property
    def _database(self) -> Database:
        client = self._client()
        if not isinstance(client, DirectClient):
            raise UsageError("in a job, others join a batch by its name: task.options(batch='nightly').enqueue()")
        return client.database

    def __enter__(self) -> Self:
        self._joining = options.joining.set(self.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        options.joining.reset(self._joining)
        self.close()

    def close(self) -> None:
        """All that is to come from here is in; members may add others still."""
        batches.close(self._database, self.id)

    @property
    def facts(self) -> Batch:
        """How many members it has, and how many of them have ended how."""
        return batches.by_number(self._database, self.id)

    @property
    def ids(self) -> list[InvocationId]:
        """The numbers of its members."""
        return batches.members(self._database, self.id)

    def wait(self, timeout: float | None = None) -> Batch:
        """Block until it is complete, at most so many seconds; it does not raise what its members raised."""
        return wait(self._database, self.id, timeout)

    def cancel(self) -> list[InvocationId]:
        """Call off what has not ended; gives the numbers."""
        return batches.cancel(self._database, self.id)

    def retry(self) -> list[InvocationId]:
        """Have those done again that did not succeed; gives the numbers."""
        return batches.retry(self._database, self.id)


def wait(
    database: Database, batch_id: int, timeout: float | None, look: Callable[[Batch], float] = lambda _: _LONG
) -> Batch:
    """Block until it is complete; `look` is called at each commit, and says for how many seconds to sleep at most."""
    deadline = time.monotonic() + (_LONG * 24 * 365 if timeout is None else timeout)
    with CommitWatch(database) as watch:
        while (batch := batches.by_number(database, batch_id)).finished_at is None:
            sleep = look(batch)
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(timeout or 0, batches.members(database, batch_id, unfinished_only=True))
            watch.wait(min(left, sleep))
    look(batch)
    return batch
