"""What a runner tells of its work, a line an event; every user's string goes through `visible`."""

import logging

from jobrunner.masking import masked_line
from jobrunner.models import Claimed
from jobrunner.orchestrator import RETURNED, Verdict
from jobrunner.status import Status
from jobrunner.text import visible
from jobrunner.times import now_ms, words

log = logging.getLogger("jobrunner.runner")


def shown(data: bytes) -> str:
    """Some output, for a line of the log."""
    return visible(data[:1000].decode("utf-8", "backslashreplace").rstrip())


def started(claimed: Claimed, pid: int) -> None:
    """An attempt has begun."""
    log.debug("job %d %s started as process %d", claimed.id, _task(claimed), pid)


def ended(claimed: Claimed, verdict: Verdict | None) -> None:
    """An attempt is over and recorded; None: it had been given up before, and nothing was recorded."""
    if verdict is None:
        log.warning("job %d claim %d: its outcome came too late and was not recorded", claimed.id, claimed.claim)
        return
    level = logging.INFO if verdict.status is Status.SUCCESS else logging.WARNING
    if verdict.reason == RETURNED:
        level = logging.DEBUG  # claimed ahead in vain: nothing happened to it
    if log.isEnabledFor(level):
        took = words(max(0, now_ms() - claimed.started_at))
        why = f": {visible(verdict.failure.message[:200])}" if verdict.failure else ""
        log.log(level, "job %d %s %s after %s%s", claimed.id, _task(claimed), verdict.outcome, took, why)


def _task(claimed: Claimed) -> str:
    return visible(masked_line(claimed.task) if claimed.kind == "shell" else claimed.task)
