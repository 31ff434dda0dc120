"""What a runner does beside its jobs, where nobody says anything: the chores in their order, and when they are due."""

import time
from collections.abc import Callable

from jobrunner.commit_watch import CommitWatch
from jobrunner.database import Database
from jobrunner.lifetime import Closing
from jobrunner.runner.attempts import Attempts
from jobrunner.runner.housekeeping import Housekeeping
from jobrunner.runner.intake import Intake
from jobrunner.runner.outboxes import Outboxes
from jobrunner.runner.registration import RESCUE_SECONDS, Registration
from jobrunner.runner.self_check import SelfCheck
from jobrunner.runner.setback import Setback
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.shutdown import Shutdown
from jobrunner.runner.waiting import WaitingRoom

CHORES_SECONDS = 0.02
"""How long they may wait where one turn follows the other."""


class Chores(Closing):
    """From the opening of the runner's database to the end of its loop."""

    def __init__(
        self,
        database: Database,
        registration: Registration,
        attempts: Attempts,
        waiting: WaitingRoom,
        intake: Intake,
        conf: RunSettings,
        setback: Setback,
        shutdown: Shutdown,
        watch: CommitWatch,
        *,
        is_busy: Callable[[], bool],
        renew: Callable[[], None],
        get_ready: Callable[[], None],
    ) -> None:
        """`is_busy`: whether a transaction is wanted. The runner's own chores are `renew` and `get_ready`."""
        self._database = database
        self._registration = registration
        self._attempts = attempts
        self._waiting = waiting
        self._intake = intake
        self._kill_grace = conf.kill_grace
        self._setback = setback
        self._shutdown = shutdown
        self._watch = watch
        self._is_busy = is_busy
        self._renew = renew
        self._get_ready = get_ready
        self._wait_until = 0.0
        self._may_be_cancels = False
        self._housekeeping = Housekeeping(database, conf.keep)
        self._self_check = SelfCheck(database, conf)
        self._outboxes = Outboxes(database, conf.outboxes)

    def close(self) -> None:
        """Close the applications' files."""
        self._outboxes.close()

    @property
    def have_waited(self) -> bool:
        """Whether they have waited for long enough, and are to be done even where somebody has said something."""
        return time.monotonic() >= self._wait_until

    @property
    def next_moment(self) -> float:
        """When they are to be done though nothing happens, on the monotonic clock."""
        now = time.monotonic()
        moments = [now + RESCUE_SECONDS]
        if not (self._shutdown.is_asked_for or self._setback.is_resting):
            moments.append(now + self._outboxes.poll_seconds)
        if not self._setback.is_on and self._housekeeping.next_moment is not None:
            moments.append(self._housekeeping.next_moment)
        return min(moments)

    @property
    def is_short_of_room(self) -> bool:
        """Whether less is free on the disk than the settings say: what is left is for outcomes."""
        return self._self_check.is_short_of_room

    def look_for_cancels(self) -> None:
        """Somebody may have asked an attempt to stop."""
        self._may_be_cancels = True

    def do(self) -> None:
        """One after the other; what the disk or another writer prevents is done the next time."""
        self._wait_until = time.monotonic() + CHORES_SECONDS
        self._check_the_file()
        self._rescue_the_dead()
        self._tidy_up()
        self._drain_outboxes()
        self._renew()
        self._heed_cancels()
        self._see_what_is_due()
        self._get_ready()

    def _check_the_file(self) -> None:
        with self._setback.survived():
            self._self_check.look()

    def _rescue_the_dead(self) -> None:
        with self._setback.survived():
            if self._registration.is_time_to_rescue() and self._registration.rescue():
                self._intake.look_again()
                self._waiting.look_again()

    def _tidy_up(self) -> None:
        if self._housekeeping.is_due and not self._is_busy() and not self._setback.is_on:
            with self._setback.survived():
                self._housekeeping.tidy()

    def _drain_outboxes(self) -> None:
        if self._shutdown.is_asked_for or self._setback.is_resting:
            return
        with self._setback.survived():
            if self._outboxes.drain():
                self._intake.look_again()
                self._watch.committed_ourselves()

    def _heed_cancels(self) -> None:
        if not self._may_be_cancels:
            return
        with self._setback.survived():
            if self._attempts:
                for invocation_id, claim in self._database.query("cancel_requests", runner=self._registration.id):
                    self._attempts.cancel(invocation_id, claim, self._kill_grace)
            self._may_be_cancels = False

    def _see_what_is_due(self) -> None:
        if not self._setback.is_resting:
            with self._setback.survived():
                self._intake.see_what_is_due()
