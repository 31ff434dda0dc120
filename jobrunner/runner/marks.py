"""Who has begun, of those that were forked before there was a place for them, or work."""

import mmap
from typing import NamedTuple


class Mark(NamedTuple):
    """A byte that a worker and its template share: 1 from the moment on at which the worker begins."""

    page: mmap.mmap
    place: int


class Marks:
    """A template's: a worker that dies without a word is known to have done nothing where its mark is not set."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._free = list(range(mmap.PAGESIZE))
        self._places: dict[int, int] = {}

    def give(self, key: int) -> Mark:
        """One for the worker with this key, which is not forked yet."""
        if not self._free:
            for begun in [one for one in self._places if self.has_begun(one)]:
                self.forget(begun)
        place = self._free.pop()
        self._page[place] = 0
        self._places[key] = place
        return Mark(self._page, place)

    def has_begun(self, key: int) -> bool:
        """Whether it may have; who has no mark, has begun at its fork."""
        place = self._places.get(key)
        return place is None or self._page[place] == 1

    def forget(self, key: int) -> None:
        """It is gone, or is known to have begun."""
        place = self._places.pop(key, None)
        if place is not None:
            self._free.append(place)
