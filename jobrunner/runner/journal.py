"""What a runner tells of its work, a line an event; every user's string goes through `visible`."""

import logging
from collections.abc import Sequence

from jobrunner.masking import masked_line
from jobrunner.models import Claimed
from jobrunner.orchestrator import RETURNED, Verdict
from jobrunner.text import visible
from jobrunner.times import now_ms, words

log = logging.getLogger("jobrunner.runner")


def shown(data: bytes) -> str:
    """Some output, for a line of the log."""
    return visible(data[:1000].decode("utf-8", "backslashreplace").rstrip())


def started(claimed: Claimed, pid: int) -> None:
    """An attempt has begun."""
    log.debug("job %d %s started as process %d", claimed.id, _task(claimed), pid)


def ended(told: Sequence[tuple[Claimed, Verdict | None]]) -> None:
    """Attempts are over and recorded; None where one had been given up before, and nothing was recorded.

    Those that succeeded are one record of the log, with a line for each: to make one takes longer than a short job.
    """
    succeeded: list[Claimed] = []
    for claimed, verdict in told:
        if verdict is None:
            log.warning("job %d claim %d: its outcome came too late and was not recorded", claimed.id, claimed.claim)
        elif verdict.outcome == "success":
            succeeded.append(claimed)
        else:
            _ended_badly(claimed, verdict)
    if succeeded and log.isEnabledFor(logging.INFO):
        now = now_ms()
        lines = [_line(claimed, "success", now) for claimed in succeeded]
        log.info("\n".join(lines), extra={"lines": lines})


def _ended_badly(claimed: Claimed, verdict: Verdict) -> None:
    # What was claimed ahead in vain, nothing happened to.
    level = logging.DEBUG if verdict.reason == RETURNED else logging.WARNING
    if log.isEnabledFor(level):
        why = f": {visible(verdict.failure.message[:200])}" if verdict.failure else ""
        log.log(level, "%s%s", _line(claimed, verdict.outcome, now_ms()), why)


def _line(claimed: Claimed, outcome: str, now: int) -> str:
    return f"job {claimed.id} {_task(claimed)} {outcome} after {words(max(0, now - claimed.started_at))}"


def _task(claimed: Claimed) -> str:
    return visible(masked_line(claimed.task) if claimed.kind == "shell" else claimed.task)
