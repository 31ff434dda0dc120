"""`jobrunner prune`: forget finished jobs."""

from typing import Annotated

import typer

from jobrunner import prune as pruning
from jobrunner.cli import printing, session
from jobrunner.cli.words import whole
from jobrunner.errors import UsageError
from jobrunner.prune import FINAL, Rule
from jobrunner.status import Status
from jobrunner.times import duration_ms


def prune(
    context: typer.Context,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="DURATION", help="Only what ended longer ago.")
    ] = None,
    keep_last: Annotated[
        str | None, typer.Option("--keep-last", metavar="N", help="Of each task so many stay, the newest.")
    ] = None,
    status: Annotated[
        str | None, typer.Option("--status", metavar="S,S", help="Only these: success, failed, cancelled, expired.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell how many it would be.")] = False,
) -> None:
    r"""Forget finished jobs, with their output and history, a few at a time. Prints how many.

    \b
    jobrunner prune --older-than 30d
    jobrunner prune --keep-last 1000 --status success
    jobrunner run --keep 30d          the same all the time, by the runner, when it has nothing to do

    What is not finished, or awaited, stays, and so does the newest job. With --older-than, what became of the instants
    of schedules is forgotten by the same age, if it is a day old, and so are batches without members. The file keeps
    its size: new jobs fill it.
    """
    called = session.of(context)
    last = whole("--keep-last", keep_last)
    if older_than is None and last is None:
        raise UsageError("prune wants --older-than or --keep-last: which finished jobs are to go?")
    if last is not None and last < 0:
        raise UsageError("--keep-last cannot be negative")
    age = None if older_than is None else duration_ms(older_than)
    with called.client() as client:
        gone = pruning.prune(client.database, Rule(age, _statuses(status), last), rehearse=dry_run)
    if called.json:
        printing.write_json({**gone._asdict(), "dry_run": dry_run})
    else:
        printing.write_tabs([gone.jobs])


def _statuses(words: str | None) -> tuple[Status, ...]:
    if words is None:
        return FINAL
    known = {status.value: status for status in FINAL}
    if unknown := [word for word in words.split(",") if word not in known]:
        raise UsageError(f"{unknown[0]!r} is no final status: there are {', '.join(known)}")
    return tuple(known[word] for word in words.split(","))
