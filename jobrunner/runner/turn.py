"""A turn's one transaction: all that came in, all that became due, all that can be claimed."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from jobrunner import batches, dependencies
from jobrunner.database import Database
from jobrunner.errors import JobRunnerError
from jobrunner.runner.admission import admit
from jobrunner.runner.attempts import Attempts
from jobrunner.runner.intake import Intake
from jobrunner.runner.recorder import Recorder
from jobrunner.runner.registration import Registration
from jobrunner.runner.running import Running
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.waiting import Changes, WaitingRoom
from jobrunner.wall_clock import WallClock

log = logging.getLogger("jobrunner.runner")


class Done(NamedTuple):
    """What is committed, and is to be acted on now."""

    admitted: list[Running]
    waits: Changes
    ended_some: bool
    """Whether jobs of this runner have ended, or asked for something."""


NOTHING = Done([], Changes([], []), ended_some=False)


class Room(NamedTuple):
    """For how many more there is room."""

    slots: int
    """So many are free."""
    ahead: int
    """So many more may be claimed, to be begun at once when a slot is free."""
    lined_up: int
    """So many were claimed ahead, and wait for a slot."""


class Turn:
    """Made once, and taken whenever there is something to write down or to claim.

    What is in memory moves on only when the commit is certain. So a turn that fails, on a full disk say, is taken
    again and loses nothing.
    """

    def __init__(
        self,
        database: Database,
        registration: Registration,
        attempts: Attempts,
        recorder: Recorder,
        waiting: WaitingRoom,
        intake: Intake,
        conf: RunSettings,
    ) -> None:
        self._database = database
        self._registration = registration
        self._attempts = attempts
        self._recorder = recorder
        self._waiting = waiting
        self._intake = intake
        self._conf = conf
        self._wall_clock = WallClock(database)
        self._more_to_settle = False

    def wants(self, room: Room, *, may_claim: bool) -> bool:
        """Whether there is something to do with so much room."""
        return (
            self._recorder.wants(self._attempts.looked_after)
            or self._waiting.wants(room.slots)
            or self._wall_clock.is_set_anew
            or self._more_to_settle
            or self._intake.wants(room.slots + room.ahead if may_claim else 0)
        )

    def take(self, room: Room, write_news: Callable[[], None], *, may_claim: bool) -> Done:
        """Make the transaction; NotBegun where another program keeps the write lock, NotWritten for the disk's sake."""
        try:
            with self._database.transaction():
                done = self._write(room, may_claim=may_claim)
                write_news()
                self._registration.beat()
        except JobRunnerError:
            self._intake.undone()
            self._waiting.look_again()
            raise
        self._wall_clock.written()
        self._recorder.written()
        self._waiting.written()
        self._intake.written(len(done.admitted))
        if self._intake.ended_some:
            self._waiting.look_again()
        return done

    def _write(self, room: Room, *, may_claim: bool) -> Done:
        if self._wall_clock.heed():
            self._intake.look_again()
        ended_some = self._recorder.write(self._attempts.looked_after)
        if ended_some:
            self._intake.look_again()
            self._waiting.look_again()
        self._follow_up()
        waits = self._waiting.write(room.slots, self._recorder.made_final if len(self._waiting) else ())
        free = room.slots + len(waits.paused) - len(waits.resumed)
        if waits.paused:
            self._intake.look_again()  # what they wait for may be taken now, even by a runner that ends
        else:  # one claimed ahead would have the place in which they are to go on
            free += room.ahead
        # Their slots are for what they wait for. Where some are lined up it may be among them, and comes back later.
        for_awaited = bool(waits.paused) and room.lined_up > 0
        claimed = self._intake.take(free if may_claim else 0, awaited_only=for_awaited)
        # In here, since reading the arguments may fail: then nothing was claimed.
        admitted = [admit(self._database, one, self._conf) for one in claimed]
        return Done(admitted, waits, ended_some)

    def _follow_up(self) -> None:
        """What ended may let others go, call them off, or complete a batch."""
        self._more_to_settle = False
        to_settle, to_count = self._database.query("to_follow_up")[0]
        if not (to_settle or to_count):
            return
        settled, counted = dependencies.settle(self._database), batches.count(self._database)
        self._more_to_settle = settled.more or counted.more
        for what in counted.left_out:
            log.error("%s", what)
        if settled.released or settled.cancelled or counted.completed:
            self._intake.look_again()
            self._waiting.look_again()
