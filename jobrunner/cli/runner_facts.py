"""What several commands tell of a runner that does not answer."""

from collections.abc import Sequence

from jobrunner.direct_client import DirectClient
from jobrunner.models import Runner, RunnerId


def stalled_at_once(client: DirectClient, runners: Sequence[Runner]) -> dict[RunnerId, str]:
    """Why those are stalled of which that can be seen without waiting: the stopped ones."""
    from jobrunner.pulse import pulses  # brings psutil, which is rarely needed

    found = pulses(client.database.path, runners, thorough=False)
    return {one: seen.note or "" for one, seen in found.items() if seen.life == "stalled"}


def no_answer(runner: RunnerId, note: str) -> str:
    """The sentence, and what to do."""
    return f"runner {runner} does not answer ({note}): `jobrunner runner stop {runner} --kill`"
