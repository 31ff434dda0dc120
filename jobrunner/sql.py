"""The .sql files, by name: `-- name: claim` in queries.sql is `QUERIES["claim"]`."""

import re
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent


def schema() -> str:
    """The text of schema.sql: in the package when installed, at the top level in a checkout."""
    inside = _PACKAGE / "schema.sql"
    return (inside if inside.exists() else _PACKAGE.parent / "schema.sql").read_text("utf-8")


def outbox() -> str:
    """The text of outbox.sql."""
    return (_PACKAGE / "outbox.sql").read_text("utf-8")


def migrations(folder: Path = _PACKAGE / "migrations") -> dict[int, str]:
    """The scripts that lead to each schema version, by that version: `0002_edges.sql` leads to 2."""
    return {int(file.name[:4]): file.read_text("utf-8") for file in sorted(folder.glob("[0-9]*.sql"))}


@cache
def queries() -> dict[str, str]:
    """Every named statement of queries.sql, without its comments."""
    blocks = re.split(r"^-- name: (\w+)\n", (_PACKAGE / "queries.sql").read_text("utf-8"), flags=re.MULTILINE)
    if len({*blocks[1::2]}) < len(blocks[1::2]):
        raise ValueError("two statements of queries.sql have the same name")
    bodies = (re.sub(r"^--.*\n", "", body, flags=re.MULTILINE).strip() for body in blocks[2::2])
    return dict(zip(blocks[1::2], bodies, strict=True))
