"""The attempts that a runner has in hand: how they come and go, how many slots they hold, and the end of their time."""

import logging
import signal
import time
from collections.abc import Callable, Iterable, Iterator

from jobrunner.models import InvocationId, StopReason
from jobrunner.runner.intake import Intake
from jobrunner.runner.recorder import Recorder, flush_moment
from jobrunner.runner.running import Running
from jobrunner.runner.waiting import WaitingRoom

PLACING_SECONDS = 10.0
"""What a busy machine may need to begin an attempt: its timeout runs from its beginning."""
KILL_AGAIN_SECONDS = 1.0
HALT_SECONDS = 0.02
"""So long a process may go on while its job waits for others: then it is stopped."""
_DELICATE_SECONDS = 1.0

log = logging.getLogger("jobrunner.runner")


class Attempts:
    """Each is in hand from its placing until it is over."""

    def __init__(
        self,
        waiting: WaitingRoom,
        recorder: Recorder,
        intake: Intake,
        start: Callable[[Running], None],
        send: Callable[[Running, int], None],
    ) -> None:
        """`start` has one begun somewhere, OSError where no process can be had for it; `send` sends it a signal."""
        self._waiting = waiting
        self._recorder = recorder
        self._intake = intake
        self._start = start
        self._send = send
        self._in_hand: dict[InvocationId, Running] = {}
        self._looked_after: dict[InvocationId, Running] = {}
        self._delicate: set[InvocationId] = set()
        self._delicate_until = 0.0
        self.idle_since = time.monotonic()
        """Where none is in hand: since when, on the monotonic clock."""

    def __len__(self) -> int:
        return len(self._in_hand)

    def __iter__(self) -> Iterator[Running]:
        return iter(self._in_hand.values())

    def place(self, admitted: Iterable[Running]) -> None:
        """They are claimed: have them begun."""
        for running in admitted:
            if running.outcome is not None:
                self._recorder.ended(running)
            else:
                self._add(running)
                self._try_to_start(running)

    def _try_to_start(self, running: Running) -> None:
        try:
            running.start_clock(PLACING_SECONDS)  # before: who is there already starts it anew in there
            self._start(running)
        except OSError as error:
            log.error("no process for job %d: %s", running.claimed.id, error)
            self.give_back(running)

    def give_back(self, running: Running) -> None:
        """It could not be started: back into the queue, no attempt spent, and a moment of rest."""
        running.stopped = "not_started"
        self._intake.postpone(1.0)
        self.put_back(running)

    def put_back(self, running: Running) -> None:
        """It was not begun: back into the queue, no attempt spent, and none of those that were to be done here."""
        running.stopped = running.stopped or "returned"
        self._intake.returned()
        self.conclude(running)

    def conclude(self, *those: Running) -> None:
        """They are over, whatever came of them."""
        self._remove(*those)
        self._recorder.ended(*those)

    def _add(self, running: Running) -> None:
        self._in_hand[running.claimed.id] = running
        if running.claimed.crashes > 1 or running.policy.on_crash == "fail":
            self._delicate.add(running.claimed.id)
            self._delicate_until = time.monotonic() + _DELICATE_SECONDS
        running.look_after = self._look_after

    def _look_after(self, running: Running) -> None:
        if self._in_hand.get(running.claimed.id) is running:
            self._looked_after[running.claimed.id] = running

    @property
    def looked_after(self) -> Iterable[Running]:
        """Those that have a deadline, are being stopped, wait for others, or have written something."""
        return self._looked_after.values()

    @property
    def are_delicate(self) -> bool:
        """Whether one of them has crashed before, and may take this runner along, or is to be done at most once.

        So it is for a second after one was placed, too: the next ones are probably like it.
        """
        return bool(self._delicate) or time.monotonic() < self._delicate_until

    def _remove(self, *those: Running) -> None:
        for running in those:
            self._in_hand.pop(running.claimed.id, None)
        for running in those if self._looked_after or self._delicate else ():
            self._looked_after.pop(running.claimed.id, None)
            self._delicate.discard(running.claimed.id)
        self._waiting.forget(*those)
        if not self._in_hand:
            self.idle_since = time.monotonic()

    @property
    def holding_slots(self) -> int:
        """How many of them hold a slot: those that wait for others do not."""
        paused = sum([one.paused_at is not None for one in self._looked_after.values()]) if self._looked_after else 0
        return len(self._in_hand) - paused

    @property
    def some_wait(self) -> bool:
        """Whether some of them wait for others."""
        return len(self._waiting) > 0

    def are_under_way(self, ids: Iterable[InvocationId]) -> bool:
        """Whether all of these are in hand, and none of them waits for others."""
        those = map(self._in_hand.get, ids)
        return all(running is not None and running.paused_at is None for running in those)

    def cancel(self, invocation_id: InvocationId, claim: int, grace: float) -> None:
        """Somebody asked this attempt to stop, if it is in hand."""
        running = self._in_hand.get(invocation_id)
        if running is not None and running.claimed.claim == claim:
            self.stop(running, "cancel", grace)

    def stop(self, running: Running, why: StopReason, grace: float) -> None:
        """TERM now, and KILL after so many seconds."""
        if running.stopped is None:
            running.stopped = why
            self._waiting.forget(running)
            self._send(running, signal.SIGTERM)
            self._send(running, signal.SIGCONT)  # a paused process hears of it only when it goes on
        self._look_after(running)
        running.kill_at = min(running.kill_at or float("inf"), time.monotonic() + grace)

    def enforce_deadlines(self, grace: float) -> None:
        """Stop those whose time is over, and kill those that had their grace."""
        now = time.monotonic()
        for running in self.looked_after:
            if running.next_moment is None or now < running.next_moment:
                continue
            if running.stopped:
                running.kill_at = now + KILL_AGAIN_SECONDS  # told again until it is gone
                self._send(running, signal.SIGKILL)
            elif running.paused_at is not None:
                self._halt(running)
            else:
                self.stop(running, "timeout", grace)

    def halt_later(self, running: Running) -> None:
        """It waits for others: if that takes long, its process is stopped, which takes as long as a short job."""
        if running.paused_at is not None:  # a wait may be over in the turn that began it
            running.halt_at = time.monotonic() + HALT_SECONDS

    def _halt(self, running: Running) -> None:
        running.halt_at = None
        self._send(running, signal.SIGSTOP)

    def go_on(self, running: Running) -> None:
        """It waits no longer: its process goes on, where it was stopped."""
        if running.halt_at is None:
            self._send(running, signal.SIGCONT)
        running.halt_at = None

    def moments(self) -> Iterator[float | None]:
        """When something is to be done about them if nothing happens before, on the monotonic clock."""
        for running in self.looked_after:
            yield running.next_moment

    def flush_moments(self) -> Iterator[float | None]:
        """When output of theirs is to be written down, on the monotonic clock."""
        return map(flush_moment, self.looked_after)
