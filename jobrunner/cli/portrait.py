"""A job in words, for `jobrunner show`; every text of a user goes through `visible`."""

import json
import signal
from collections.abc import Iterator
from typing import NamedTuple

from jobrunner import dependencies, queues, state_backend, unknown_tasks
from jobrunner.cli.family import family_tree
from jobrunner.cli.job_facts import command_line, hidden
from jobrunner.cli.runner_facts import no_answer, stalled_at_once
from jobrunner.cli.session import Session
from jobrunner.database import Database
from jobrunner.direct_client import DirectClient
from jobrunner.masking import masked
from jobrunner.models import Attempt, Job, Runner
from jobrunner.policy import Policy, Retry
from jobrunner.status import STARTED, Status
from jobrunner.text import visible
from jobrunner.times import instant_ms, iso, now_ms, words


class _Moments(NamedTuple):
    utc: bool
    now: int

    def tell(self, moment: int) -> str:
        """A time, and how far away it is."""
        away = self.now - moment
        return f"{iso(moment, utc=self.utc)} ({f'{words(away)} ago' if away >= 0 else f'in {words(-away)}'})"


_NEEDED = {"success": "must succeed", "any": "must end", "failure": "must fail"}


def portrait(called: Session, client: DirectClient, one: int, *, reveal: bool) -> Iterator[str]:
    """The lines; secrets among arguments, environment and result are hidden unless `reveal`."""
    database, moments = client.database, _Moments(called.utc, now_ms())
    job = client.job(one) if reveal else hidden(client.job(one))
    attempts = state_backend.attempts(database, one)
    yield f"job {job.id}: {job.status}" + (f", {visible(job.reason)}" if job.reason else "")
    for name, value in _facts(client, job, moments):
        yield f"  {name:9} {value}"
    needed = dependencies.of(database, one)
    yield from _section("after", [f"{other} {status}: {_NEEDED[kind]}" for other, kind, status in needed])
    yield from _section("attempts", [_attempt(attempt) for attempt in attempts])
    yield from _section("error", _error(job, attempts))
    if job.status is Status.SUCCESS and job.kind == "function":
        result = client.result(one) if reveal else masked(client.result(one))
        yield from _section("result", [visible(json.dumps(result, ensure_ascii=False))])
    yield from _section("history", _history(called, database, one))
    yield from _section("family", family_tree(client, one))


def _section(name: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield name
        yield from (f"  {line}" for line in lines)


def _facts(client: DirectClient, job: Job, moments: _Moments) -> Iterator[tuple[str, str]]:
    yield job.kind, visible(command_line(job))
    yield "queue", visible(job.queue) + (f", priority {job.priority}" if job.priority else "")
    for name, text in (("label", job.label), ("key", job.unique_key)):
        if text is not None:
            yield name, visible(text)
    yield from _policy(job)
    yield "created", moments.tell(job.created_at)
    for name, moment in (("expires", job.expires_at), ("started", job.started_at)):
        if moment is not None:
            yield name, moments.tell(moment)
    if job.finished_at is not None:
        took = f", took {words(job.finished_at - job.started_at)}" if job.started_at else ""
        yield "finished", moments.tell(job.finished_at) + took
    if job.cancel_at is not None and not job.status.is_final:
        yield "cancel", f"asked for {moments.tell(job.cancel_at)}; its runner stops it"
    if why := _why_not_done(client, job, moments):
        yield "waits", why
    progress = client.progress(job.id)
    if progress is not None:
        part = "" if progress.fraction is None else f"{progress.fraction:.0%} "
        yield "progress", f"{part}{visible(progress.message or '')}".strip() + f", {moments.tell(progress.at)}"


def _policy(job: Job) -> Iterator[tuple[str, str]]:
    try:
        policy = Policy.from_json(job.policy)
    except (KeyError, TypeError, ValueError, AttributeError):  # rows can be written by hand
        yield "policy", visible(str(job.policy))
        return
    if policy.retry is not None:
        yield "retries", _retries(policy.retry)
    if policy.timeout_ms is not None:
        yield "timeout", words(policy.timeout_ms)
    if policy.on_crash is not None:
        yield "on crash", policy.on_crash
    if policy.cwd is not None:
        yield "folder", visible(policy.cwd)
    for name, value in policy.env.items():
        yield "env", visible(f"{name}={value}")


def _retries(retry: Retry) -> str:
    base, cap = retry.to_json()["base"], retry.to_json()["cap"]
    span = f"{words(base)} to {words(cap)}" if retry.backoff == "exponential" else words(base)
    which = f", on {', '.join(map(str, retry.on))}" if retry.on else ""
    never = f", never on {', '.join(map(str, retry.never))}" if retry.never else ""
    return visible(f"{retry.attempts - 1} (waiting {span} before each{which}{never})")


def _why_not_done(client: DirectClient, job: Job, moments: _Moments) -> str | None:
    if job.status is Status.SCHEDULED and job.run_at is not None:
        is_unknown = (job.reason or "").startswith(unknown_tasks.WHY)
        until = (
            "a runner knows its task; `jobrunner retry` has it tried now" if is_unknown else moments.tell(job.run_at)
        )
        return f"until {until}"
    if job.status is Status.BLOCKED:
        is_held = job.reason in (None, "held")
        return f"held; `jobrunner retry {job.id}` lets it go" if is_held else visible(str(job.reason))
    if job.status in STARTED:
        silent = stalled_at_once(client, [runner for runner in client.runners() if runner.id == job.runner])
        return next((no_answer(*one) for one in silent.items()), None)
    if job.status is not Status.PENDING:
        return None
    if job.queue in queues.paused(client.database):
        return f"the queue {visible(job.queue)!r} is paused: `jobrunner queue resume`"
    living = [runner for runner in client.runners() if job.queue in _queues(runner, job.queue)]
    silent = stalled_at_once(client, living)
    serving = [runner for runner in living if runner.id not in silent]
    if silent and not serving:
        return "; ".join(no_answer(*one) for one in silent.items())
    if not serving:
        return f"no runner serves the queue {visible(job.queue)!r}: `jobrunner run` starts one"
    busy = state_backend.started_counts(client.database)
    free = sum(max(0, runner.slots - busy.get(runner.id, 0)) for runner in serving)
    ids = ", ".join(str(runner.id) for runner in serving)
    return f"for runner {ids}, " + (f"which has {free} free slots" if free else "which is busy with other jobs")


def _queues(runner: Runner, queue: str) -> list[str]:
    return json.loads(runner.queues) or [queue]


def _attempt(attempt: Attempt) -> str:
    facts = [f"{attempt.attempt}: {attempt.outcome}", f"took {words(max(0, attempt.finished_at - attempt.started_at))}"]
    if attempt.exit_code is not None:
        facts.append(f"exit code {attempt.exit_code}")
    if attempt.signal is not None:
        facts.append(f"signal {attempt.signal} ({_signal_name(attempt.signal)})")
    if attempt.cpu_ms is not None:
        facts.append(f"CPU {words(attempt.cpu_ms)}")
    if attempt.peak_kb is not None:
        facts.append(f"peak memory {attempt.peak_kb / 1024:.1f} MiB")
    facts += [f"process {attempt.pid}"] * (attempt.pid is not None) + [f"runner {attempt.runner}"]
    return ", ".join(facts) + (
        f": {visible(f'{attempt.error_type}: {attempt.error_message}')}" if attempt.error_type else ""
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _error(job: Job, attempts: list[Attempt]) -> list[str]:
    last = next((attempt for attempt in reversed(attempts) if attempt.error_type), None)
    if last is None or job.status is Status.SUCCESS:
        return []
    if last.traceback:
        return visible(last.traceback.rstrip("\n"), lines=True).split("\n")
    return [visible(f"{last.error_type}: {last.error_message}")]


def _history(called: Session, database: Database, one: int) -> list[str]:
    return [
        f"{iso(instant_ms(change.at), utc=called.utc)} {change.to_status}"
        + (f" (claim {change.claim}, runner {change.runner})" if change.to_status in STARTED else "")
        + (f": {visible(change.reason)}" if change.reason else "")
        for change in state_backend.history(database, one)
    ]
