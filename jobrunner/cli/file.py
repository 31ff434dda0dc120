"""The database file itself: `jobrunner init` makes it, `jobrunner sql` asks it, `jobrunner backup` copies it."""

import itertools
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from jobrunner import backup as backups
from jobrunner import errands
from jobrunner import guest as guests
from jobrunner.cli import printing, session
from jobrunner.cli.session import Session
from jobrunner.database import Database
from jobrunner.errors import UsageError


def init(
    context: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="An application's own database may get the tables, too.")
    ] = None,
    outbox: Annotated[
        bool, typer.Option("--outbox", help="Make no more in FILE than an outbox, for jobs in another database.")
    ] = False,
) -> None:
    """Make the database. Prints its path; one that is there is left as it is.

    With a FILE that an application has made, the tables of jobrunner are made in it, beside those that it has, and
    it is put into WAL mode: then jobs can be enqueued in the application's own transactions. With --outbox it gets
    a table into which the application writes what is to become jobs in another database: see `jobrunner outbox`.
    """
    called = session.of(context)
    if outbox:
        _init_outbox(called, file)
        return
    target = called.path if file is None else Path(file).absolute()
    if file is not None and target.exists():
        left_out = guests.install_into(target)
        if left_out:
            called.notice(f"left out, since the application has these names: {', '.join(left_out)}")
    with Database(target, create=True) as database:
        path = str(database.path)
    if called.json:
        printing.write_json({"path": path})
    else:
        printing.write_tabs([path])


def _init_outbox(called: Session, file: str | None) -> None:
    if file is None:
        raise UsageError("whose outbox? `jobrunner init FILE --outbox` names the application's own database")
    target = Path(file).absolute()
    if target == called.path:
        raise UsageError(
            "an outbox is for an application whose database is not the one of the jobs: leave --outbox out"
        )
    guests.install_outbox_into(target)
    printing.write_json({"path": str(target)}) if called.json else printing.write_tabs([str(target)])


def backup(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="FILE", help="Where the copy goes.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    r"""Copy the database, consistently, while runners work. The copy is private, checked, and has its name when whole.

    \b
    jobrunner backup /var/backups/jobs.db
    jobrunner --db /var/backups/jobs.db list status:failed

    A runner on the copy would take the jobs that were running for those of a dead runner, and do them again.
    """
    called = session.of(context)
    signal.signal(signal.SIGTERM, _leave)  # what is unfinished is taken away
    size = backups.backup(called.path, Path(target).absolute(), replace=force)
    if called.json:
        printing.write_json({"path": target, "bytes": size})
    else:
        printing.write_tabs([target])


def _leave(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def sql(
    context: typer.Context,
    statement: Annotated[str | None, typer.Argument(metavar="SQL|-", hidden=True)] = None,
    write: Annotated[bool, typer.Option("--write", help="Let it change the database.")] = False,
) -> None:
    r"""Ask the database in SQL. Without SQL, or with -, it is read from the standard input.

    \b
    jobrunner sql "SELECT task, count(*) FROM jobs GROUP BY task"
    jobrunner sql --write "UPDATE jobs SET status = 'cancelled' WHERE queue = 'mail'"

    The views to ask: jobs, history, attempts, output, failures, queues, runners. Piped output is tab-separated,
    without a line of names.
    """
    called = session.of(context)
    script = sys.stdin.read() if statement in (None, "-") else str(statement)
    if not script.strip():
        raise UsageError('there is no SQL: type it as in `jobrunner sql "SELECT * FROM queues"`')
    rows = errands.ask(called.path, script, write=write)
    if called.json:
        for found in rows:
            printing.write_json(dict(zip(found.columns, map(_plain, found.row), strict=True)))
    elif called.for_people:
        for _, group in itertools.groupby(rows, key=lambda found: found.statement):
            first = next(group)
            rows_of_it = ([_plain(value) for value in one.row] for one in itertools.chain([first], group))
            printing.write_records(called, first.columns, rows_of_it)
    else:
        for found in rows:
            printing.write_tabs(map(_plain, found.row))


def _plain(value: object) -> object:
    """Bytes as text; what is not UTF-8 of them is written out."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
