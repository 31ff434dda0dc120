"""Rounds of figures, their medians and ratios, as text or JSON."""

import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import psutil

from bench.measure import TOP, Figures, Measure
from bench.targets import TARGETS


class Conditions(NamedTuple):
    """Where and when it was measured."""

    date: str
    commit: str
    python: str
    sqlite: str
    system: str
    cores: int
    filesystem: str
    load: str
    rounds: int
    quick: bool
    only: str


def conditions(folder: Path, rounds: int, *, quick: bool, only: str) -> Conditions:
    """Those of this run."""
    return Conditions(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        python=platform.python_version(),
        sqlite=apsw.sqlite_lib_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)),
        filesystem=_filesystem(folder),
        load=" ".join(f"{one:.1f}" for one in os.getloadavg()),
        rounds=rounds,
        quick=quick,
        only=only,
    )


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    words = [git, "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _filesystem(folder: Path) -> str:
    mounts = [one for one in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(one.mountpoint)]
    return max(mounts, key=lambda one: len(one.mountpoint)).fstype if mounts else "unknown"


class Summary(NamedTuple):
    """One figure over all rounds."""

    group: str
    key: str
    words: str
    unit: str
    median: float
    low: float
    high: float


def summaries(measures: Sequence[Measure], rounds: Sequence[Figures]) -> Iterator[Summary]:
    """The figures, in the order of the measures."""
    for one in measures:
        for key, words, unit in one.figures:
            values = [taken[key] for taken in rounds if key in taken]
            if values:
                yield Summary(one.group, key, words, unit, statistics.median(values), min(values), max(values))


class Quotient(NamedTuple):
    """A target, measured: the median of the rounds' values, since both figures drift together within a round."""

    words: str
    measured: float
    median: float
    low: float
    high: float
    goal: str
    reached: bool | None


def quotients(rounds: Sequence[Figures]) -> Iterator[Quotient]:
    """The targets of which all figures were measured."""
    for target in TARGETS:
        values = [value for taken in rounds if (value := target.of(taken)) is not None]
        if values:
            median = statistics.median(values)
            measured = statistics.median(taken[target.figure] for taken in rounds if target.figure in taken)
            reached = target.reached(median)
            yield Quotient(target.words, measured, median, min(values), max(values), target.bound, reached)


def as_json(where: Conditions, measured: Sequence[Summary], ratios: Sequence[Quotient]) -> dict[str, Any]:
    """All of it for a program."""
    return {
        "conditions": where._asdict(),
        "figures": [one._asdict() for one in measured],
        "ratios": [one._asdict() for one in ratios],
    }


def as_text(where: Conditions, measured: Sequence[Summary], ratios: Sequence[Quotient]) -> Iterator[str]:
    """All of it for people: medians, and in brackets the lowest and the highest of the rounds."""
    yield f"jobrunner bench, {where.date}, commit {where.commit}{', QUICK: the numbers mean nothing' * where.quick}"
    yield f"Python {where.python}, SQLite {where.sqlite}, {where.cores} cores, {where.filesystem}, {where.system}"
    yield f"load average {where.load}; medians of {where.rounds} rounds [lowest, highest]"
    group = ""
    for one in measured:
        if one.group != group:
            group = one.group
            yield f"\n{group}"
        spread = f"[{number(one.low)}, {number(one.high)}]"
        yield f"  {one.words:<68} {number(one.median):>9} {one.unit:<2}  {spread}"
    if ratios:
        yield f"\n{'work':<58} {'measured':>9} {'ratio':>9}  {'at least':<8} reached?"
    for ratio in ratios:
        spread = f"[{ratio.low:.2f}, {ratio.high:.2f}]"
        yield (
            f"  {ratio.words:<56} {number(ratio.measured):>9} {ratio.median:>9.2f}  {ratio.goal:<8} "
            f"{REACHED[ratio.reached]:<8} {spread}"
        )


REACHED = {True: "yes", False: "NO", None: ""}


def number(value: float) -> str:
    """With as many digits as mean something."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
