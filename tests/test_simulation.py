"""The roles under faults, in a simulated world; a seed decides everything, and can be tried again: --seed N."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobrunner import times
from tests.simulation.seeds import FRESH, FRESH_LONG, REMEMBERED, try_all
from tests.simulation.simulate import simulate

BITS = 4
pytestmark = pytest.mark.timeout(300)
"""A busy machine makes a minute of a few seconds."""


def fresh(count: int) -> list[int]:
    return [int.from_bytes(os.urandom(BITS)) for _ in range(count)]


def test_the_same_seed_takes_the_same_way(folder: Path) -> None:
    first, second = (simulate(7, folder / f"{name}.sqlite") for name in "ab")
    assert first == second
    assert len(first) > 100


def test_the_seeds_that_are_remembered_hold(folder: Path, seeds_asked_for: list[int]) -> None:
    try_all(seeds_asked_for or list(REMEMBERED), folder)


def test_fresh_seeds_hold(folder: Path, seeds_asked_for: list[int], say: Callable[[str], None]) -> None:
    if seeds_asked_for:
        pytest.skip("a seed was asked for")
    seeds = fresh(FRESH)
    say(f"fresh seeds: {seeds}")
    try_all(seeds, folder)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_very_many_fresh_seeds_hold(folder: Path, seeds_asked_for: list[int], say: Callable[[str], None]) -> None:
    if seeds_asked_for:
        pytest.skip("a seed was asked for")
    seeds = fresh(FRESH_LONG)
    say(f"fresh seeds: {seeds}")
    try_all(seeds, folder)


def test_the_clock_is_another_one_in_its_block_alone() -> None:
    with times.clocks(times.Clocks(lambda: 7, lambda: 5)):
        assert (times.now_ms(), times.steady_ms()) == (7, 5)
    assert times.now_ms() > 7
