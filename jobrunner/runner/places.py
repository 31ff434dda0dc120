"""What waits in a template for a place, so that one begins as soon as another has ended: orders, and forked workers."""

import os
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple


class Order(NamedTuple):
    """A worker that is to be forked: its key, its ends of a channel and of two streams, and what it reads first."""

    key: int
    descriptors: list[int]
    first: list[Any]

    @property
    def is_spare(self) -> bool:
        """Whether there is no work for it yet."""
        return self.first == ["spare"]

    def close(self) -> None:
        """Close the descriptors, which whoever made the order has given away."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class Places:
    """What is lined up is kept until there is a place for it, and taken in the order in which it came."""

    def __init__(self, number: int) -> None:
        self._number = number
        """So many workers may be alive, those that are apart not counted."""
        self.apart: set[int] = set()
        """Workers that are stopped while they wait for others, and need no place."""
        self._orders: deque[Order] = deque()
        self.ready: dict[int, int] = {}
        """The pids and keys of workers that are forked, and begin when told to: they came before the orders."""

    def add(self, order: Order) -> None:
        """It waits for a place."""
        self._orders.append(order)

    def free(self, alive: Collection[int]) -> int:
        """How many places there are beside those that are alive."""
        return self._number - len(alive) + len(self.apart.intersection(alive))

    def take(self, most: int) -> list[Order]:
        """The first ones, so many at most."""
        return [self._orders.popleft() for _ in range(min(most, len(self._orders)))]

    def put_back(self, orders: Sequence[Order]) -> None:
        """They are the first ones again."""
        self._orders.extendleft(reversed(orders))

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
        for order in self._orders:
            order.close()
        self._orders.clear()
        return keys

    @property
    def descriptors(self) -> list[int]:
        """Of all."""
        return [descriptor for order in self._orders for descriptor in order.descriptors]
