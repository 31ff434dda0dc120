"""How the loop of a runner comes to its end: what signals ask for, when it is over, and why."""

import logging
import time

from jobrunner.errors import NotWritten
from jobrunner.runner.attempts import Attempts
from jobrunner.runner.intake import Intake
from jobrunner.runner.recorder import Recorder
from jobrunner.runner.setback import Setback
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.shutdown import Shutdown
from jobrunner.runner.waiting import WaitingRoom

SHUTDOWN_GRACE = 1.0
"""Seconds between TERM and KILL when the runner stops; a job had the shutdown time before."""

log = logging.getLogger("jobrunner.runner")


class Ending:
    """From the first turn on; each has the signals heeded, and asks whether it was the last."""

    def __init__(
        self,
        settings: RunSettings,
        attempts: Attempts,
        recorder: Recorder,
        waiting: WaitingRoom,
        intake: Intake,
        setback: Setback,
        shutdown: Shutdown,
    ) -> None:
        self._settings = settings
        self._attempts = attempts
        self._recorder = recorder
        self._waiting = waiting
        self._intake = intake
        self._setback = setback
        self._shutdown = shutdown

    def heed_signals(self) -> None:
        """Where an end is asked for: stop what runs when its time is up, or when nothing of it can go on."""
        if self._shutdown.is_new():
            log.info("stopping: %d jobs have %g s to finish", len(self._attempts), self._shutdown.seconds)
        if self._shutdown.is_over or (self._shutdown.is_asked_for and self._only_waits()):
            self._shutdown.end()
            for running in self._attempts:
                self._attempts.stop(running, "shutdown", SHUTDOWN_GRACE)

    def _only_waits(self) -> bool:
        """Whether all that is left waits for what nobody here will do any more."""
        may_go_on = self._recorder.has_more or not self._waiting.is_still
        return bool(self._attempts) and not may_go_on and self._attempts.holding_slots == 0

    def reason(self, free: int) -> str | None:
        """Why to end now, or None; NotWritten where outcomes cannot be recorded, and the time to try that is up."""
        if self._attempts:
            return None
        if self._recorder.has_more:
            self._give_up_where_it_is_time()
            return None
        if self._shutdown.is_asked_for:
            return "stopped by a signal"
        if self._intake.is_exhausted:
            return f"done: {self._settings.max_jobs} jobs"
        if self._is_idle(free):
            return f"idle for {self._settings.max_idle:g} s"
        if self._settings.drain and self._intake.is_drained():
            return "drained"
        return None

    @property
    def next_moment(self) -> float | None:
        """When this runner will have been idle for long enough, on the monotonic clock."""
        if self._settings.max_idle is None or self._attempts:
            return None
        return self._attempts.idle_since + self._settings.max_idle

    def _is_idle(self, free: int) -> bool:
        idle_at = self.next_moment
        return idle_at is not None and time.monotonic() >= idle_at and not self._intake.wants(free)

    def _give_up_where_it_is_time(self) -> None:
        if self._setback.is_on and self._shutdown.is_out_of_time:
            raise NotWritten(
                f"the database could not be written until the end: the outcomes of {self._recorder.unrecorded} jobs "
                "are not recorded, and these jobs will be done again"
            )
