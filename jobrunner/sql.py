"""The .sql files, by name: `-- name: claim` in queries.sql is `QUERIES["claim"]`."""

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
    named: dict[str, str] = {}
    for block in (_PACKAGE / "queries.sql").read_text("utf-8").split("\n-- name: ")[1:]:
        name, _, body = block.partition("\n")
        if name in named:
            raise ValueError(f"two statements of queries.sql have the name {name!r}")
        named[name] = "\n".join(line for line in body.split("\n") if not line.startswith("--")).strip()
    return named
