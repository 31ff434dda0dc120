"""`jobrunner enqueue`: a function, a program, a line for the shell, or many of them."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jobrunner import broker
from jobrunner.cli import calls, fields, session
from jobrunner.cli.calls import Call
from jobrunner.cli.group import PROGRAM, ProgramCommand
from jobrunner.cli.session import Session
from jobrunner.cli.words import whole
from jobrunner.database import Database
from jobrunner.errors import UsageError
from jobrunner.models import Enqueued, Json, Request

_TYPED = "jobrunner.typed"


class Enqueue(ProgramCommand):
    """It keeps the words as they were typed, without the program."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """A forgotten `--` is told before the program's options are taken for ours."""
        if "--" not in args and args and not args[0].startswith("-"):
            calls.function(args)
        ctx.meta[_TYPED] = args[: args.index("--")] if "--" in args else list(args)
        return super().parse_args(ctx, args)


SETTINGS = {"enqueue": {"cls": Enqueue, "context_settings": {"ignore_unknown_options": True}}}


def enqueue(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="MODULE:FUNCTION [NAME=VALUE]", hidden=True)] = None,
    sh: Annotated[str | None, typer.Option("--sh", metavar="LINE", help="A line for /bin/sh.")] = None,
    jsonl: Annotated[
        str | None, typer.Option("--jsonl", metavar="FILE|-", help="A job for each line, all or none.")
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="A job for each line of the standard input, {} being the line.")
    ] = False,
    null: Annotated[bool, typer.Option("-0", "--null", help="With --each: items end with NUL.")] = False,
    queue: Annotated[
        str | None, typer.Option("-Q", "--queue", metavar="NAME", help="Which queue; else default.")
    ] = None,
    priority: Annotated[
        str | None, typer.Option("-P", "--priority", metavar="N", help="Higher is sooner; else 0.")
    ] = None,
    in_: Annotated[str | None, typer.Option("--in", metavar="DURATION", help="Not before: 10m, 1h30m.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="Not before: 18:00, 2030-01-31 18:00.")] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DURATION|TIME", help="Not started by then: not at all.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="At most one unfinished job has it.")] = None,
    if_exists: Annotated[
        str | None,
        typer.Option(
            "--if-exists", metavar="skip|replace|error|once", help="Where one has the key; once: or had it; else skip."
        ),
    ] = None,
    retries: Annotated[
        str | None, typer.Option("--retries", metavar="N", help="How often to try again after a failure.")
    ] = None,
    backoff: Annotated[
        str | None, typer.Option("--backoff", metavar="D|D..D", help="Wait 10s before each, or 5s..1h: ever longer.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Stop an attempt that runs longer.")
    ] = None,
    cwd: Annotated[
        str | None, typer.Option("--cwd", metavar="DIR", help="Where to run; commands: else the current folder.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Set for the job; repeat.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="TEXT", help="For people.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", metavar="NAME", help="Make it a member of a batch.")] = None,
    after: Annotated[
        list[str] | None, typer.Option("--after", metavar="ID", help="Begin when that job has succeeded; repeat.")
    ] = None,
    after_any: Annotated[
        list[str] | None, typer.Option("--after-any", metavar="ID", help="Begin when it has ended, however; repeat.")
    ] = None,
    after_failure: Annotated[
        list[str] | None, typer.Option("--after-failure", metavar="ID", help="Begin when it has failed; repeat.")
    ] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Not before `jobrunner retry ID` lets it go.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait, print result or output; exit 1 when it failed.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Say what would be queued; import functions.")] = False,
) -> None:
    r"""Queue a function, a command, or many. Prints the number of each job.

    \b
    jobrunner enqueue shop.tasks:send user:=7 note=hello text=@letter.txt
    jobrunner enqueue --retries 3 --timeout 1h -- ffmpeg -i a.mov b.mp4
    jobrunner enqueue --sh 'mysqldump shop | gzip > shop.sql.gz'
    ls *.wav | jobrunner enqueue --each -- lame {}
    jobrunner enqueue --jsonl jobs.jsonl

    Of a function's arguments, name=value gives text, name:=value JSON, name=@file the text of a file, and
    name:=@7.output what job 7 returns, for which it waits. A line of a --jsonl file is an object with "task" and
    "args" (and "outputs": {"name": 7}), "command" (a list) or "sh", and flags as keys:
    {"task": "shop.tasks:send", "args": {"user": 7}, "queue": "mail", "retries": 3}
    """
    called = session.of(context)
    requests = list(_requests(context, called))
    if check:
        from jobrunner.cli.rehearsal import rehearse

        rehearse(called, requests)
        return
    with Database(called.path, create=True) as database:
        put = broker.put(database, requests)
        _notice(called, database, put)
        if wait:
            from jobrunner.cli.waiting import wait_and_print

            raise typer.Exit(wait_and_print(called, database, [one.id for one in put]))
    _print(called, put)


def _requests(context: typer.Context, called: Session) -> Iterator[Request]:
    parent = called.current_job()
    for request in _read(context.params, context.meta.get(PROGRAM), context.meta[_TYPED]):
        yield request if parent is None else request._replace(parent=parent)


def _read(params: dict[str, Any], program: list[str] | None, typed: list[str]) -> Iterator[Request]:
    said = _said(params)
    if params["jsonl"] is not None:
        if params["words"] or program is not None or params["sh"] is not None or params["each"]:
            raise UsageError("--jsonl says all there is to do: no function, command, --sh or --each beside it")
        from jobrunner.cli.many import from_jsonl

        return from_jsonl(params["jsonl"], said, str(Path.cwd()))
    call = _call(params["words"], program, params["sh"], typed)
    if call.kind != "function":
        said.setdefault("cwd", str(Path.cwd()))
    if not params["each"]:
        return iter([call.request(fields.options(said))])
    from jobrunner.cli.many import from_items

    return from_items(call, said, b"\0" if params["null"] else b"\n")


def _call(words: list[str], program: list[str] | None, sh: str | None, typed: list[str]) -> Call:
    unknown = next((word for word in words if word.startswith("-")), None)
    if unknown is not None and (len(words) == 1 or words[0] == unknown or ":" in words[0]):
        raise UsageError(_no_option(unknown))
    if (bool(words), program is not None, sh is not None).count(True) > 1:
        raise UsageError("one at a time: a function, or a command after `--`, or a line with --sh")
    if sh is not None:
        if not sh.strip():
            raise UsageError("--sh wants a line for the shell, as in --sh 'gzip < a > b'")
        return Call("shell", sh)
    if program is not None:
        return calls.program(program)
    if not words:
        raise UsageError(
            "what is to be queued? `jobrunner enqueue MODULE:FUNCTION name=value` or `jobrunner enqueue -- PROGRAM ARG`"
        )
    return calls.function([words[0], *typed[typed.index(words[0]) + 1 :]] if ":" not in words[0] else words)


def _no_option(word: str) -> str:
    import difflib

    flags = [f"--{name.replace('_', '-')}" for name in (*fields.NAMES, "sh", "jsonl", "each", "wait", "check")]
    near = difflib.get_close_matches(word.partition("=")[0], flags, n=1)
    meant = f": did you mean {near[0]}?" if near else "; the options of a command stand behind `--`"
    return f"enqueue has no option {word}{meant}"


def _said(params: dict[str, Any]) -> dict[str, Json]:
    """The fields that were said, as a --jsonl line would say them."""
    said = {name: params["in_" if name == "in" else name] for name in fields.NAMES}
    said |= {name: whole(f"--{name}", said[name]) for name in ("priority", "retries")}
    said["env"] = dict(variable(word) for word in params["env"])
    said |= {name: _jobs(name, said[name]) for name in fields.AFTER}
    return {name: value for name, value in said.items() if value not in (None, False, {}, [])}


def _jobs(name: str, words: Sequence[str] | None) -> list[int]:
    flag = f"--{name.replace('_', '-')}"
    return [whole(flag, one) or 0 for word in words or () for one in word.split(",")]


def variable(word: str) -> tuple[str, str]:
    """NAME=VALUE of --env."""
    name, equals, value = word.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"--env wants NAME=VALUE, as in --env LANG=C, not {word!r}")
    return name, value


def _notice(called: Session, database: Database, put: Sequence[Enqueued]) -> None:
    skipped = [one.id for one in put if not one.is_new]
    if len(skipped) == 1:
        called.notice(f"not queued: job {skipped[0]} has this key")
    elif skipped:
        called.notice(f"{len(skipped)} not queued: others have their keys")
    if called.hints and len(skipped) < len(put):
        from jobrunner import state_backend

        ids = f"job {put[0].id}" if len(put) == 1 else f"{len(put) - len(skipped)} jobs"
        start = "" if state_backend.runners(database) else "; no runner works here: `jobrunner run` starts one"
        called.notice(f"queued {ids}{start}")


def _print(called: Session, put: Sequence[Enqueued]) -> None:
    if called.json:
        lines = (f'{{"id": {one.id}, "new": {"true" if one.is_new else "false"}}}\n' for one in put)
    else:
        lines = (f"{one.id}\n" for one in put)
    sys.stdout.writelines(lines)
