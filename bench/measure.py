"""What a measure is, and how one is taken: alone in a process, in an empty folder."""

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parent.parent
MODULES = ("bench.raw", "bench.ours", "bench.latency", "bench.growth", "bench.peers")
"""Where measures are, in the order in which they are taken and shown."""


class Place(NamedTuple):
    """Where a measure is taken: its own empty folder; `quick`: only to see that it can be taken."""

    folder: Path
    quick: bool

    @property
    def database(self) -> Path:
        """A path for the database."""
        return self.folder / "jobs.db"

    def size(self, normal: int, quick: int) -> int:
        """How much of something."""
        return quick if self.quick else normal


class Figure(NamedTuple):
    """A number that a measure gives: its key, what it is, and in what unit."""

    key: str
    words: str
    unit: str


Figures = dict[str, float]
Measurement = Callable[[Place], Figures]


class Measure(NamedTuple):
    """A function that measures, and what it gives."""

    take: Measurement
    group: str
    figures: tuple[Figure, ...]

    @property
    def name(self) -> str:
        """What `take_alone` finds it by."""
        return f"{self.take.__module__}:{self.take.__name__}"


_measures: list[Measure] = []


def measure(group: str, *figures: tuple[str, str, str]) -> Callable[[Measurement], Measurement]:
    """Make a function a measure of these figures, each (key, words, unit)."""

    def add(take: Measurement) -> Measurement:
        _measures.append(Measure(take, group, tuple(Figure(*figure) for figure in figures)))
        return take

    return add


def all_measures() -> list[Measure]:
    """Every measure that there is."""
    for module in MODULES:
        importlib.import_module(module)
    return sorted(_measures, key=lambda one: MODULES.index(one.take.__module__))


def take_alone(one: Measure, parent: Path, *, quick: bool) -> Figures:
    """Take it in a fresh interpreter, so that no measure has the memory, descriptors or locks of another."""
    with tempfile.TemporaryDirectory(dir=parent, prefix="bench-") as folder:
        words = [sys.executable, "-m", "bench.alone", one.name, folder, str(int(quick))]
        done = subprocess.run(words, cwd=TOP, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures
