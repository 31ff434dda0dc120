"""Another runner is told to stop, or killed; it has obeyed when its row says that it stopped."""

import signal
import time
from typing import NamedTuple

import psutil

from jobrunner import pulse
from jobrunner.database import Database
from jobrunner.errors import NotAllowed, RunnerDisobeys, RunnerNotFound, RunnerOutOfReach
from jobrunner.models import Runner, RunnerId
from jobrunner.ownership import RunnerLocks
from jobrunner.runner.rescue import Rescued, rescue
from jobrunner.runner.takeover import kill

BY_HAND = "killed by `jobrunner runner stop --kill`"
_BETWEEN_LOOKS = 0.02


class Dismissed(NamedTuple):
    """A runner's row now that it has stopped; what was rescued here, where it had died or was killed."""

    runner: Runner
    rescued: Rescued | None


def dismiss(database: Database, number: int, seconds: float, *, by_force: bool = False) -> Dismissed:
    """Have a runner stop, by TERM or KILL, and wait for it up to `seconds`; a dead one is rescued here.

    RunnerNotFound, RunnerOutOfReach, NotAllowed: no signal was sent. RunnerDisobeys: one was, and it has not stopped.
    """
    deadline = time.monotonic() + seconds
    rescued = None
    told = False
    with RunnerLocks(database.path) as locks:
        while (runner := _find(database, number)).stopped_at is None:
            if locks.take(runner.id):
                rescued = rescue(database, locks, runner)
                continue
            process = _process(locks, runner)
            if process is not None:
                if by_force and not told:
                    database.query("condemn_runner", runner=runner.id, reason=BY_HAND)
                _send(locks, runner, process, by_force, told)
                told = True
            if time.monotonic() >= deadline:
                raise RunnerDisobeys(runner.id, runner.pid, seconds, by_force)
            time.sleep(_BETWEEN_LOOKS)
    return Dismissed(runner, rescued)


def _find(database: Database, number: int) -> Runner:
    row = database.one("runner", runner=number)
    if row is None:
        raise RunnerNotFound(RunnerId(number))
    return Runner(*row)


def _process(locks: RunnerLocks, runner: Runner) -> psutil.Process | None:
    """The runner's process; None where it is just ending, or being rescued."""
    holder = locks.holder(runner.id)
    process = pulse.process_of(runner, holder)
    if process is None and holder is not None and not pulse.is_rescuer(runner, holder):
        raise RunnerOutOfReach(runner.id, runner.pid)
    return process


def _send(locks: RunnerLocks, runner: Runner, process: psutil.Process, by_force: bool, told: bool) -> None:
    try:
        if by_force:
            kill(locks, runner, process)
        elif locks.holder(runner.id) == process.pid:
            _terminate(process, told)
    except psutil.NoSuchProcess:  # gone: the wish fulfilled
        return
    except psutil.AccessDenied as error:
        raise NotAllowed(f"runner {runner.id} is another user's (process {runner.pid}): it cannot be told") from error


def _terminate(process: psutil.Process, told: bool) -> None:
    # Once only: a second TERM would mean that running jobs get no time to finish. The kernel does not lose it.
    if not told:
        process.send_signal(signal.SIGTERM)
    # Who is stopped hears it when it goes on, and hears it first. It may be stopped again: so again.
    if pulse.sign(process).is_stopped:
        process.send_signal(signal.SIGCONT)
