"""From what was claimed to an attempt that can be placed."""

from jobrunner import claims, orchestrator, payload
from jobrunner.database import Database
from jobrunner.errors import InvocationNotFound, NotAllowed, OutputMissing, UsageError
from jobrunner.models import Claimed
from jobrunner.policy import Policy
from jobrunner.runner.only import permit
from jobrunner.runner.running import Running
from jobrunner.runner.settings import RunSettings


def admit(database: Database, claimed: Claimed, conf: RunSettings) -> Running:
    """The attempt; where its arguments or policy cannot be read, or it is not permitted, it has its outcome already."""
    try:
        if claimed.args is None:
            claimed = claimed._replace(args=claims.argument(database, claimed.id))
        text = claimed.args or ""
        if len(text) > payload.MAX_DEPTH:  # rows can be written by hand; shorter ones are neither large nor deep
            payload.check(text, len(text.encode()), "arguments")
        running = Running(claimed, Policy.from_json(claimed.policy), conf.output_limit)
        if conf.only:
            permit(claimed, running.policy, conf.only)
    except (UsageError, InvocationNotFound, NotAllowed, OutputMissing) as error:
        bad = orchestrator.unreadable(claimed, error)
        return Running(claimed, bad.policy, outcome=bad.outcome)
    return running
