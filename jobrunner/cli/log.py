"""`jobrunner log`: what a job wrote."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from jobrunner import state_backend
from jobrunner.cli import output, session
from jobrunner.cli.words import job_ids, whole
from jobrunner.direct_client import DirectClient
from jobrunner.errors import UsageError
from jobrunner.models import LogPiece


def log(
    context: typer.Context,
    id: Annotated[str | None, typer.Argument(metavar="ID", hidden=True)] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the job is final.")] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Only the standard output.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Only the standard error.")] = False,
    attempt: Annotated[str | None, typer.Option("--attempt", metavar="N", help="Only of this attempt.")] = None,
) -> None:
    r"""Print what a job wrote. Piped, it comes byte for byte.

    \b
    jobrunner log 7 -f
    jobrunner log 7 --stderr --attempt 2
    """
    called = session.of(context)
    if stdout and stderr:
        raise UsageError("both streams come when neither --stdout nor --stderr is given")
    job = job_ids([id] if id else [], "log")[0]
    streams = {"stdout"} if stdout else {"stderr"} if stderr else {"stdout", "stderr"}
    write = output.as_json if called.json else output.Merged()
    printed = False
    with called.client() as client:
        pieces = client.follow(job) if follow else output.pieces(client, job)
        for piece in _of_attempt(client, job, pieces, whole("--attempt", attempt)):
            if piece.stream in streams:
                write(piece)
                sys.stdout.flush()
                printed = True
    if not printed:
        called.hint(f"job {job} has written nothing" + ("" if follow else " so far"))


def _of_attempt(client: DirectClient, job: int, pieces: Iterator[LogPiece], attempt: int | None) -> Iterator[LogPiece]:
    if attempt is None:
        yield from pieces
        return
    attempts: dict[int, int] = {}
    for piece in pieces:
        if piece.claim not in attempts:
            attempts = _attempts(client, job)
        if attempts.get(piece.claim) == attempt:
            yield piece


def _attempts(client: DirectClient, job: int) -> dict[int, int]:
    """The attempt that each claim was for; the one that runs is not among those that are over."""
    now = client.job(job)
    over = state_backend.attempts(client.database, job)
    return {now.claim: now.attempts, **{one.claim: one.attempt for one in over}}
