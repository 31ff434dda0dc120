"""A turn's one transaction: all that came in, all that became due, all that can be claimed."""

from collections.abc import Callable
from typing import NamedTuple

from jobrunner.database import Database
from jobrunner.models import Claimed
from jobrunner.runner.attempts import Attempts
from jobrunner.runner.intake import Intake
from jobrunner.runner.recorder import Recorder
from jobrunner.runner.registration import Registration
from jobrunner.runner.waiting import Changes, WaitingRoom


class Done(NamedTuple):
    """What is committed, and is to be acted on now."""

    claimed: list[Claimed]
    waits: Changes
    ended_some: bool
    """Whether jobs of this runner have ended, or asked for something."""


NOTHING = Done([], Changes([], []), ended_some=False)


class Turn:
    """Made once, and taken whenever there is something to write down or to claim."""

    def __init__(
        self,
        database: Database,
        registration: Registration,
        attempts: Attempts,
        recorder: Recorder,
        waiting: WaitingRoom,
        intake: Intake,
    ) -> None:
        self._database = database
        self._registration = registration
        self._attempts = attempts
        self._recorder = recorder
        self._waiting = waiting
        self._intake = intake

    def wants(self, slots: int, claimable: int) -> bool:
        """Whether there is something to do with so many free slots, of which so many may be claimed for."""
        return self._recorder.wants(self._attempts) or self._waiting.wants(slots) or self._intake.wants(claimable)

    def take(self, slots: Callable[[], int], claimable: Callable[[], int], write_news: Callable[[], None]) -> Done:
        """Make the transaction; NotBegun where another program keeps the write lock."""
        with self._database.transaction():
            ended_some = self._recorder.write(self._attempts)
            if ended_some:
                self._intake.look_again()
                self._waiting.look_again()
            waits = self._waiting.write(slots())
            if waits.paused:
                self._intake.look_again()  # what they wait for may be taken now, even by a runner that ends
            claimed = self._intake.take(claimable())
            if self._intake.ended_some:
                self._waiting.look_again()
            write_news()
            self._registration.beat()
        return Done(claimed, waits, ended_some)
