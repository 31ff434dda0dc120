"""`enqueue --wait`: as if the work were done here, with its result or output, and an exit code."""

from collections.abc import Sequence

from jobrunner import state_backend
from jobrunner.cli import output, printing
from jobrunner.cli.job_facts import error
from jobrunner.cli.session import Session
from jobrunner.database import Database
from jobrunner.direct_client import DirectClient
from jobrunner.errors import InvocationCancelled
from jobrunner.models import State
from jobrunner.status import Status


def wait_and_print(called: Session, database: Database, ids: Sequence[int]) -> int:
    """Wait until all are final and tell what came of them; 1 when one did not succeed."""
    client = DirectClient(database)
    called.hint(f"job {', '.join(str(one) for one in ids[:5])}{', ...' if len(ids) > 5 else ''}: waiting")
    states = client.wait(ids, None)
    for state in states:
        _tell(called, client, state)
    return 0 if all(state.status is Status.SUCCESS for state in states) else 1


def _tell(called: Session, client: DirectClient, state: State) -> None:
    job = client.job(state.id)
    if called.json:
        result = client.result(job.id) if state.status is Status.SUCCESS else None
        failure = None if state.status is Status.SUCCESS else error(job.error_type, job.error_message)
        printing.write_json({"id": job.id, "status": state.status.value, "result": result, "error": failure})
        return
    if job.kind != "function":
        for piece in output.pieces(client, job.id):
            output.raw(piece)
    elif state.status is Status.SUCCESS:
        printing.write_json(client.result(job.id))
    if state.status is Status.FAILED:
        called.notice(f"jobrunner: {state_backend.failure(client.database, state)}")
    elif state.status is not Status.SUCCESS:
        called.notice(f"jobrunner: {InvocationCancelled(state.id, state.status, state.reason)}")
