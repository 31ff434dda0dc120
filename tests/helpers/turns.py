"""What a runner does in a turn, without the runner."""

from jobrunner import batches, claims, dependencies, orchestrator
from jobrunner.database import Database
from jobrunner.models import Exit, Failure, Outcome, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.policy import Policy

RUNNER = RunnerId(1)
GOOD, BAD = Outcome("1"), Outcome(failure=Failure("ValueError", "no"))


def finish(database: Database, outcome: Outcome = GOOD, limit: int = 1) -> list[int]:
    """Claim so many, have them end so, settle and count; gives which."""
    claimed = claims.claim(database, RUNNER, [], limit)
    with database.transaction():
        ended = [Ended(one, Policy(), outcome, Exit(1, 0)) for one in claimed]
        orchestrator.record_all(database, ended, RUNNER)
        while dependencies.settle(database).more or batches.count(database).more:
            pass
    return [one.id for one in claimed]
