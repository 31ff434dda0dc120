"""The descriptors that a runner listens to, and who heeds each."""

import selectors
from collections.abc import Callable

from jobrunner.lifetime import Closing


class Hearing(Closing):
    """It ends with `close`; what was listened to is closed by its owner."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def close(self) -> None:
        """Listen to nothing any more."""
        self._selector.close()

    def listen(self, descriptor: int, heed: Callable[[int], None]) -> None:
        """From now on call `heed` whenever there is something to read."""
        self._selector.register(descriptor, selectors.EVENT_READ, heed)

    def listens_to(self, descriptor: int) -> bool:
        """Whether `listen` was called for it, and `ignore` not."""
        return descriptor >= 0 and descriptor in self._selector.get_map()  # of a closed socket it is -1

    def listen_for_room(self, descriptor: int, *, wanted: bool) -> None:
        """Whether to be called, too, when something can be written."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        self._selector.modify(descriptor, events, self._selector.get_key(descriptor).data)

    def ignore(self, descriptor: int) -> None:
        """Listen to it no longer."""
        self._selector.unregister(descriptor)

    def hear(self, patience: float) -> set[int]:
        """Sleep until something comes, for `patience` seconds at most, and have all that came heeded; tells whence."""
        heard = self._selector.select(patience)
        for key, mask in heard:
            if self.listens_to(key.fd):  # an earlier event of this turn may have ended it
                key.data(mask)
        return {key.fd for key, _ in heard}
