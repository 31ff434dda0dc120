"""`jobrunner runner list`: the runners, and the processes of threads that they have."""

from typing import Annotated, Any

import typer

from jobrunner import state_backend
from jobrunner.cli import printing, session
from jobrunner.direct_client import DirectClient
from jobrunner.errors import UsageError
from jobrunner.models import Process
from jobrunner.times import iso, now_ms, words

_HEADS = ("runner", "pid", "mode", "slots", "jobs", "process", "threads", "active", "state", "for")


def runner(
    context: typer.Context,
    action: Annotated[str, typer.Argument(metavar="list", help="What to do: list.")],
) -> None:
    r"""List the runners that live: how many jobs each has, and its processes of threads with what they do.

    \b
    jobrunner runner list
    jobrunner runner list --json
    """
    if action != "list":
        raise UsageError(f"there is no `runner {action}`: type `jobrunner runner list`")
    called = session.of(context)
    with called.client() as client:
        facts = _facts(client)
    for one in facts if called.json else []:
        printing.write_json(one | {"since": iso(one["since"])})
    if called.json:
        return
    rows = [_row(one, process) for one in facts for process in one["processes"] or [None]]
    if called.for_people:
        printing.write_table(called, _HEADS, rows)
    else:
        for row in rows:
            printing.write_tabs(row)


def _facts(client: DirectClient) -> list[dict[str, Any]]:
    database = client.database
    with database.snapshot():
        started = state_backend.started_counts(database)
        processes = state_backend.processes(database)
        return [
            {
                "runner": one.id,
                "pid": one.pid,
                "mode": one.mode,
                "slots": one.slots,
                "jobs": started.get(one.id, 0),
                "since": one.started_at,
                "processes": [process._asdict() for process in processes if process.runner == one.id],
            }
            for one in client.runners()
        ]


def _row(one: dict[str, Any], process: dict[str, Any] | None) -> list[object]:
    seen = None if process is None else Process(**process)
    since = one["since"] if seen is None else seen.last_update
    own = [one["runner"], one["pid"], one["mode"], one["slots"], one["jobs"]]
    of_process = [None] * 4 if seen is None else [seen.pid, seen.threads, seen.active, seen.state]
    return [*own, *("" if fact is None else fact for fact in of_process), words(max(0, now_ms() - since))]
