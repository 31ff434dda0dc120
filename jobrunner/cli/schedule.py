"""`jobrunner schedule`: make, list, pause, run and remove schedules, and take them from a crontab."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from jobrunner import fields, schedules
from jobrunner.cli import calls, printing, session
from jobrunner.cli.calls import Call
from jobrunner.cli.group import PROGRAM, ProgramCommand
from jobrunner.cli.session import Session
from jobrunner.cli.words import whole
from jobrunner.database import Database
from jobrunner.errors import ScheduleNotFound, UsageError
from jobrunner.plans import plan_of
from jobrunner.times import instant_ms
from jobrunner.timing import read

SETTINGS = {"schedule": {"cls": ProgramCommand}}


def schedule(
    context: typer.Context,
    action: Annotated[
        str, typer.Argument(metavar="add|list|next|run-now|pause|resume|remove|import", help="What to do.")
    ],
    words: Annotated[list[str] | None, typer.Argument(metavar="[NAME [WHEN] [MODULE:FUNCTION]]", hidden=True)] = None,
    tz: Annotated[
        str | None, typer.Option("--tz", metavar="ZONE", help="As in Europe/Berlin; else this machine's.")
    ] = None,
    sh: Annotated[str | None, typer.Option("--sh", metavar="LINE", help="add: a line for /bin/sh.")] = None,
    overlap: Annotated[
        str, typer.Option("--overlap", metavar="skip|queue|allow|replace", help="While the run before is not finished.")
    ] = "skip",
    missed: Annotated[
        str, typer.Option("--missed", metavar="none|one|all[:AGE]", help="Of the times at which no runner was there.")
    ] = "one",
    jitter: Annotated[
        str | None, typer.Option("--jitter", metavar="DURATION", help="Start each run up to so much later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="add: the end; pause: resume then.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option("-Q", "--queue", metavar="NAME", help="Which queue; else default.")
    ] = None,
    priority: Annotated[
        str | None, typer.Option("-P", "--priority", metavar="N", help="Higher is sooner; else 0.")
    ] = None,
    retries: Annotated[
        str | None, typer.Option("--retries", metavar="N", help="How often to try again after a failure.")
    ] = None,
    backoff: Annotated[str | None, typer.Option("--backoff", metavar="D|D..D", help="As of `enqueue`.")] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Stop an attempt that runs longer.")
    ] = None,
    cwd: Annotated[
        str | None, typer.Option("--cwd", metavar="DIR", help="Where to run; else the current folder.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Set for the job; repeat.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="TEXT", help="For people.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="add: in the place of the one with this name.")] = False,
    count: Annotated[str, typer.Option("-n", metavar="N", help="next: how many; else 10.")] = "10",
    system: Annotated[bool, typer.Option("--system", help="import: lines name a user, as in /etc/crontab.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="import: only say what would be made.")] = False,
) -> None:
    r"""Have jobs enqueued when their time comes. Any runner does it; each time comes once, however many there are.

    \b
    jobrunner schedule add nightly '0 3 * * *' --tz Europe/Berlin shop.tasks:report day=today
    jobrunner schedule add pulse 'every 30s' -- curl -fsS http://localhost/health
    jobrunner schedule add backup @daily --sh 'pg_dump shop | gzip > shop.sql.gz'
    jobrunner schedule list
    jobrunner schedule next nightly -n 20      its next times, and where the clocks change
    jobrunner schedule pause nightly --until '2030-01-07 08:00'
    jobrunner schedule run-now nightly
    jobrunner schedule import my-crontab       and say what could not be converted

    WHEN is a cron expression of five fields, or six with seconds in front, @hourly, @daily, @weekly, @monthly, @yearly,
    or an interval, 'every 30s'. When the clocks change, a time in the hour that is skipped comes right after it, and
    one in the hour that comes twice, once.
    """
    called, said = session.of(context), list(words or ())
    if action == "add":
        _add(called, context, said)
    elif action == "import":
        from jobrunner.cli.crontab_import import take

        raise typer.Exit(
            take(called, _one(said, "import a crontab: its file, or -"), system=system, rehearse=dry_run, tz=tz)
        )
    elif action == "list" and not said:
        from jobrunner.cli.schedule_list import list_all

        list_all(called)
    elif action == "next":
        from jobrunner.cli.schedule_list import list_next

        list_next(called, _name(said, action), whole("-n", count) or 10)
    elif action in _CHANGES:
        _CHANGES[action](called, _name(said, action), until)
    else:
        _refuse(action)


def _add(called: Session, context: typer.Context, said: list[str]) -> None:
    params = context.params
    if len(said) < 2:
        raise UsageError(
            "`jobrunner schedule add NAME WHEN` and what to do, as in add nightly '0 3 * * *' shop.tasks:report"
        )
    name, when, *rest = said
    call = _call(rest, context.meta.get(PROGRAM), params["sh"])
    request = call.request(fields.options(_fields(params, call)))
    plan = plan_of(
        name,
        read(when, params["tz"]),
        request,
        overlap=params["overlap"],
        missed=params["missed"],
        jitter=params["jitter"],
        until=params["until"],
    )
    with Database(called.path, create=True) as database:
        if not params["replace"] and _is_there(database, name):
            raise UsageError(f"there is a schedule {name!r} already: --replace puts this one in its place")
        schedules.put(database, plan, "command")
        next_at = schedules.schedule(database, name).next_at
    from jobrunner.cli.schedule_list import moment

    called.notice(f"schedule {name}: next {moment(next_at, plan.zone)}")


def _call(words: list[str], program: list[str] | None, sh: str | None) -> Call:
    if (bool(words), program is not None, sh is not None).count(True) != 1:
        raise UsageError("what is to be done? One of MODULE:FUNCTION name=value, `-- PROGRAM ARG`, --sh LINE")
    if sh is not None:
        return Call("shell", sh)
    return calls.program(program) if program is not None else calls.function(words)


def _fields(params: dict[str, Any], call: Call) -> dict[str, Any]:
    from jobrunner.cli.enqueue import variable

    said = {name: params[name] for name in ("queue", "backoff", "timeout", "cwd", "label")}
    said |= {name: whole(f"--{name}", params[name]) for name in ("priority", "retries")}
    said["env"] = dict(variable(word) for word in params["env"] or ())
    said = {name: value for name, value in said.items() if value not in (None, {})}
    if call.kind != "function":
        said.setdefault("cwd", str(Path.cwd()))
    return said


def _is_there(database: Database, name: str) -> bool:
    try:
        schedules.schedule(database, name)
    except ScheduleNotFound:
        return False
    return True


def _run_now(called: Session, name: str, _: str | None) -> None:
    with called.client() as client:
        job = schedules.run_now(client.database, name)
    printing.write_ids(called, [job])


def _pause(called: Session, name: str, until: str | None) -> None:
    with called.client() as client:
        schedules.pause(client.database, name, None if until is None else instant_ms(until))


def _resume(called: Session, name: str, _: str | None) -> None:
    with called.client() as client:
        schedules.resume(client.database, name)


def _remove(called: Session, name: str, _: str | None) -> None:
    with called.client() as client:
        schedules.remove(client.database, name)


_CHANGES: dict[str, Callable[[Session, str, str | None], None]] = {
    "run-now": _run_now,
    "pause": _pause,
    "resume": _resume,
    "remove": _remove,
}


def _name(words: list[str], action: str) -> str:
    return _one(words, f"which schedule? `jobrunner schedule {action} NAME`: `jobrunner schedule list` shows them")


def _one(words: list[str], otherwise: str) -> str:
    if len(words) != 1:
        raise UsageError(otherwise)
    return words[0]


def _refuse(action: str) -> NoReturn:
    raise UsageError(
        f"`jobrunner schedule {action}` is none of add, list, next, run-now, pause, resume, remove and import, "
        "or has a word too many"
    )
