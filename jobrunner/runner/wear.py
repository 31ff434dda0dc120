"""Which processes of threads are worn out: they have done enough jobs, or have grown too large."""

import time
from collections.abc import Iterable, Iterator

import psutil

from jobrunner.runner.worker_process import PoolWorker

_MEMORY_SECONDS = 1.0


class Wear:
    """Asked once a turn; where their memory has a limit, it is looked at once a second."""

    def __init__(self, max_memory: int | None) -> None:
        self._max_memory = max_memory
        self._weighed_at = 0.0

    def worn(self, pools: Iterable[PoolWorker]) -> Iterator[tuple[PoolWorker, str]]:
        """Those that are to take no more work, and why."""
        now = time.monotonic()
        weigh = self._max_memory is not None and now - self._weighed_at >= _MEMORY_SECONDS
        self._weighed_at = now if weigh else self._weighed_at
        for pool in pools:
            if not pool.retiring and pool.is_used_up:
                yield pool, f"{pool.most} jobs are enough"
            elif weigh and not pool.retiring and _resident(pool.pid) > (self._max_memory or 0):
                yield pool, "its memory is above the limit"


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.Error:
        return 0
