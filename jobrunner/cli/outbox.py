"""`jobrunner outbox`: make jobs of what an application wrote into its outbox, and see what was no job."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from jobrunner.cli import printing, session
from jobrunner.cli.session import Session
from jobrunner.cli.words import whole
from jobrunner.database import Database
from jobrunner.errors import UsageError
from jobrunner.outbox import Outbox
from jobrunner.outbox_file import OutboxFile, OutboxRow, Refused
from jobrunner.times import iso

_SHOWN = 1000
"""How many rows that wait are listed."""


def outbox(
    context: typer.Context,
    action: Annotated[str, typer.Argument(metavar="drain|list|retry", help="What to do.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="FILE [ROW]", hidden=True)] = None,
) -> None:
    r"""Make jobs of the rows that an application has committed into the outbox of its own database, each once.

    \b
    jobrunner init app.db --outbox
    sqlite3 app.db "INSERT INTO jr_outbox(job) VALUES ('{\"task\": \"shop.tasks:send\", \"args\": {\"user\": 7}}')"
    jobrunner outbox drain app.db      prints how many; or all the time: jobrunner run --outbox app.db
    jobrunner outbox list app.db       what waits, and what is no job, and why
    jobrunner outbox retry app.db 7    put back what was set aside; no row named: all

    A row is an object as in a line of `enqueue --jsonl`, or what code enqueues in a block of
    app.using(connection, outbox=True).
    """
    called, said = session.of(context), words or []
    if not said or action not in ("drain", "list", "retry") or (len(said) > 1 and action != "retry"):
        raise UsageError("type `jobrunner outbox drain FILE`, or list FILE, or retry FILE ROW")
    path = Path(said[0]).absolute()
    if action == "drain":
        _drain(called, path)
        return
    with OutboxFile(path) as file:
        if action == "list":
            _list(called, file)
        else:
            _tell(called, file.retry([whole("the number of a row", word) or 0 for word in said[1:]]))


def _drain(called: Session, path: Path) -> None:
    rows, more = 0, True
    with Database(called.path, create=True) as database, contextlib.closing(Outbox(database, path)) as found:
        while more:
            drained = found.drain()
            rows, more = rows + drained.rows, drained.more
            for one, why in drained.refused:
                called.notice(f"row {one} is set aside: {why}")
    _tell(called, rows)


def _tell(called: Session, rows: int) -> None:
    printing.write_json({"rows": rows}) if called.json else printing.write_tabs([rows])


def _list(called: Session, file: OutboxFile) -> None:
    rows: list[OutboxRow | Refused] = [*file.refused(), *file.rows(0, _SHOWN)]
    for row in rows:
        error = row.error if isinstance(row, Refused) else None
        if called.json:
            printing.write_json({"id": row.id, "at": iso(row.at), "job": row.job, "error": error})
        else:
            printing.write_tabs([row.id, iso(row.at, utc=called.utc), row.job, error])
