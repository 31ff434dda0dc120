"""Whether a wait could ever end: who depends on whom, by waiting, and by the places of concurrency limits."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from jobrunner.database import Database
from jobrunner.errors import WaitCycle


class Need(NamedTuple):
    """What a job depends on: all of `on`; and, for a place of a limit, that fewer than `size` of `holders` stay."""

    on: list[int]
    key: str | None = None
    size: int = 0
    holders: Sequence[int] = ()

    @property
    def steps(self) -> list[tuple[int, str | None]]:
        """Whom it depends on, and the limit for whose sake it does."""
        return [*((one, None) for one in self.on), *((one, self.key) for one in self.holders)]


def check(database: Database, waiter: int, awaited: Sequence[int]) -> None:
    """WaitCycle where the waiter would wait for itself, directly, through others, or for a place that it keeps."""
    if not _reaches(database, awaited, waiter):
        return
    needs = _needs(database, waiter, awaited)
    stuck = _stuck(needs)
    if waiter in stuck:
        raise WaitCycle(*_way(needs, stuck, waiter))


def depends(database: Database, one: int, on: int) -> bool:
    """Whether the first can never end before the second has, which has not begun."""
    return _reaches(database, [one], on) and on in _stuck(_needs(database, on, [one]))


def _reaches(database: Database, awaited: Sequence[int], waiter: int) -> bool:
    return bool(database.query("depends_on_itself", id=waiter, awaited=json.dumps(list(awaited)))[0][0])


def _needs(database: Database, waiter: int, awaited: Sequence[int]) -> dict[int, Need]:
    """The needs of the waiter and of all on whom it depends."""
    needs = {waiter: Need(list(awaited))}
    to_see = list(awaited)
    while to_see:
        one = to_see.pop()
        if one not in needs:
            needs[one] = _need(database, one)
            to_see += [following for following, _ in needs[one].steps]
    return needs


def _need(database: Database, one: int) -> Need:
    on = [row[0] for row in database.query("needs_of", id=one)]
    place = database.one("place_needed", id=one)
    if place is None:
        return Need(on)
    key, size = place
    return Need(on, key, size, [row[0] for row in database.query("place_holders", key=place[0])])


def _stuck(needs: dict[int, Need]) -> set[int]:
    """Those that can never end: what is left when all are taken away that can, until nothing changes."""
    stuck = set(needs)
    while free := {one for one in stuck if _can_end(needs[one], stuck)}:
        stuck -= free
    return stuck


def _can_end(need: Need, stuck: set[int]) -> bool:
    staying = sum(one in stuck for one in need.holders)
    return stuck.isdisjoint(need.on) and (need.key is None or staying < need.size)


def _way(needs: dict[int, Need], stuck: set[int], start: int) -> tuple[list[int], list[str | None]]:
    """The shortest way from `start` back to it over those that are stuck; and the limit, or None, of each step."""
    came_from: dict[int, tuple[int, str | None]] = {}
    at_hand = [start]
    while start not in came_from:
        one = at_hand.pop(0)
        for following, key in needs[one].steps:
            if following in stuck and following not in came_from:
                came_from[following] = (one, key)
                at_hand.append(following)
    way, keys = [start], []
    while len(way) == 1 or way[-1] != start:
        before, key = came_from[way[-1]]
        way.append(before)
        keys.append(key)
    return way[::-1], keys[::-1]
