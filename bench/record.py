"""Writes docs/performance.md: the table, its date and conditions, and the plots."""

from collections.abc import Iterator, Sequence

from bench import plot
from bench.measure import TOP
from bench.report import REACHED, Conditions, Quotient, Summary, number

PAGE = TOP / "docs" / "performance.md"
PICTURE = "performance.svg"
_HEAD = """# Performance

Written by `scripts/bench --record`; do not edit it by hand. Medians of {rounds} rounds, in which everything is measured
in turns on the same processors and the same disk. A ratio is the median of the rounds' ratios. All of it is at the
default durability (FULL) unless a line says otherwise; Redis does not wait for its disk.

Measured {date}, commit {commit}: {cores} processors, {system}, Python {python}, SQLite {sqlite}, {filesystem}.
The load average when it ended was {load}; what else
the machine does lowers every figure and spreads the ratios.
"""


def write(where: Conditions, measured: Sequence[Summary], ratios: Sequence[Quotient]) -> None:
    """The page and its picture."""
    plot.draw(PAGE.with_name(PICTURE), measured)
    PAGE.write_text("\n".join(_lines(where, measured, ratios)) + "\n", "utf-8")


def _lines(where: Conditions, measured: Sequence[Summary], ratios: Sequence[Quotient]) -> Iterator[str]:
    yield _HEAD.format(**where._asdict())
    if where.only:
        yield f"This is a part of the bench (`--only {where.only}`); the rest was not measured in this run.\n"
    yield f"![Drain rate and latency as work and history grow]({PICTURE})\n"
    yield "## What it should reach\n"
    yield "| work | measured | ratio | at least | reached? |\n|---|--:|--:|---|---|"
    for one in ratios:
        yield f"| {one.words} | {number(one.measured)} | {one.median:.2f} | {one.goal} | {REACHED[one.reached]} |"
    group = ""
    for figure in measured:
        if figure.group != group:
            group = figure.group
            yield f"\n## Figures: {group}\n\n| work | median | lowest | highest | unit |\n|---|--:|--:|--:|---|"
        spread = f"{number(figure.low)} | {number(figure.high)}"
        yield f"| {figure.words} | {number(figure.median)} | {spread} | {figure.unit} |"
