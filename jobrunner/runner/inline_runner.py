"""Doing what is due in the caller's own process, for tests: no template, no workers, no signals."""

import json
import subprocess
from collections.abc import Sequence

from jobrunner import (
    batches,
    broker,
    claims,
    dependencies,
    environment,
    execution,
    orchestrator,
    ownership,
    schedules,
    state_backend,
)
from jobrunner.context import Current, enter, leave
from jobrunner.database import Database
from jobrunner.errors import InvocationNotFound, OutputMissing, UsageError
from jobrunner.models import Claimed, Exit, Failure, Outcome
from jobrunner.orchestrator import Ended
from jobrunner.ownership import RunnerLocks
from jobrunner.policy import Policy
from jobrunner.runner.registration import Introduction, Registration
from jobrunner.runner.settings import RunSettings
from jobrunner.times import now_ms
from jobrunner.wall_clock import WallClock


def drain(database: Database, queues: Sequence[str] = ()) -> int:
    """Do everything that is due, one after the other; tells how many attempts were made."""
    done = 0
    settings = RunSettings(database.path, tuple(queues), jobs=1)
    with RunnerLocks(database.path) as locks:
        registration = Registration(database, locks, settings, Introduction("inline", 1, ownership.new_token()))
        wall_clock = WallClock(database)
        while claimed := _claim(database, registration, queues, wall_clock):
            ended = _do(database, claimed)
            orchestrator.record(database, ended, registration.id)
            done += 1
        registration.stop("drained")
    return done


def _claim(
    database: Database, registration: Registration, queues: Sequence[str], wall_clock: WallClock
) -> Claimed | None:
    with database.transaction():
        wall_clock.heed()
        broker.promote_and_expire(database)
        schedules.fire_due(database)
        dependencies.settle(database)
        batches.count(database)
        claimed = claims.claim(database, registration.id, queues, 1)
    wall_clock.written()
    return claimed[0] if claimed else None


def _do(database: Database, claimed: Claimed) -> Ended:
    try:
        if claimed.args is None:
            claimed = claimed._replace(args=claims.argument(database, claimed.id))
        policy = Policy.from_json(claimed.policy)
    except (UsageError, InvocationNotFound, OutputMissing) as error:
        return orchestrator.unreadable(claimed, error)
    if claimed.kind != "function":
        return _run_program(database, claimed, policy)
    here = Current(claimed.id, claimed.claim, claimed.attempt)
    token = enter(here)
    try:
        found = execution.find(claimed.task)
        policy = policy.or_else(Policy.from_json(found.policy))
        outcome = execution.perform(found.function, json.loads(claimed.args or "{}"))
    except Exception as error:  # importing a user's module may raise anything
        outcome = Outcome(failure=execution.describe(error))
    finally:
        leave(token)
    if here.said is not None:
        state_backend.put_progress(database, claimed.id, claimed.claim, *here.said)
    return Ended(claimed, policy, outcome, None)


def _run_program(database: Database, claimed: Claimed, policy: Policy) -> Ended:
    found = environment.of_command((), policy.env)
    timeout = None if policy.timeout_ms is None else policy.timeout_ms / 1000
    try:
        words = ["-c", claimed.task] if claimed.kind == "shell" else json.loads(claimed.args or "[]")
        program = "/bin/sh" if claimed.kind == "shell" else claimed.task
        done = subprocess.run(
            [program, *words], capture_output=True, timeout=timeout, cwd=policy.cwd, env=found, check=False
        )
    except subprocess.TimeoutExpired:
        return Ended(claimed, policy, None, None, "timeout")
    except (OSError, ValueError, TypeError) as error:
        return Ended(claimed, policy, Outcome(failure=Failure("CannotStart", str(error))), None)
    pieces = [(now_ms(), name, data, 0) for name, data in (("stdout", done.stdout), ("stderr", done.stderr)) if data]
    state_backend.put_output(database, claimed.id, claimed.claim, pieces)
    code = done.returncode
    exit = Exit(0, code=code) if code >= 0 else Exit(0, signal=-code)
    return Ended(claimed, policy, None, exit)
