"""`jobrunner list`: jobs, newest first."""

from typing import Annotated

import typer

from jobrunner import state_backend
from jobrunner.cli import printing, query_words, session
from jobrunner.cli.job_facts import command_line, error_line, facts, hidden
from jobrunner.cli.session import Session
from jobrunner.cli.words import whole
from jobrunner.errors import UsageError
from jobrunner.models import Job
from jobrunner.status import STARTED, Status
from jobrunner.times import iso, now_ms, words

_SCREEN = 50
_HEADS = ("id", "status", "queue", "job", "label", "time", "error")


def list_jobs(
    context: typer.Context,
    query: Annotated[list[str] | None, typer.Argument(metavar="QUERY", hidden=True)] = None,
    limit: Annotated[
        str | None, typer.Option("-n", "--limit", metavar="N", help="At most so many; on a terminal else 50.")
    ] = None,
) -> None:
    r"""List jobs, newest first.

    \b
    jobrunner list status:failed,expired queue:mail since:1h
    jobrunner list error:Timeout task:send until:2030-01-31
    jobrunner list schedule:nightly parent:7 some text

    A word without a key is looked for in task, label and arguments. Piped output has a line a job, tab-separated
    and never cut: id, status, queue, task, args, label, attempts, created, started, finished, error.
    """
    called = session.of(context)
    wanted = query_words.read(query or [])
    at_most = _limit(called, limit)
    with called.client() as client:
        jobs = map(hidden, state_backend.find_all(client.database, wanted, at_most))
        if called.json:
            for job in jobs:
                printing.write_json(facts(job))
        elif called.for_people:
            printing.write_table(called, _HEADS, (_cells(job) for job in jobs), shrink=("job", "label", "error"))
        else:
            for job in jobs:
                printing.write_tabs(_columns(called, job))


def _limit(called: Session, said: str | None) -> int | None:
    limit = whole("--limit", said)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is 1 or more, not {limit}")
    return _SCREEN if limit is None and called.for_people else limit


def _cells(job: Job) -> tuple[object, ...]:
    error = error_line(job)
    return job.id, job.status.value, job.queue, command_line(job)[:500], job.label, _time(job), error and error[:200]


def _time(job: Job) -> str:
    """How long it took, or has been running or waiting."""
    if job.status.is_final:
        return words(job.finished_at - job.started_at) if job.finished_at and job.started_at else ""
    if job.status is Status.SCHEDULED and job.run_at is not None:
        return f"in {words(max(0, job.run_at - now_ms()))}"
    since = job.started_at if job.status in STARTED else None
    return words(max(0, now_ms() - (since or job.created_at)))


def _columns(called: Session, job: Job) -> tuple[object, ...]:
    times = (iso(moment, utc=called.utc) for moment in (job.created_at, job.started_at, job.finished_at))
    return job.id, job.status.value, job.queue, job.task, job.args, job.label, job.attempts, *times, error_line(job)
