"""Which process of threads gets the next job of a turn, and which job gets a process of its own."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

from jobrunner.policy import CRASH_BUDGET
from jobrunner.runner.running import Running
from jobrunner.runner.worker_process import PoolWorker

_NO_END = 1 << 30


class Filling:
    """It begins anew at each turn: within one, processes get work and give none back."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pools: list[PoolWorker] = []
        self._chosen: PoolWorker | None = None
        self._crowded: Iterator[PoolWorker] | None = None

    def begin(self, pools: Iterable[PoolWorker]) -> None:
        """A turn begins with these processes."""
        self._pools, self._chosen, self._crowded = list(pools), None, None

    def started(self, pool: PoolWorker) -> None:
        """One more was started in this turn."""
        self._pools.append(pool)

    def choose(self) -> PoolWorker | None:
        """The busiest that has a free thread, so that the others get idle and can end; None: start a new one.

        Where none may be, what was claimed ahead goes where the fewest wait for a thread.
        """
        if self._crowded:
            return next(self._crowded)
        if self._chosen is None or not self._chosen.has_room:
            having_room = [pool for pool in self._pools if pool.has_room]
            self._chosen = max(having_room, key=lambda pool: pool.active, default=None)
        return self._chosen or self._crowd()

    @property
    def is_crowding(self) -> bool:
        """Whether all that is chosen until the end of the turn waits for a thread."""
        return self._crowded is not None

    def room_behind(self) -> int:
        """For how many more there is room in those that take work and where something moves, free threads or not."""
        return sum(_left(pool) for pool in self._taking if not pool.backlog.is_asked_back)

    @property
    def _taking(self) -> list[PoolWorker]:
        return [pool for pool in self._pools if not (pool.retiring or pool.is_used_up)]

    def _crowd(self) -> PoolWorker | None:
        taking = self._taking
        taking = [pool for pool in taking if not pool.backlog.is_asked_back] or taking  # nothing moves in those
        serving = sum(not pool.retiring for pool in self._pools)
        if not taking or serving < self._most:
            return None
        if all(pool.most is None for pool in taking):
            self._crowded = _evenly(taking)  # for the rest of this turn
            return next(self._crowded)
        return min(taking, key=_held)


def _left(pool: PoolWorker) -> int:
    return _NO_END if pool.most is None else pool.most - pool.done - len(pool.held)


def _held(pool: PoolWorker) -> int:
    return len(pool.held)


def _evenly(pools: Sequence[PoolWorker]) -> Iterator[PoolWorker]:
    """Again and again that which has least, where each is given one more then."""
    for level in itertools.count(min(map(_held, pools))):
        for pool in pools:
            if len(pool.held) <= level:
                yield pool


def needs_its_own_process(running: Running) -> bool:
    """Programs; what has a folder or an environment of its own; and who crashed so often that it is its last chance.

    When a process of threads dies, nobody can tell whose fault it was: alone, the guilty takes no neighbour along
    any more, and the innocent succeeds.
    """
    claimed, policy = running.claimed, running.policy
    return claimed.kind != "function" or bool(policy.cwd or policy.env) or claimed.crashes >= CRASH_BUDGET
