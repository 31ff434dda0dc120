"""Whether a wait could ever end: who depends on whom, by waiting, and by the places of concurrency limits."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from jobrunner.database import Database
from jobrunner.errors import WaitCycle


class Need(NamedTuple):
    """What a job depends on: all of `on`; or, for a place of a limit, that fewer than `size` of `on` stay."""

    on: list[int]
    key: str | None = None
    size: int = 0


def check(database: Database, waiter: int, awaited: Sequence[int]) -> None:
    """WaitCycle where the waiter would wait for itself, directly, through others, or for a place that it keeps."""
    if not database.query("depends_on_itself", id=waiter, awaited=json.dumps(list(awaited)))[0][0]:
        return
    needs = _needs(database, waiter, awaited)
    stuck = _stuck(needs)
    if waiter in stuck:
        raise WaitCycle(*_way(needs, stuck, waiter))


def _needs(database: Database, waiter: int, awaited: Sequence[int]) -> dict[int, Need]:
    """The needs of the waiter and of all on whom it depends."""
    needs = {waiter: Need(list(awaited))}
    to_see = list(awaited)
    while to_see:
        one = to_see.pop()
        if one not in needs:
            needs[one] = _need(database, one)
            to_see += needs[one].on
    return needs


def _need(database: Database, one: int) -> Need:
    place = database.one("place_needed", id=one)
    if place is not None:
        return Need([row[0] for row in database.query("place_holders", key=place[0])], *place)
    return Need([row[0] for row in database.query("needs_of", id=one)])


def _stuck(needs: dict[int, Need]) -> set[int]:
    """Those that can never end: what is left when all are taken away that can, until nothing changes."""
    stuck = set(needs)
    while free := {one for one in stuck if _can_end(needs[one], stuck)}:
        stuck -= free
    return stuck


def _can_end(need: Need, stuck: set[int]) -> bool:
    staying = sum(one in stuck for one in need.on)
    return staying == 0 or (need.key is not None and staying < need.size)


def _way(needs: dict[int, Need], stuck: set[int], start: int) -> tuple[list[int], list[str | None]]:
    """The shortest way from `start` back to it over those that are stuck; and the limit, or None, of each step."""
    came_from: dict[int, int] = {}
    at_hand = [start]
    while start not in came_from:
        one = at_hand.pop(0)
        for following in needs[one].on:
            if following in stuck and following not in came_from:
                came_from[following] = one
                at_hand.append(following)
    way = [start]
    while len(way) == 1 or way[-1] != start:
        way.append(came_from[way[-1]])
    way.reverse()
    return way, [needs[one].key for one in way[:-1]]
