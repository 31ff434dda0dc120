"""`jobrunner progress`: a command that runs as a job says how far it is."""

import os
from typing import Annotated

import typer

from jobrunner import state_backend
from jobrunner.cli import session
from jobrunner.context import NotInAJob
from jobrunner.errors import JobRunnerError, UsageError


def progress(
    context: typer.Context,
    fraction: Annotated[str | None, typer.Argument(metavar="0.4|40%|12/30", hidden=True)] = None,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", hidden=True)] = None,
) -> None:
    r"""Say, from inside of a job, how far it is. `jobrunner show` tells it.

    \b
    jobrunner progress 40% 'second pass'
    jobrunner progress 12/30
    """
    called = session.of(context)
    job, claim = os.environ.get("JOBRUNNER_JOB", ""), os.environ.get("JOBRUNNER_CLAIM", "")
    if not (job.isdigit() and claim.isdigit()):
        raise NotInAJob("`jobrunner progress` is for commands that run as a job: JOBRUNNER_JOB is not set here")
    if fraction is None:
        raise UsageError("how far is it? Type it as in `jobrunner progress 40%` or `jobrunner progress 12/30`")
    with called.client() as client:
        if not state_backend.put_progress(client.database, int(job), int(claim), _fraction(fraction), text):
            raise JobRunnerError(f"job {job} has been given up or done by another attempt: its progress was not kept")


def _fraction(word: str) -> float:
    part, slash, whole = word.partition("/")
    try:
        if slash:
            return float(part) / float(whole)
        return float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"{word!r} is no progress: write it as 0.4, 40% or 12/30") from error
