"""The attempts that wait in a template for a place, so that one begins as soon as another has ended."""

import os
from collections import deque
from collections.abc import Collection
from typing import Any, NamedTuple


class Order(NamedTuple):
    """A worker that is to be forked: its key, its ends of a channel and of two streams, and what it reads first."""

    key: int
    descriptors: list[int]
    first: list[Any]

    def close(self) -> None:
        """Close the descriptors, which whoever made the order has given away."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class Places:
    """Orders are kept until there is a place for them, and taken in the order in which they came."""

    def __init__(self, number: int) -> None:
        self._number = number
        """So many workers may be alive, those that are apart not counted."""
        self.apart: set[int] = set()
        """Workers that are stopped while they wait for others, and need no place."""
        self._orders: deque[Order] = deque()

    def add(self, order: Order) -> None:
        """It waits for a place."""
        self._orders.append(order)

    def next(self, alive: Collection[int]) -> Order | None:
        """The next one, if there is a place for it beside those that are alive."""
        if not self._orders or len(alive) - len(self.apart.intersection(alive)) >= self._number:
            return None
        return self._orders.popleft()

    def drop(self, key: int) -> bool:
        """Forget the one with this key; tells whether it waited here."""
        for order in self._orders:
            if order.key == key:
                self._orders.remove(order)
                order.close()
                return True
        return False

    def drop_all(self) -> list[int]:
        """Forget all; gives their keys."""
        keys = [order.key for order in self._orders]
        self.close()
        self._orders.clear()
        return keys

    def close(self) -> None:
        """Close the descriptors of all."""
        for order in self._orders:
            order.close()
