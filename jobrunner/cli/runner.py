"""`jobrunner runner list` and `stop`: the runners, the processes of threads that they have, and ending one."""

from typing import Annotated, Any

import typer

from jobrunner import state_backend
from jobrunner.cli import printing, session
from jobrunner.cli.session import Session
from jobrunner.cli.words import runner_id
from jobrunner.direct_client import DirectClient
from jobrunner.errors import UsageError
from jobrunner.models import Process
from jobrunner.pulse import pulses
from jobrunner.times import duration_ms, iso, now_ms, words

_HEADS = ("runner", "pid", "is", "mode", "slots", "jobs", "process", "threads", "active", "state", "for")
_STOP_WITHIN = "1m"


def runner(
    context: typer.Context,
    action: Annotated[str, typer.Argument(metavar="list|stop", help="What to do.")],
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)] = None,
    kill: Annotated[bool, typer.Option("--kill", help="stop: kill it, and give its jobs back.")] = False,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="stop: exit 124 when it has not stopped by then.")
    ] = _STOP_WITHIN,
) -> None:
    r"""List the runners that have not stopped, or stop one. TERM lets its jobs finish for a while, --kill does not.

    A runner is live; stalled, when its process is stopped or its loop does not turn; or dead. One that is stalled
    keeps its jobs until it is killed.

    \b
    jobrunner runner list
    jobrunner runner list --json
    jobrunner runner stop 3
    jobrunner runner stop 3 --kill
    """
    called = session.of(context)
    if action == "list" and not ids and not kill:
        _list(called)
    elif action == "stop":
        _stop(called, runner_id(ids or ()), duration_ms(timeout) / 1000, kill)
    else:
        raise UsageError("type `jobrunner runner list`, or `jobrunner runner stop 3` with the number of a runner")


def _stop(called: Session, number: int, seconds: float, by_force: bool) -> None:
    from jobrunner.runner.dismissal import dismiss  # brings psutil

    with called.client() as client:
        stopped, rescued = dismiss(client.database, number, seconds, by_force=by_force)
    back = None if rescued is None else rescued.jobs
    if called.json:
        printing.write_json({"runner": stopped.id, "stop_reason": stopped.stop_reason, "jobs_given_back": back})
        return
    given_back = "" if back is None else f"; its jobs were given back: {back}"
    called.notice(f"runner {stopped.id} has stopped: {stopped.stop_reason}{given_back}")


def _list(called: Session) -> None:
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
    for one in facts:
        if one["note"]:
            called.notice(f"runner {one['runner']} is {one['is']}: {one['note']}")


def _facts(client: DirectClient) -> list[dict[str, Any]]:
    database = client.database
    with database.snapshot():
        runners = state_backend.runners(database)
        started = state_backend.started_counts(database)
        processes = state_backend.processes(database)
    seen = pulses(database.path, runners)
    return [
        {
            "runner": one.id,
            "pid": one.pid,
            "is": seen[one.id].life.value,
            "note": seen[one.id].note,
            "mode": one.mode,
            "slots": one.slots,
            "jobs": started.get(one.id, 0),
            "since": one.started_at,
            "stale": one.stale,
            "processes": [process._asdict() for process in processes if process.runner == one.id],
        }
        for one in runners
    ]


def _row(one: dict[str, Any], process: dict[str, Any] | None) -> list[object]:
    seen = None if process is None else Process(**process)
    since = one["since"] if seen is None else seen.last_update
    own = [one["runner"], one["pid"], one["is"], one["mode"], one["slots"], one["jobs"]]
    of_process = [None] * 4 if seen is None else [seen.pid, seen.threads, seen.active, seen.state]
    return [*own, *("" if fact is None else fact for fact in of_process), words(max(0, now_ms() - since))]
