"""Which seeds are tried: those that once found something or walk rare ways, and fresh ones."""

from pathlib import Path

from tests.simulation.simulate import simulate

REMEMBERED = (0, 1, 2, 3, 4, 5, 6, 7, 130, 165, 1259836573)
"""Always tried. Who finds a failing seed adds it here, together with the mending."""
FRESH = 12
FRESH_LONG = 300


def try_all(seeds: list[int], folder: Path) -> int:
    """Simulate each in a file of its own; gives the number of steps of all."""
    steps = 0
    for number, seed in enumerate(seeds):
        path = folder / f"{number}.sqlite"
        steps += len(simulate(seed, path))
        for file in folder.glob(f"{path.name}*"):
            file.unlink()
    return steps
