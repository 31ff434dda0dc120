"""`jobrunner run`: the runner in the foreground, and what it tells."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from jobrunner.app import App
from jobrunner.cli import session
from jobrunner.cli.session import Session
from jobrunner.cli.words import whole
from jobrunner.errors import UsageError
from jobrunner.text import visible
from jobrunner.times import duration_ms, iso

_FORMATS = ("text", "json")


def run(
    context: typer.Context,
    queues: Annotated[list[str] | None, typer.Argument(metavar="QUEUE", hidden=True)] = None,
    jobs: Annotated[
        str | None, typer.Option("-j", "--jobs", metavar="N", help="So many at a time; else one for each processor.")
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", metavar="process|thread", help="A process for each job, or threads in processes.")
    ] = "process",
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="N", help="With --mode thread: so many a process; else 8.")
    ] = None,
    min_processes: Annotated[
        str | None, typer.Option("--min-processes", metavar="N", help="Threads: processes kept when idle; else 1.")
    ] = None,
    idle_timeout: Annotated[
        str | None, typer.Option("--idle-timeout", metavar="DURATION", help="Threads: end idle processes; else 1m.")
    ] = None,
    max_tasks: Annotated[
        str | None, typer.Option("--max-tasks-per-child", metavar="N", help="Threads: a new process after so many.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", metavar="BYTES", help="Threads: a new process above so much.")
    ] = None,
    max_paused: Annotated[
        str | None, typer.Option("--max-paused", metavar="N", help="How many jobs may wait for others; else by memory.")
    ] = None,
    drain: Annotated[bool, typer.Option("--drain", help="End when all that is due is done.")] = False,
    max_jobs: Annotated[str | None, typer.Option("--max-jobs", metavar="N", help="End after so many jobs.")] = None,
    max_idle: Annotated[
        str | None, typer.Option("--max-idle", metavar="DURATION", help="End when there was nothing to do for so long.")
    ] = None,
    imports: Annotated[
        list[str] | None, typer.Option("--import", metavar="MODULE", help="Import it once, before any job; repeat.")
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="For development: load the code anew when a source file of it changes.")
    ] = False,
    pass_env: Annotated[
        list[str] | None,
        typer.Option("--pass-env", metavar="NAME", help="A variable that commands see, too: 'AWS_*', '*'; repeat."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="PATTERN", help="Do nothing else: 'shop.*:*', command:gzip, 'shell:*'; repeat."),
    ] = None,
    app_dir: Annotated[
        str | None, typer.Option("--app-dir", metavar="DIR", help="Where tasks are imported from; else here.")
    ] = None,
    shutdown_timeout: Annotated[
        str | None,
        typer.Option("--shutdown-timeout", metavar="DURATION", help="What running jobs get to finish; else 30s."),
    ] = None,
    kill_grace: Annotated[
        str | None, typer.Option("--kill-grace", metavar="DURATION", help="Between TERM and KILL of a job; else 5s.")
    ] = None,
    output_limit: Annotated[
        str | None, typer.Option("--output-limit", metavar="BYTES", help="What is kept of a job's output; else 1 MiB.")
    ] = None,
    takeover_after: Annotated[
        str | None,
        typer.Option("--takeover-after", metavar="DURATION", help="Kill a runner that hangs so long; else never."),
    ] = None,
    no_schedules: Annotated[bool, typer.Option("--no-schedules", help="Fire no schedules; others may.")] = False,
    allow_root: Annotated[
        bool, typer.Option("--allow-root", help="As root, even where others may write the database.")
    ] = False,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="DURATION", help="Forget jobs that ended so long ago; else never.")
    ] = None,
    outboxes: Annotated[
        list[str] | None,
        typer.Option(
            "--outbox", metavar="FILE", help="Make jobs of what is in this application's outbox, too; repeat."
        ),
    ] = None,
    relaxed: Annotated[
        bool,
        typer.Option(
            "--relaxed", help="Do not wait for the disk: a power cut may undo the last outcomes, enqueues and claims."
        ),
    ] = False,
    min_free: Annotated[
        str | None, typer.Option("--min-free", metavar="BYTES", help="Start no job with less disk free; else 16 MiB.")
    ] = None,
    max_wal: Annotated[
        str | None, typer.Option("--max-wal", metavar="BYTES", help="Name who keeps the log larger; else 256 MiB.")
    ] = None,
    log_format: Annotated[
        str, typer.Option("--log-format", metavar="text|json", help="How to tell what happens.")
    ] = "text",
) -> None:
    r"""Do the work, until TERM or Ctrl-C. A second one does not wait for running jobs. No queue named: all.

    HUP loads the code anew, while running jobs finish with the old; what cannot be imported is told, and not taken.

    With --drain the exit code is 1 when a job of it failed, as a crontab wants it.

    \b
    jobrunner run -j 4 mail default
    jobrunner run --drain
    jobrunner run --mode thread -j 2 --threads 16
    jobrunner run --import shop.tasks --app-dir /srv/shop --shutdown-timeout 2m
    """
    called = session.of(context)
    said = {
        "queues": tuple(queues or ()),
        "jobs": whole("--jobs", jobs),
        "threads": whole("--threads", threads),
        "min_processes": whole("--min-processes", min_processes),
        "idle_timeout": _seconds(idle_timeout),
        "max_tasks_per_child": whole("--max-tasks-per-child", max_tasks),
        "max_memory": whole("--max-memory", max_memory),
        "max_paused": whole("--max-paused", max_paused),
        "drain": drain,
        "max_jobs": whole("--max-jobs", max_jobs),
        "max_idle": _seconds(max_idle),
        "imports": tuple(imports or ()),
        "reload": reload,
        "pass_env": tuple(pass_env or ()),
        "only": tuple(only or ()),
        "allow_root": allow_root,
        "outboxes": tuple(Path(one).absolute() for one in outboxes or ()),
        "schedules": not no_schedules,
        "app_dir": None if app_dir is None else Path(app_dir).absolute(),
        "shutdown_timeout": _seconds(shutdown_timeout),
        "kill_grace": _seconds(kill_grace),
        "output_limit": whole("--output-limit", output_limit),
        "min_free": whole("--min-free", min_free),
        "max_wal": whole("--max-wal", max_wal),
        "takeover_after": _seconds(takeover_after),
        "keep": _seconds(keep),
    }
    _log_to_stderr(called, log_format)
    meant = {name: value for name, value in said.items() if value is not None}
    failed = App(called.path, relaxed=relaxed).run(mode, **meant)
    if drain and failed:
        raise typer.Exit(1)


def _seconds(word: str | None) -> float | None:
    return None if word is None else duration_ms(word) / 1000


def _log_to_stderr(called: Session, form: str) -> None:
    if form not in _FORMATS:
        raise UsageError(f"--log-format is text or json, not {form!r}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(_json_line if form == "json" else _text_line, utc=called.utc))
    log = logging.getLogger("jobrunner")
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.DEBUG if called.verbose else logging.WARNING if called.quiet else logging.INFO)


class _Formatter(logging.Formatter):
    def __init__(self, line: Callable[[str, str, str], str], *, utc: bool) -> None:
        super().__init__()
        self._line = line
        self._utc = utc

    def format(self, record: logging.LogRecord) -> str:
        at = iso(round(record.created * 1000), utc=self._utc)
        level = record.levelname.lower()
        if lines := getattr(record, "lines", None):  # several events of one moment
            return "\n".join(self._line(str(at), level, one) for one in lines)
        message = record.getMessage() + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")
        return self._line(str(at), level, message)


def _text_line(at: str, level: str, message: str) -> str:
    return f"{at} {'' if level == 'info' else level + ': '}{visible(message, lines=True)}"


def _json_line(at: str, level: str, message: str) -> str:
    return json.dumps({"at": at, "level": level, "message": message})
