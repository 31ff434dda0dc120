"""The order of the runner's loop. A runner differs in where it places work, how it reaps and how it pauses."""

import logging
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from jobrunner import ownership, unknown_tasks
from jobrunner.cache import Cache, SharedCache
from jobrunner.commit_watch import CommitWatch
from jobrunner.database import Database
from jobrunner.database_file import check_root
from jobrunner.errors import NotWritten
from jobrunner.models import InvocationId
from jobrunner.ownership import RunnerLocks
from jobrunner.runner.attempts import Attempts
from jobrunner.runner.chores import Chores
from jobrunner.runner.declared import Declared
from jobrunner.runner.ending import Ending
from jobrunner.runner.hearing import Hearing
from jobrunner.runner.intake import Intake
from jobrunner.runner.placing import Placing
from jobrunner.runner.recorder import Recorder
from jobrunner.runner.registration import Introduction, Registration
from jobrunner.runner.running import Running
from jobrunner.runner.setback import Setback
from jobrunner.runner.settings import RunSettings, settings_of
from jobrunner.runner.shutdown import Shutdown
from jobrunner.runner.stop_signals import StopSignals
from jobrunner.runner.turn import NOTHING, Done, Room, Turn
from jobrunner.runner.waiter import Reply
from jobrunner.runner.waiting import ClassifiedInvocations, WaitingRoom, default_max_paused

LOCK_SECONDS = 1.0
LAST_WORD_SECONDS = 30.0

log = logging.getLogger("jobrunner.runner")


class BaseRunner(Placing):
    """A runner from its start to its end; one thread, one database connection, no user code."""

    mode: ClassVar[str]

    def __init__(self, conf: RunSettings) -> None:
        self.conf = conf
        self.token = ownership.new_token()
        self.runner_cache = SharedCache()
        self._hearing = Hearing()
        self._declared = Declared([], [])

    @classmethod
    def parse_args(cls, args: dict[str, Any]) -> RunSettings:
        """The settings that `app.run(...)` was given for this runner; UsageError where one cannot be meant."""
        return settings_of(args)

    def run(self) -> int:
        """Work until told to stop, or until nothing is left where the settings say so; gives how many jobs failed."""
        if not self.conf.allow_root:
            for path in (self.conf.database, *self.conf.outboxes):
                check_root(path)
        with StopSignals() as self._signals, self._hearing:
            self._shutdown = Shutdown(self._signals, self.conf.shutdown_timeout)
            try:
                self._on_start()  # starts the template: nothing is open yet
                with (
                    Database(
                        self.conf.database,
                        create=True,
                        relaxed=self.conf.relaxed,
                        checkpoint_pages=1000,
                        undo_in_memory=True,
                    ) as database,
                    RunnerLocks(self.conf.database) as locks,
                ):
                    self._serve(database, locks)
            finally:
                self._on_stop()
        return self._recorder.failed

    @property
    def cache(self) -> Cache:
        """The dictionary that all jobs of this runner share, as they see it."""
        return Cache(self.runner_cache.call)

    def _serve(self, database: Database, locks: RunnerLocks) -> None:
        self.database = database
        self._registration = Registration(
            database, locks, self.conf, Introduction(self.mode, self.max_parallel_slots, self.token)
        )
        self._declared.write(database)
        unknown_tasks.try_now(database)
        # A loop that waits long for the write lock would miss its deadlines: it tries again at the next turn.
        database.patience.seconds = LOCK_SECONDS
        self._intake = Intake(database, self._registration.id, self.conf)
        self._recorder = Recorder(database, self._registration.id, self.runner_cache)
        self._waiting = WaitingRoom(database, self.conf.max_paused or default_max_paused())
        self._attempts = Attempts(self._waiting, self._recorder, self._intake, self._start, self._signal)
        self._turn = Turn(
            database, self._registration, self._attempts, self._recorder, self._waiting, self._intake, self.conf
        )
        self._setback = Setback(database.path)
        self._ending = Ending(
            self.conf, self._attempts, self._recorder, self._waiting, self._intake, self._setback, self._shutdown
        )
        with CommitWatch(database) as self._watch, self._chores_of(database) as self._chores:
            self._hearing.listen(self._signals.fileno(), lambda _: self._signals.drain())
            if self._watch.descriptor is not None:
                self._hearing.listen(self._watch.descriptor, lambda _: None)
            log.info("runner %d: %d slots on %s", self._registration.id, self.max_parallel_slots, database.path)
            while (why := self._ending.reason(self._reclaim_available_slots())) is None:
                self.runner_loop_iteration()
            self._on_stop_runner_loop(why)

    def _chores_of(self, database: Database) -> Chores:
        return Chores(
            database,
            self._registration,
            self._attempts,
            self._waiting,
            self._intake,
            self.conf,
            self._setback,
            self._shutdown,
            self._watch,
            is_busy=self._wants_transaction,
            renew=self._renew,
            get_ready=self._get_ready,
        )

    def runner_loop_iteration(self) -> None:
        """One turn: hear, then one transaction for all that came in and all that can be claimed, then tell.

        Between hearing and telling stands only what the transaction needs, since others wait for it.
        """
        if self._has_time():
            self._chores.do()
            self._collect_messages()
        self._ending.heed_signals()
        self._attempts.enforce_deadlines(self.conf.kill_grace)
        self._tend()
        done = self._transact()
        self._waiting.reply()  # who is stopped finds the answer there when it goes on
        for running in done.waits.resumed:
            self._resume_waiting_process(running)
        for running in done.waits.paused:
            self._pause_waiting_process(running)
        self._attempts.place(done.admitted)
        self._send_off()
        self._recorder.reply()  # who has enqueued something, and waits for it next, may find that it is over already
        self._recorder.tell()

    def _has_time(self) -> bool:
        """Whether nobody has said anything since the last turn; or the chores have waited for long enough."""
        return self._chores.have_waited or not self._hear(0.0)

    @property
    def _is_stopping(self) -> bool:
        return self._shutdown.is_asked_for

    def _on_stop_runner_loop(self, why: str) -> None:
        """The loop has ended, nothing runs any more, and the database is still open: say that this runner stopped."""
        self.database.patience.seconds = LAST_WORD_SECONDS
        try:
            self._registration.stop(why)
        except NotWritten as error:
            log.warning("%s; others will find this runner gone, and nothing that it left", error)
        log.info("runner %d: %s", self._registration.id, why)

    # Hearing

    def _collect_messages(self) -> None:
        until = time.monotonic() + self._patience()
        # A write that nobody can see yet is no reason for a turn: what it writes is seen in a moment.
        while not (self._hear(until - time.monotonic()) or time.monotonic() >= until):
            pass

    def _hear(self, patience: float) -> bool:
        """Whether there is news: of a commit, or from anybody else than the watch."""
        heard = self._hearing.hear(max(0.0, min(patience, self._watch.poll_seconds)))
        others = heard - {self._watch.descriptor}
        if others == heard and not self._watch.is_due:
            return bool(others)
        with self._setback.survived():
            if self._watch.has_committed():
                self._intake.look_again()
                self._waiting.look_again()
                self._chores.look_for_cancels()
                return True
        return bool(others)

    def _patience(self) -> float:
        if self._wants_transaction():
            return 0.0
        soonest = min(moment for moment in self._moments() if moment is not None)
        return max(0.0, soonest - time.monotonic())

    def _moments(self) -> Iterator[float | None]:
        yield self._chores.next_moment
        yield from self._attempts.moments()
        yield self._shutdown.next_moment
        if self._setback.is_on:  # what is due stays due until it is tried again
            yield self._setback.next_moment
            return
        yield from self._attempts.flush_moments()
        yield self._intake.next_moment
        yield self._waiting.next_moment
        yield self._ending.next_moment

    # Waiting

    @property
    def waiting_processes(self) -> int:
        """How many jobs of this runner are paused until others are finished."""
        return len(self._waiting)

    def classify_waiting_invocations(self) -> ClassifiedInvocations:
        """Which of the awaited invocations are final, and which not."""
        return self._waiting.classify_waiting_invocations()

    def _waiting_for_results(
        self,
        running: Running,
        ids: list[InvocationId],
        reply: Reply,
        timeout: float | None,
        *,
        for_result: bool = False,
    ) -> None:
        """A job asks to be told when others are final: if they are not, it is paused, soon or in this turn."""
        soon = bool(ids) and not self._lined_up and self._attempts.are_under_way(ids)
        self._waiting.ask(running, reply, ids, timeout, for_result=for_result, soon=soon)

    # The transaction

    def _reclaim_available_slots(self) -> int:
        """How many more may be done now: what has ended is out of the way by now, and who is paused holds no slot."""
        return self.max_parallel_slots - self._attempts.holding_slots

    def _claims_ahead(self) -> int:
        """How many more than the slots may be claimed now, to be begun at once when one is free."""
        return 0

    @property
    def _lined_up(self) -> int:
        """How many were claimed ahead, and wait for a slot."""
        return 0

    def _room(self) -> Room:
        return Room(self._reclaim_available_slots(), self._claims_ahead(), self._lined_up)

    def _may_claim(self) -> bool:
        is_hindered = self._chores.is_short_of_room or (self._setback.is_on and self._recorder.has_more)
        return not self._is_stopping and not is_hindered

    def _wants_transaction(self) -> bool:
        if self._setback.is_resting:
            return False
        if self._recorder.has_more:
            return True
        return self._turn.wants(self._room(), may_claim=self._may_claim()) or self._has_news()

    def _transact(self) -> Done:
        done = NOTHING
        if self._wants_transaction():
            with self._setback.survived():
                done = self._turn.take(self._room(), self._write_news, may_claim=self._may_claim())
                self._news_are_written()
                self._setback.end()
                if done.ended_some:
                    self._chores.look_for_cancels()
            self._watch.committed_ourselves()
        return done
