"""`jobrunner wait`, `cancel` and `retry`: by numbers, or all that a query finds."""

from collections.abc import Sequence
from typing import Annotated

import typer

from jobrunner import state_backend
from jobrunner.cli import printing, query_words, session
from jobrunner.cli.job_facts import error, error_line
from jobrunner.cli.session import Session
from jobrunner.cli.words import job_ids
from jobrunner.database import Database
from jobrunner.direct_client import DirectClient
from jobrunner.models import Job
from jobrunner.state_backend import Filter
from jobrunner.status import Status
from jobrunner.times import duration_ms

_Words = Annotated[list[str] | None, typer.Argument(metavar="ID|QUERY", hidden=True)]


def wait(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Exit 124 when they are not final by then.")
    ] = None,
) -> None:
    """Wait for jobs, for a batch as @NAME, or for all that is unfinished. Exit code 1: one did not succeed."""
    called = session.of(context)
    seconds = None if timeout is None else duration_ms(timeout) / 1000
    if ids and len(ids) == 1 and ids[0].startswith("@"):
        from jobrunner.cli.batch import wait as wait_for_batch

        wait_for_batch(called, ids[0][1:], seconds)
        return
    named = job_ids(ids, "wait") if ids else None
    with called.client() as client:
        states = client.wait(state_backend.unfinished(client.database) if named is None else named, seconds)
        for one in states:
            _tell_end(called, client.job(one.id))
    if any(one.status is not Status.SUCCESS for one in states):
        raise typer.Exit(1)


def _tell_end(called: Session, job: Job) -> None:
    if called.json:
        facts = {"id": job.id, "status": job.status.value, "error": error(job.error_type, job.error_message)}
        printing.write_json(facts)
    elif not called.quiet:
        printing.write_tabs([job.id, job.status.value, error_line(job) or job.reason])


def cancel(
    context: typer.Context,
    words: _Words = None,
    children: Annotated[bool, typer.Option("--children", help="And all that they have enqueued.")] = False,
) -> None:
    r"""Stop jobs, running or not. Prints the numbers of those that were not finished yet.

    \b
    jobrunner cancel 7 8 --children
    jobrunner cancel queue:mail status:pending
    """
    called = session.of(context)
    meant = _read(words or [], "cancel", _UNFINISHED)
    with called.client() as client:
        wanted = _find(client.database, meant)
        changed = client.cancel(wanted, children=children)
        _tell_changed(called, client, wanted, changed, "cancelled")


def retry(context: typer.Context, words: _Words = None) -> None:
    r"""Do jobs again, or let held ones go. Prints the numbers of those that will be done.

    \b
    jobrunner retry 7
    jobrunner retry queue:mail since:1h     those that failed; other ones by status:cancelled
    """
    called = session.of(context)
    meant = _read(words or [], "retry", (Status.FAILED,))
    with called.client() as client:
        wanted = _find(client.database, meant)
        changed = client.retry(wanted)
        _tell_changed(called, client, wanted, changed, "to be done")


_UNFINISHED = tuple(status for status in Status if not status.is_final)


def _read(words: Sequence[str], command: str, usual: tuple[Status, ...]) -> list[int] | Filter:
    """The jobs that are meant; a query that names no status means those in the usual ones."""
    if not query_words.is_query(words):
        return job_ids(words, command)
    meant = query_words.read(words)
    return meant if meant.statuses else meant._replace(statuses=usual)


def _find(database: Database, meant: list[int] | Filter) -> Sequence[int]:
    return meant if isinstance(meant, list) else state_backend.find_ids(database, meant)[::-1]


def _tell_changed(
    called: Session, client: DirectClient, wanted: Sequence[int], changed: Sequence[int], done: str
) -> None:
    printing.write_ids(called, changed)
    left = sorted(set(wanted) - set(changed))
    for state in client.states(left[:10]):
        called.notice(f"job {state.id} is {state.status}: nothing to be done")
    if len(left) > 10:
        called.notice(f"and {len(left) - 10} more")
    if len(wanted) > 1:
        called.hint(f"{len(changed)} {done}")
