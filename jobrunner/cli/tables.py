"""Tables for people, laid out by rich."""

from collections.abc import Collection, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobrunner.cli.session import Session
from jobrunner.text import visible

_STYLES = {
    "success": "green",
    "failed": "red",
    "running": "cyan",
    "resumed": "cyan",
    "paused": "yellow",
    "cancelled": "dim",
    "expired": "dim",
}


def console(called: Session) -> Console:
    """The terminal, or what stands for it."""
    forced = True if called.color == "always" else None
    colors: Literal["auto"] | None = None if called.color == "never" else "auto"
    return Console(highlight=False, markup=False, emoji=False, force_terminal=forced, color_system=colors)


def write(console: Console, heads: Sequence[str], rows: list[Sequence[object]], shrink: Collection[str] | None) -> None:
    """A table as wide as the terminal; where that is too narrow, the columns `shrink` are cut (None: any is folded)."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, head in enumerate(heads):
        is_number = all(isinstance(row[number], int | float | None) for row in rows)
        firm = shrink is not None and head not in shrink
        table.add_column(Text(visible(head)), no_wrap=firm, overflow="fold", justify="right" if is_number else "left")
    # A text that is not to be wrapped is cut where its column is narrower.
    cut = {} if shrink is None else {"no_wrap": True, "overflow": "ellipsis"}
    for row in rows:
        texts = ("" if value is None else visible(str(value)) for value in row)
        table.add_row(*(Text(text, style=_STYLES.get(text, ""), **cut) for text in texts))  # type: ignore[arg-type]
    console.print(table)
