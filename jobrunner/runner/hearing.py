"""The descriptors that a runner listens to, and who heeds each."""

import select
from collections.abc import Callable

from jobrunner.lifetime import Closing

_READ = select.POLLIN | select.POLLPRI
_ROOM = select.POLLOUT


class Hearing(Closing):
    """It ends with `close`; what was listened to is closed by its owner.

    They are few, and most are listened to for some milliseconds: with `poll` that costs no call of the system.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._heeds: dict[int, Callable[[int], None]] = {}

    def close(self) -> None:
        """Listen to nothing any more."""
        for descriptor in list(self._heeds):
            self.ignore(descriptor)

    def listen(self, descriptor: int, heed: Callable[[int], None]) -> None:
        """From now on call `heed` whenever there is something to read."""
        self._poll.register(descriptor, _READ)
        self._heeds[descriptor] = heed

    def listens_to(self, descriptor: int) -> bool:
        """Whether `listen` was called for it, and `ignore` not."""
        return descriptor in self._heeds  # of a closed socket it is -1

    def listen_for_room(self, descriptor: int, *, wanted: bool) -> None:
        """Whether to be called, too, when something can be written."""
        self._poll.modify(descriptor, _READ | _ROOM if wanted else _READ)

    def ignore(self, descriptor: int) -> None:
        """Listen to it no longer."""
        del self._heeds[descriptor]
        self._poll.unregister(descriptor)

    def hear(self, patience: float) -> set[int]:
        """Sleep until something comes, for `patience` seconds at most, and have all that came heeded; tells whence."""
        heard = [descriptor for descriptor, _ in self._poll.poll(max(0.0, patience) * 1000)]
        for descriptor in heard:
            heed = self._heeds.get(descriptor)  # an earlier event of this turn may have ended it
            if heed is not None:
                heed(descriptor)
        return set(heard)
