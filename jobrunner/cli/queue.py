"""`jobrunner queue`: pause queues, and limit how many of their jobs run or begin."""

from typing import Annotated

import typer

from jobrunner import queues, state_backend
from jobrunner.arrangements import QueueSetting
from jobrunner.cli import printing, session
from jobrunner.cli.session import Session
from jobrunner.cli.words import whole
from jobrunner.database import Database
from jobrunner.errors import UsageError
from jobrunner.times import instant_ms, iso, now_ms

_HEADS = ("queue", "pending", "running", "paused", "scheduled", "blocked", "is", "concurrency", "rate")


def queue(
    context: typer.Context,
    action: Annotated[str, typer.Argument(metavar="list|pause|resume|limit", help="What to do.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", hidden=True)] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="pause: and resume then.")] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(
            "--concurrency",
            metavar="N",
            help="limit: so many jobs at a time, over all runners.",
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="N/TIME", help="limit: so many begin in any such time: 100/min, 50/s."),
    ] = None,
) -> None:
    r"""See queues, pause them, limit them. It holds for all runners, from their next claim on; what runs goes on.

    \b
    jobrunner queue list
    jobrunner queue pause mail --until '2030-01-07 08:00'
    jobrunner queue resume mail
    jobrunner queue limit mail --concurrency 4 --rate 100/min
    jobrunner queue limit mail                      without limits again

    A job that waits for results of others takes no place; when it has them, it goes on before others begin.
    """
    called, said = session.of(context), names or []
    if action == "list" and not said:
        _list(called)
    elif action in ("pause", "resume", "limit") and len(said) == 1:
        with Database(called.path, create=True) as database:
            if action == "pause":
                queues.pause(database, said[0], None if until is None else instant_ms(until))
            elif action == "resume":
                queues.resume(database, said[0])
            else:
                queues.limit(database, said[0], concurrency=whole("--concurrency", concurrency), rate=rate)
    else:
        raise UsageError("type `jobrunner queue list`, or pause, resume or limit with the name of one queue")


def _list(called: Session) -> None:
    with called.client() as client, client.database.snapshot():
        counts = {one.queue: one for one in state_backend.queue_counts(client.database)}
        said = {one.queue: one for one in queues.settings(client.database)}
    rows = [_row(name, counts.get(name), said.get(name)) for name in sorted(counts.keys() | said.keys())]
    if called.for_people:
        short = [[row[0], row[1], row[2], row[6], row[7], row[8]] for row in rows]
        printing.write_table(
            called, ("queue", "pending", "running", "is", "at a time", "rate"), short, shrink={"queue"}
        )
    for row in rows if not called.for_people else []:
        printing.write_json(dict(zip(_HEADS, row, strict=True))) if called.json else printing.write_tabs(row)


def _row(name: str, counted: state_backend.QueueCounts | None, said: QueueSetting | None) -> list[object]:
    numbers = list(counted)[1:] if counted is not None else [0] * 5
    if said is None:
        return [name, *numbers, "on", None, None]
    rate = None if said.rate is None else f"{said.rate}/{(said.period or 0) / 1000:g}s"
    return [name, *numbers, _state(said), said.concurrency, rate]


def _state(said: QueueSetting) -> str:
    if said.paused_until is None or said.paused_until <= now_ms():
        return "on"
    return "paused" if said.paused_until == queues.FOREVER else f"paused until {iso(said.paused_until)}"
