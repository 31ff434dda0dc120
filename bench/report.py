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


class Ratio(NamedTuple):
    """One figure over another; the median of the rounds' ratios, since both drift together within a round."""

    words: str
    over: str
    under: str
    goal: str


RATIOS = (
    Ratio("enqueue one by one / commits of one row, FULL, our schema", "enqueue_full", "raw_full_schema", ">= 0.8"),
    Ratio("the same, relaxed / NORMAL, our schema", "enqueue_relaxed", "raw_normal_schema", ">= 0.7"),
    Ratio("enqueue_many / rows in bulk, our schema", "enqueue_many", "raw_bulk_schema", ">= 0.35"),
    Ratio("enqueue --jsonl / rows in bulk, our schema", "enqueue_jsonl", "raw_bulk_schema", ""),
    Ratio("commits of one row, FULL, our schema / plain table", "raw_full_schema", "raw_full", ""),
    Ratio("commits of one row, NORMAL, our schema / plain table", "raw_normal_schema", "raw_normal", ""),
    Ratio("rows in bulk, our schema / plain table", "raw_bulk_schema", "raw_bulk", ""),
    Ratio(
        "drain, process mode / fork + task + result, like the template", "drain_process", "raw_task_template", ">= 0.85"
    ),
    Ratio(
        "drain, process mode / fork + exit + wait, like the template", "drain_process", "raw_fork_template", ">= 0.5"
    ),
    Ratio("drain, process mode / huey, best", "drain_process", "huey_best", ""),
    Ratio("drain, thread mode / claim + finish in batches of 100", "drain_thread", "raw_claim_finish", ">= 0.4"),
    Ratio("drain, thread mode / huey, best", "drain_thread", "huey_best", ">= 15"),
    Ratio("drain, thread mode / huey, fsync=False, best", "drain_thread", "huey_best_unsafe", ">= 5"),
    Ratio("latency, thread mode, p50 / huey, p50", "latency_thread_p50", "huey_latency_p50", "< 0.2"),
    Ratio("latency, process mode, p50 / huey, p50", "latency_process_p50", "huey_latency_p50", ""),
    Ratio("CPU: jobrunner enqueue -- true / import typer, apsw", "command_cpu", "imports_cpu", "<= 1.3"),
)


class Conditions(NamedTuple):
    """Where and when it was measured."""

    date: str
    commit: str
    python: str
    sqlite: str
    system: str
    cores: int
    filesystem: str
    rounds: int
    quick: bool


def conditions(folder: Path, rounds: int, *, quick: bool) -> Conditions:
    """Those of this run."""
    return Conditions(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        python=platform.python_version(),
        sqlite=apsw.sqlite_lib_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=len(os.sched_getaffinity(0)),
        filesystem=_filesystem(folder),
        rounds=rounds,
        quick=quick,
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
    """A ratio, measured."""

    words: str
    median: float
    low: float
    high: float
    goal: str


def quotients(rounds: Sequence[Figures]) -> Iterator[Quotient]:
    """The ratios of which both figures were measured."""
    for ratio in RATIOS:
        values = [
            taken[ratio.over] / taken[ratio.under] for taken in rounds if taken.get(ratio.under) and ratio.over in taken
        ]
        if values:
            yield Quotient(ratio.words, statistics.median(values), min(values), max(values), ratio.goal)


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
    yield f"medians of {where.rounds} rounds [lowest, highest]"
    group = ""
    for one in measured:
        if one.group != group:
            group = one.group
            yield f"\n{group}"
        spread = f"[{_number(one.low)}, {_number(one.high)}]"
        yield f"  {one.words:<68} {_number(one.median):>9} {one.unit:<2}  {spread}"
    if ratios:
        yield f"\n{'ratios':<70} {'median':>9}     goal"
    for ratio in ratios:
        yield f"  {ratio.words:<68} {ratio.median:>9.2f}     {ratio.goal:<8} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
