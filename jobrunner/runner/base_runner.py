"""The order of the runner's loop. A runner differs in where it places work, how it reaps and how it pauses."""

import contextlib
import logging
import selectors
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, ClassVar

from jobrunner import broker, orchestrator, ownership, payload
from jobrunner.cache import Cache, SharedCache
from jobrunner.commit_watch import CommitWatch
from jobrunner.database import Database
from jobrunner.database_file import check_root
from jobrunner.errors import InvocationNotFound, NotAllowed, NotBegun, UsageError
from jobrunner.models import Claimed, InvocationId, StopReason
from jobrunner.ownership import RunnerLocks
from jobrunner.policy import Policy
from jobrunner.runner.capture import Capture
from jobrunner.runner.intake import Intake
from jobrunner.runner.only import permit
from jobrunner.runner.recorder import Recorder, flush_moment
from jobrunner.runner.registration import Introduction, Registration
from jobrunner.runner.running import Running
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.stop_signals import StopSignals
from jobrunner.runner.waiting import Changes, ClassifiedInvocations, Reply, WaitingRoom, default_max_paused

RESCUE_SECONDS = 0.4
"""How often to look for runners that died: a locked byte each, no write."""
SHUTDOWN_GRACE = 1.0
"""Seconds between TERM and KILL when the runner stops; a job had the shutdown time before."""
KILL_AGAIN_SECONDS = 1.0
LOCK_SECONDS = 1.0
LAST_WORD_SECONDS = 30.0
PLACING_SECONDS = 10.0
"""What a busy machine may need to begin an attempt: its timeout runs from its beginning."""

log = logging.getLogger("jobrunner.runner")


class BaseRunner(ABC):
    """A runner from its start to its end; one thread, one database connection, no user code."""

    mode: ClassVar[str]

    def __init__(self, conf: RunSettings) -> None:
        self.conf = conf
        self.token = ownership.new_token()
        self.runner_cache = SharedCache()
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, Running] = {}
        self._look_for_cancels = False
        self._rescued_at = 0.0
        self._idle_since = time.monotonic()
        self._stop_at: float | None = None

    @classmethod
    def parse_args(cls, args: dict[str, Any]) -> RunSettings:
        """The settings that `app.run(...)` was given for this runner; UsageError where one cannot be meant."""
        known = {one.name for one in fields(RunSettings)}
        if unknown := sorted(args.keys() - known):
            raise UsageError(f"a runner has no setting {unknown[0]!r}: there are {', '.join(sorted(known))}")
        return RunSettings(**args)

    def run(self) -> None:
        """Work until told to stop, or until there is nothing left where the settings say so."""
        if not self.conf.allow_root:
            check_root(self.conf.database)
        with StopSignals() as self._signals, self._selector:
            try:
                self._on_start()  # starts the template: nothing is open yet
                with (
                    Database(
                        self.conf.database, create=True, relaxed=self.conf.relaxed, checkpoint_pages=1000
                    ) as database,
                    RunnerLocks(self.conf.database) as locks,
                ):
                    self._serve(database, locks)
            finally:
                self._on_stop()

    @property
    def cache(self) -> Cache:
        """The dictionary that all jobs of this runner share, as they see it."""
        return Cache(self.runner_cache.call)

    def _serve(self, database: Database, locks: RunnerLocks) -> None:
        self.database = database
        self._registration = Registration(
            database, locks, self.conf, Introduction(self.mode, self.max_parallel_slots, self.token)
        )
        # A loop that waits long for the write lock would miss its deadlines: it tries again at the next turn.
        database.patience.seconds = LOCK_SECONDS
        self._intake = Intake(database, self._registration.id, self.conf)
        self._recorder = Recorder(database, self._registration.id, self.runner_cache)
        self._waiting = WaitingRoom(database, self.conf.max_paused or default_max_paused())
        with CommitWatch(database) as self._watch:
            self._listen(self._signals.fileno(), lambda _: self._signals.drain())
            if self._watch.descriptor is not None:
                self._listen(self._watch.descriptor, lambda _: None)
            log.info("runner %d: %d slots on %s", self._registration.id, self.max_parallel_slots, database.path)
            while (why := self._reason_to_end()) is None:
                self.runner_loop_iteration()
            self._on_stop_runner_loop(why)

    def runner_loop_iteration(self) -> None:
        """One turn: hear, then one transaction for all that came in and all that can be claimed, then tell."""
        self._collect_messages()
        self._heed_signals()
        self._heed_cancels()
        self._enforce_deadlines()
        self._rescue_the_dead()
        self._tend()
        claimed, waits = self._transact()
        for running in waits.paused:
            self._pause_waiting_process(running)
        for running in waits.resumed:
            self._resume_waiting_process(running)
        self._place(claimed)
        self._recorder.reply()
        self._waiting.reply()

    # What a runner must know how to do

    @abstractmethod
    def _on_start(self) -> None:
        """Start the processes that work is placed in. Nothing is open yet."""

    @abstractmethod
    def _on_stop(self) -> None:
        """End every process that is left. Called however the loop ended."""

    @abstractmethod
    def _start(self, running: Running) -> None:
        """Place an attempt; OSError where no process can be had for it."""

    @abstractmethod
    def _signal(self, running: Running, number: int) -> None:
        """Send a signal to the processes of an attempt, and to none else."""

    def _tend(self) -> None:
        """See to the processes that work is placed in; called once a turn."""

    def _has_news(self) -> bool:
        """Whether `_write_news` has something to tell."""
        return False

    def _write_news(self) -> None:
        """Inside the turn's transaction: write down what people want to see of this runner's processes."""

    @property
    def _is_stopping(self) -> bool:
        return self._stop_at is not None

    @abstractmethod
    def _pause_waiting_process(self, running: Running) -> None:
        """It waits for others from now on, and is `paused` in the table: it may stop working."""

    @abstractmethod
    def _resume_waiting_process(self, running: Running) -> None:
        """What it waited for is final, and it is `resumed` in the table: it may go on. The answer follows."""

    @property
    @abstractmethod
    def max_parallel_slots(self) -> int:
        """How many invocations at a time."""

    def _on_stop_runner_loop(self, why: str) -> None:
        """The loop has ended, nothing runs any more, and the database is still open: say that this runner stopped."""
        self.database.patience.seconds = LAST_WORD_SECONDS
        self._registration.stop(why)
        log.info("runner %d: %s", self._registration.id, why)

    # Hearing

    def _listen(self, descriptor: int, heed: Callable[[int], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, heed)

    def _listens_to(self, descriptor: int) -> bool:
        return descriptor >= 0 and descriptor in self._selector.get_map()  # of a closed socket it is -1

    def _listen_for_room(self, descriptor: int, *, wanted: bool) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        self._selector.modify(descriptor, events, self._selector.get_key(descriptor).data)

    def _ignore(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def _collect_messages(self) -> None:
        for key, mask in self._selector.select(self._patience()):
            if self._listens_to(key.fd):  # an earlier event of this turn may have ended it
                key.data(mask)
        if self._watch.has_committed():
            self._intake.look_again()
            self._waiting.look_again()
            self._look_for_cancels = True

    def _patience(self) -> float:
        if self._wants_transaction():
            return 0.0
        now = time.monotonic()
        soonest = min((moment - now for moment in self._moments() if moment is not None), default=RESCUE_SECONDS)
        return max(0.0, min(soonest, RESCUE_SECONDS, self._watch.poll_seconds))

    def _moments(self) -> Iterator[float | None]:
        for running in self._running.values():
            yield running.next_moment
            yield flush_moment(running)
        yield self._stop_at
        yield self._intake.next_moment
        yield self._waiting.next_moment
        if self.conf.max_idle is not None and not self._running:
            yield self._idle_since + self.conf.max_idle

    # Time and signals

    def _heed_signals(self) -> None:
        now = time.monotonic()
        if self._signals.count and self._stop_at is None:
            self._stop_at = now + self.conf.shutdown_timeout
            log.info("stopping: %d jobs have %g s to finish", len(self._running), self.conf.shutdown_timeout)
        if self._stop_at is not None and (now >= self._stop_at or self._signals.count > 1 or self._only_waits()):
            self._stop_at = float("inf")
            for running in self._running.values():
                self._stop(running, "shutdown", SHUTDOWN_GRACE)

    def _only_waits(self) -> bool:
        """Whether all that is left waits for what nobody here will do any more."""
        may_go_on = self._recorder.has_more or not self._waiting.is_still
        return bool(self._running) and not may_go_on and all(one.paused_at for one in self._running.values())

    def _heed_cancels(self) -> None:
        if not self._look_for_cancels:
            return
        self._look_for_cancels = False
        if self._running:
            for invocation_id, claim in self.database.query("cancel_requests", runner=self._registration.id):
                running = self._running.get(invocation_id)
                if running is not None and running.claimed.claim == claim:
                    self._stop(running, "cancel", self.conf.kill_grace)

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        for running in self._running.values():
            if running.next_moment is None or now < running.next_moment:
                continue
            if running.stopped:
                running.kill_at = now + KILL_AGAIN_SECONDS  # told again until it is gone
                self._signal(running, signal.SIGKILL)
            else:
                self._stop(running, "timeout", self.conf.kill_grace)

    def _stop(self, running: Running, why: StopReason, grace: float) -> None:
        if running.stopped is None:
            running.stopped = why
            self._waiting.forget(running)
            self._signal(running, signal.SIGTERM)
            self._signal(running, signal.SIGCONT)  # a paused process hears of it only when it goes on
        running.kill_at = min(running.kill_at or float("inf"), time.monotonic() + grace)

    def _rescue_the_dead(self) -> None:
        if time.monotonic() - self._rescued_at >= RESCUE_SECONDS:
            self._rescued_at = time.monotonic()
            with self._patiently():
                if self._registration.rescue():
                    self._intake.look_again()
                    self._waiting.look_again()

    # Waiting

    @property
    def waiting_processes(self) -> int:
        """How many jobs of this runner are paused until others are finished."""
        return len(self._waiting)

    def classify_waiting_invocations(self) -> ClassifiedInvocations:
        """Which of the awaited invocations are final, and which not."""
        return self._waiting.classify_waiting_invocations()

    def _waiting_for_results(
        self, running: Running, ids: list[InvocationId], reply: Reply, timeout: float | None
    ) -> None:
        """A job asks to be told when others are final: in this turn's transaction it is paused if they are not."""
        self._waiting.ask(running, reply, ids, timeout)

    # The transaction

    def _reclaim_available_slots(self) -> int:
        """How many more may be done now: what has ended is out of the way by now, and who is paused holds no slot."""
        return self.max_parallel_slots - sum(one.paused_at is None for one in self._running.values())

    @property
    def _slots_to_claim_for(self) -> int:
        return 0 if self._stop_at is not None else self._reclaim_available_slots()

    def _wants_transaction(self) -> bool:
        return (
            self._recorder.wants(self._running.values())
            or self._waiting.wants(self._reclaim_available_slots())
            or self._intake.wants(self._slots_to_claim_for)
            or self._has_news()
        )

    def _transact(self) -> tuple[list[Claimed], Changes]:
        claimed: list[Claimed] = []
        waits = Changes([], [])
        if self._wants_transaction():
            with self._patiently(), self.database.transaction():
                if self._recorder.write(self._running.values()):
                    self._intake.look_again()
                    self._waiting.look_again()
                    self._look_for_cancels = True
                waits = self._waiting.write(self._reclaim_available_slots())
                if waits.paused:
                    self._intake.look_again()  # what they wait for may be taken now, even by a runner that ends
                claimed = self._intake.take(self._slots_to_claim_for)
                if self._intake.ended_some:
                    self._waiting.look_again()
                self._write_news()
                self._registration.beat()
            self._watch.committed_ourselves()
        return claimed, waits

    @contextlib.contextmanager
    def _patiently(self) -> Iterator[None]:
        """Where another program keeps the write lock: say so, and try again at the next turn. Nothing was begun."""
        try:
            yield
        except NotBegun as error:
            log.warning("%s; trying again", error)

    # Placing

    def _place(self, claimed: list[Claimed]) -> None:
        for one in claimed:
            running = self._admit(one)
            if running is not None:
                self._try_to_start(running)

    def _admit(self, claimed: Claimed) -> Running | None:
        capture = Capture(self.conf.output_limit)
        try:
            if claimed.args is None:
                claimed = claimed._replace(args=broker.argument(self.database, claimed.id))
            text = claimed.args or ""
            payload.check(text, len(text.encode()), "arguments")  # rows can be written by hand
            running = Running(claimed, Policy.from_json(claimed.policy), capture)
            permit(claimed, running.policy, self.conf.only)
        except (UsageError, InvocationNotFound, NotAllowed) as error:
            bad = orchestrator.unreadable(claimed, error)
            self._recorder.ended(Running(claimed, bad.policy, capture, outcome=bad.outcome))
            return None
        self._running[claimed.id] = running
        return running

    def _try_to_start(self, running: Running) -> None:
        try:
            self._start(running)
            running.start_clock(PLACING_SECONDS)
        except OSError as error:
            log.error("no process for job %d: %s", running.claimed.id, error)
            self._give_back(running)

    def _give_back(self, running: Running) -> None:
        """It could not be started: back into the queue, no attempt spent, and a moment of rest."""
        running.stopped = "not_started"
        self._intake.postpone(1.0)
        self._conclude(running)

    def _conclude(self, running: Running) -> None:
        """An attempt is over, whatever came of it."""
        self._running.pop(running.claimed.id, None)
        self._waiting.forget(running)
        self._idle_since = time.monotonic()
        self._recorder.ended(running)

    # The end

    def _reason_to_end(self) -> str | None:
        if self._running or self._recorder.has_more:
            return None
        if self._stop_at is not None:
            return "stopped by a signal"
        if self._intake.is_exhausted:
            return f"done: {self.conf.max_jobs} jobs"
        if self.conf.max_idle is not None and self._is_idle():
            return f"idle for {self.conf.max_idle:g} s"
        if self.conf.drain and self._intake.is_drained():
            return "drained"
        return None

    def _is_idle(self) -> bool:
        waited = time.monotonic() - self._idle_since >= (self.conf.max_idle or 0)
        return waited and not self._intake.wants(self._slots_to_claim_for)
