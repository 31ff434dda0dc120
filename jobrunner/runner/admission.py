"""From what was claimed to an attempt that can be placed."""

from jobrunner import broker, orchestrator, payload
from jobrunner.database import Database
from jobrunner.errors import InvocationNotFound, UsageError
from jobrunner.models import Claimed
from jobrunner.policy import Policy
from jobrunner.runner.capture import Capture
from jobrunner.runner.running import Running


def admit(database: Database, claimed: Claimed, output_limit: int) -> Running:
    """The attempt, with its arguments and its policy; where they cannot be read, it has its outcome already."""
    capture = Capture(output_limit)
    try:
        if claimed.args is None:
            claimed = claimed._replace(args=broker.argument(database, claimed.id))
        text = claimed.args or ""
        payload.check(text, len(text.encode()), "arguments")  # rows can be written by hand
        return Running(claimed, Policy.from_json(claimed.policy), capture)
    except (UsageError, InvocationNotFound) as error:
        bad = orchestrator.unreadable(claimed, error)
        return Running(claimed, bad.policy, capture, outcome=bad.outcome)
