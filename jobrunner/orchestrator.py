"""What becomes of an attempt: judged from the worker's outcome and exit, and recorded behind the fence."""

import json
import signal
from collections.abc import Sequence
from typing import NamedTuple

from jobrunner import deadlock, limits, unknown_tasks
from jobrunner.database import Database, Value
from jobrunner.errors import JobRunnerError, NotAllowed, OutputMissing
from jobrunner.models import UNDELIVERED, Claimed, Exit, Failure, InvocationId, Outcome, RunnerId, StopReason
from jobrunner.policy import CRASH_BUDGET, Policy
from jobrunner.status import Status
from jobrunner.times import now_ms, words

Fence = dict[str, int | str | None]


class Ended(NamedTuple):
    """An attempt that is over: the worker's word (None: it said nothing), its exit, why we stopped it if we did."""

    claimed: Claimed
    policy: Policy
    outcome: Outcome | None
    exit: Exit | None
    stopped: StopReason | None = None
    runner_died: str = "the runner died"
    """In words for people, where there is no exit to tell of."""


def unreadable(claimed: Claimed, error: Exception) -> Ended:
    """An attempt that cannot be made: rows can be written by hand, and what cannot be meant fails the job alone.

    So does what the runner is not allowed to do. It is not left to other runners: nobody would notice that it waits.
    """
    failure = Failure("BadInvocation", f"its arguments or policy cannot be read: {error}")
    if isinstance(error, (NotAllowed, OutputMissing)):
        failure = Failure(type(error).__name__, str(error))
    return Ended(claimed, Policy(), Outcome(failure=failure), None)


class Verdict(NamedTuple):
    """What an attempt comes to: the next status, the word for the attempt, why, and when it is tried again."""

    status: Status
    outcome: str
    reason: str | None = None
    failure: Failure | None = None
    retry_in_ms: int | None = None


_UNTOLD = (None,) * 6
"""An exit of which nothing is known."""
_NO_RESULT = (None, "null")
"""What has no row."""
RETURNED = "given back before it began"
_SUCCESS = Verdict(Status.SUCCESS, "success")
_INTERRUPTIONS: dict[StopReason, str] = {
    "shutdown": "its runner was stopped",
    "not_started": "its process could not be started",
    "returned": RETURNED,
    "neighbour": "its process had to be ended for another job in it",
}


def judge(ended: Ended) -> Verdict:
    """What it means, and nothing else: a job that delivered its result has succeeded, whatever was going on."""
    if _succeeded(ended):
        return _SUCCESS
    if ended.stopped == "cancel":
        return Verdict(
            Status.CANCELLED, "cancelled", "cancelled while it ran", Failure("Cancelled", "stopped on request")
        )
    if ended.stopped == "unknown" and ended.outcome is not None and ended.outcome.failure is not None:
        failure = ended.outcome.failure
        return Verdict(Status.SCHEDULED, "unknown", f"{unknown_tasks.WHY}: {failure.message}", failure)
    if ended.stopped in _INTERRUPTIONS:
        why = _INTERRUPTIONS[ended.stopped]
        return Verdict(Status.PENDING, "interrupted", why, Failure("Interrupted", why))
    if ended.stopped == "timeout":
        limit = words(ended.policy.timeout_ms or 0)
        return _failed(ended, "timeout", Failure("TimedOut", f"ran longer than its timeout of {limit}"))
    if ended.outcome is not None and ended.outcome.failure is not None:
        return _failed(ended, "failed", ended.outcome.failure)
    if ended.exit is None or ended.exit.signal is not None or ended.exit.shared:
        return _crashed(ended)
    return _failed(ended, "failed", _exit_failure(ended))


def _succeeded(ended: Ended) -> bool:
    if ended.outcome is not None:
        return ended.outcome.failure is None
    is_program = ended.claimed.kind != "function"
    return is_program and ended.stopped is None and ended.exit is not None and ended.exit.code == 0


def _exit_failure(ended: Ended) -> Failure:
    code = ended.exit.code if ended.exit else None
    if ended.claimed.kind == "function" and code == UNDELIVERED:
        return Failure("OutcomeLost", "the job closed the channel to its runner, so what came of it is not known")
    if ended.claimed.kind == "function":
        return Failure("WorkerExited", f"the process exited with code {code} before the function returned")
    return Failure("ExitCode", f"exited with code {code}")


def _failed(ended: Ended, outcome: str, failure: Failure) -> Verdict:
    retry = ended.policy.retry
    attempt = ended.claimed.attempt
    if retry is None or not retry.allows(failure, attempt):
        return Verdict(Status.FAILED, outcome, f"{failure.type} in attempt {attempt}", failure)
    delay = retry.delay_ms(attempt)
    reason = f"{failure.type} in attempt {attempt} of {retry.attempts}; again in {words(delay)}"
    return Verdict(Status.SCHEDULED, outcome, reason, failure, delay)


def _crashed(ended: Ended) -> Verdict:
    failure = Failure("WorkerDied", ended.runner_died if ended.exit is None else _death(ended.exit))
    crashes = ended.claimed.crashes
    if ended.policy.on_crash == "fail":
        return Verdict(Status.FAILED, "crashed", f"{failure.message}; it is not to be tried after a crash", failure)
    if crashes >= CRASH_BUDGET:
        return Verdict(Status.FAILED, "crashed", f"{failure.message}; crash {crashes} of {CRASH_BUDGET}", failure)
    return Verdict(
        Status.PENDING, "crashed", f"{failure.message}; crash {crashes} of {CRASH_BUDGET}, so once more", failure
    )


def _death(exit: Exit) -> str:
    if exit.signal is None:
        return f"the process, shared with other jobs, exited with code {exit.code}"
    try:
        return f"the process died of signal {exit.signal} ({signal.Signals(exit.signal).name})"
    except ValueError:
        return f"the process died of signal {exit.signal}"


def record_all(database: Database, ended: Sequence[Ended], runner: RunnerId) -> list[Verdict | None]:
    """`record` for each, in order; those that simply succeeded are written together, in a third of the time.

    All of them or, where the database refuses what one delivered, none: UsageError.
    """
    simple = [one for one in ended if _is_simple(one)]
    try:
        with database.transaction():
            _record_simple(database, simple)
            if len(simple) == len(ended):
                return [_SUCCESS] * len(ended)
            return [_SUCCESS if _is_simple(one) else record(database, one, runner) for one in ended]
    except _NotAllHeld:  # who is paused, or was given up, is told apart
        with database.transaction():
            return [record(database, one, runner) for one in ended]


def _is_simple(ended: Ended) -> bool:
    return _succeeded(ended) and ended.claimed.limit_key is None


class _NotAllHeld(Exception):
    """Some of those that succeeded do not hold their claims any more."""


def _record_simple(database: Database, simple: Sequence[Ended]) -> None:
    now = now_ms()
    by_claim: dict[int, list[int]] = {}
    by_exit: dict[Exit | None, list[int]] = {}
    results: list[tuple[Value, ...]] = []
    for claimed, _, outcome, exit, _, _ in simple:
        by_claim.setdefault(claimed.claim, []).append(claimed.id)
        by_exit.setdefault(exit, []).append(claimed.id)
        if outcome is not None and outcome.result not in _NO_RESULT:
            results.append((claimed.id, outcome.result))
    for claim, ids in by_claim.items():
        if database.change("succeed", ids=json.dumps(ids), claim=claim, now=now) != len(ids):
            raise _NotAllHeld
    for exit, ids in by_exit.items():
        pid, code, _, cpu_ms, peak_kb, _ = exit or _UNTOLD
        database.query("put_successes", ids=json.dumps(ids), pid=pid, exit_code=code, cpu_ms=cpu_ms, peak_kb=peak_kb)
    if results:
        database.change_many("put_result", results)


def record(database: Database, ended: Ended, runner: RunnerId) -> Verdict | None:
    """Write down what became of an attempt; None, and no change, where it had been given up already (stale)."""
    verdict = judge(ended)
    with database.transaction():
        # A paused one that ended all the same, on its way to being stopped, went on before it ended.
        if not _move(database, ended, verdict) and not (
            resume(database, ended.claimed) and _move(database, ended, verdict)
        ):
            return None
        drop_edges(database, ended.claimed.id)
        if verdict.status in (Status.PENDING, Status.SCHEDULED):
            database.query("heed_cancel", id=ended.claimed.id, claim=ended.claimed.claim, now=now_ms())
        limits.let_in(database, [ended.claimed.limit_key])
        result = ended.outcome.result if ended.outcome is not None else None
        if verdict.status is Status.SUCCESS and result not in _NO_RESULT:
            database.query("put_result", id=ended.claimed.id, value=result)
        database.change_many("put_attempt", [_attempt_row(ended, verdict, runner, now_ms())])
        if verdict.outcome == "unknown" or (verdict.outcome == "interrupted" and ended.exit is None):
            database.query("not_started", id=ended.claimed.id, claim=ended.claimed.claim)
    return verdict


def _move(database: Database, ended: Ended, verdict: Verdict) -> bool:
    now = now_ms()
    fence: Fence = {"id": ended.claimed.id, "claim": ended.claimed.claim, "now": now, "reason": verdict.reason}
    if verdict.outcome == "crashed":
        return _reroute(database, fence, verdict, forgiven=0)
    if verdict.status is Status.PENDING:
        return database.change("interrupt", **fence) == 1 or _reroute(database, fence, verdict, forgiven=1)
    if verdict.outcome == "unknown":
        return _put_off(database, fence, ended.claimed, now)
    if verdict.retry_in_ms is not None:
        return database.change("reschedule", **fence, run_at=now + verdict.retry_in_ms) == 1
    return database.change("finish", **fence, status=verdict.status.value, forgiven=1) == 1


def _put_off(database: Database, fence: Fence, claimed: Claimed, now: int) -> bool:
    if database.change("put_off", **fence) != 1:
        return False
    unknown_tasks.joined(database, claimed, now)
    return True


def _reroute(database: Database, fence: Fence, verdict: Verdict, forgiven: int) -> bool:
    if database.change("kill", **fence) != 1:
        return False
    if verdict.status is Status.PENDING:
        return database.change("reroute", **fence, forgiven=forgiven) == 1
    return database.change("finish", **fence, status=verdict.status.value, forgiven=0) == 1


def unknown(why: str) -> Outcome:
    """What a worker says of a task that its code does not have."""
    return Outcome(failure=Failure("jobrunner.errors.TaskNotFound", why))


def keep_policy(database: Database, claimed: Claimed, policy: Policy) -> None:
    """Write down how it is to be done, as its task declares it, where the enqueuer could not know."""
    database.query("keep_policy", id=claimed.id, claim=claimed.claim, policy=policy.to_json())


def unfinished(database: Database, ids: Sequence[int]) -> list[InvocationId]:
    """Those of them that are not final, by number."""
    return [row[0] for row in database.query("unfinished", ids=json.dumps(list(ids)))]


def pause(database: Database, claimed: Claimed, awaited: Sequence[int]) -> None:
    """It waits for these from now on; WaitCycle where that could never end."""
    deadlock.check(database, claimed.id, awaited)
    others = f" and {len(awaited) - 1} more" if len(awaited) > 1 else ""
    reason = f"waits for job {awaited[0]}{others}"
    if database.change("pause", id=claimed.id, claim=claimed.claim, now=now_ms(), reason=reason) != 1:
        raise JobRunnerError(f"job {claimed.id} does not run any more")
    database.query("add_edges", id=claimed.id, awaited=json.dumps(list(awaited)))
    database.query("count_waiter", id=claimed.id, change=1)


def wait_for_place(database: Database, claimed: Claimed) -> None:
    """It waits for nobody any more, or has waited long enough, and goes on when its queue has a place for it."""
    drop_edges(database, claimed.id)
    database.query("wait_for_place", id=claimed.id, claim=claimed.claim, reason="waits for a place of its queue")


def resume(database: Database, claimed: Claimed) -> bool:
    """It goes on; False where it had been given up."""
    if database.change("resume", id=claimed.id, claim=claimed.claim, now=now_ms()) != 1:
        return False
    drop_edges(database, claimed.id)
    return True


def drop_edges(database: Database, waiter: int) -> None:
    """It does not wait for anybody any more."""
    if database.one("waits_of", id=waiter) is not None:
        database.query("count_waiter", id=waiter, change=-1)
        database.query("drop_edges", id=waiter)


def _attempt_row(ended: Ended, verdict: Verdict, runner: RunnerId, now: int) -> tuple[Value, ...]:
    claimed, exit, failure = ended.claimed, ended.exit, verdict.failure
    pid, code, signal_number, cpu_ms, peak_kb, _ = exit or _UNTOLD
    said = (None,) * 3 if failure is None else failure[:3]
    began = (claimed.id, claimed.claim, claimed.attempt, runner, pid, claimed.started_at)
    return (*began, now, verdict.outcome, code, signal_number, cpu_ms, peak_kb, *said)
