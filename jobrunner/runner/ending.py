"""When a runner's loop is over, and why."""

import time

from jobrunner.errors import NotWritten
from jobrunner.runner.attempts import Attempts
from jobrunner.runner.intake import Intake
from jobrunner.runner.recorder import Recorder
from jobrunner.runner.setback import Setback
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.shutdown import Shutdown


class Ending:
    """Asked once a turn."""

    def __init__(
        self,
        settings: RunSettings,
        attempts: Attempts,
        recorder: Recorder,
        intake: Intake,
        setback: Setback,
        shutdown: Shutdown,
    ) -> None:
        self._settings = settings
        self._attempts = attempts
        self._recorder = recorder
        self._intake = intake
        self._setback = setback
        self._shutdown = shutdown

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
