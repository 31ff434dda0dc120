"""Drain rate and latency as work and history grow, as a picture."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench import environments
from bench.report import Summary

PACKAGES = ("matplotlib>=3.9",)
_SIZES = (("empty", "empty"), ("some", "100,000\nfinished"), ("full", "1,000,000 finished,\n200,000 waiting"))
_HISTORY = (
    (
        "drain, thread mode, by what else is in the file",
        "jobs / s",
        tuple((f"drain_{key}", name) for key, name in _SIZES),
    ),
    ("enqueue to result, thread mode, p50", "ms", tuple((f"latency_{key}", name) for key, name in _SIZES)),
)
_WORK = (
    (
        "drain, thread mode, by the jobs queued",
        "jobs / s",
        tuple((f"work_{n}", f"{n:,}") for n in (1000, 5000, 20_000, 50_000)),
    ),
)


def draw(path: Path, measured: Sequence[Summary]) -> None:
    """PNG or SVG, as its name ends; only of what was measured."""
    found = {one.key: one for one in measured}
    plots = []
    for title, unit, bars in (*_WORK, *_HISTORY):
        drawn = [(name, found[key].low, found[key].median, found[key].high) for key, name in bars if key in found]
        if drawn:
            plots.append((title, unit, drawn))
    if not plots:
        raise ValueError("nothing that was measured is in the plots: they need the measures of growth")
    python = environments.make("plots", PACKAGES)
    script = Path(__file__).with_name("drawing.py")
    subprocess.run([str(python), str(script), str(path)], input=json.dumps(plots), text=True, check=True)
