"""`jobrunner show`: all that is known of a job."""

from typing import Annotated

import typer

from jobrunner import dependencies, state_backend
from jobrunner.cli import printing, session
from jobrunner.cli.job_facts import attempt_facts, facts, hidden
from jobrunner.cli.portrait import portrait
from jobrunner.cli.words import job_ids
from jobrunner.direct_client import DirectClient
from jobrunner.masking import masked
from jobrunner.models import Json
from jobrunner.status import Status
from jobrunner.times import iso

_NEEDED = ("job", "kind", "status")


def show(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", hidden=True)] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show secrets among arguments and environment.")] = False,
) -> None:
    r"""Tell all that is known of jobs. Their attempts, error, result, history, and why one is not done yet.

    Values whose names tell that they are secret (token, secret, password, api_key) are shown as ***.
    """
    called = session.of(context)
    wanted = job_ids(ids or [], "show")
    with called.client() as client:
        for number, one in enumerate(wanted):
            if called.json:
                printing.write_json(_facts(client, one, reveal=reveal))
            else:
                printing.write("\n" * bool(number) + "\n".join(portrait(called, client, one, reveal=reveal)))


def _facts(client: DirectClient, one: int, *, reveal: bool) -> Json:
    database = client.database
    with database.snapshot():
        job = client.job(one)
        progress = client.progress(one)
        result = client.result(one) if job.status is Status.SUCCESS else None
        said = progress and {**progress._asdict(), "at": iso(progress.at)}
        return {
            **facts(job if reveal else hidden(job)),
            "result": result if reveal else masked(result),
            "progress": said,
            "executions": [attempt_facts(attempt) for attempt in state_backend.attempts(database, one)],
            "history": [transition._asdict() for transition in state_backend.history(database, one)],
            "children": state_backend.children(database, one),
            "after": [dict(zip(_NEEDED, edge, strict=True)) for edge in dependencies.of(database, one)],
        }
