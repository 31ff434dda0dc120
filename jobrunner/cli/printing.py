"""How facts are printed: JSON and tab-separated lines for programs, tables for people."""

import json
import sys
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from jobrunner.cli.session import Session
from jobrunner.models import Json
from jobrunner.text import visible

TABLE_ROWS = 1000
"""How many rows of a table are laid out together."""


def write(text: str) -> None:
    """A line."""
    sys.stdout.write(f"{text}\n")


def write_json(facts: Json) -> None:
    """A line of JSON, whole, and harmless on a terminal: what cannot be seen is escaped."""
    text = json.dumps(facts, ensure_ascii=False, separators=(", ", ": "))
    if not text.isprintable():
        text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    write(text)


def write_tabs(values: Iterable[object]) -> None:
    """A line of values with tabs between; None is empty, and tabs and newlines inside of a value are written out."""
    write("\t".join("" if value is None else visible(str(value)) for value in values))


def write_ids(called: Session, ids: Iterable[int]) -> None:
    """The numbers of jobs, a line each."""
    for one in ids:
        write_json({"id": one}) if called.json else write(str(one))


def write_table(
    called: Session, heads: Sequence[str], rows: Iterable[Sequence[object]], *, shrink: Collection[str] | None = None
) -> None:
    """A table as wide as the terminal; where that is too narrow, the columns `shrink` are cut (None: any is folded)."""
    from jobrunner.cli import tables  # brings rich, which only people need

    console, rest = tables.console(called), iter(rows)
    while page := list(islice(rest, TABLE_ROWS)):
        tables.write(console, heads, page, shrink)


def write_records(called: Session, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table where the terminal is wide enough for it, else a line for each value; nothing is cut."""
    from jobrunner.cli import tables  # as above

    rest = iter(rows)
    while page := list(islice(rest, TABLE_ROWS)):
        widths = [max(len(visible(str(row[n]))) for row in [columns, *page]) for n in range(len(columns))]
        if sum(widths) + 2 * len(widths) <= tables.console(called).width:
            write_table(called, columns, page)
        else:
            for row in page:
                _write_record(columns, row)


def _write_record(columns: Sequence[str], row: Sequence[object]) -> None:
    width = max(len(visible(name)) for name in columns)
    for name, value in zip(columns, row, strict=True):
        write(f"{visible(name):>{width}}  {'' if value is None else visible(str(value))}")
    write("")
