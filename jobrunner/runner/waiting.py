"""Invocations that wait for others: paused, holding no slot, resumed when all that they wait for are final."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import psutil

from jobrunner import orchestrator, queues, state_backend
from jobrunner.database import Database
from jobrunner.errors import DatabaseBroken, DatabaseBusy, JobRunnerError, WaitTimeout, facts_of
from jobrunner.models import InvocationId
from jobrunner.runner import requests
from jobrunner.runner.running import Running
from jobrunner.runner.waiter import SOON_SECONDS, Reply, Waiter

PAUSED_PROCESS_BYTES = 20 << 20
"""What a paused process is taken to need where the limit on their number follows the memory."""

LOOK_SHARE = 4.0
"""After a look at what is awaited, this many times as long is spent on other things."""


class ClassifiedInvocations(NamedTuple):
    """Awaited invocations by whether they have reached a final status."""

    final: list[InvocationId]
    non_final: list[InvocationId]


class Changes(NamedTuple):
    """What a turn's transaction decided: which processes are to be stopped, and which are to go on."""

    paused: list[Running]
    resumed: list[Running]


@dataclass(eq=False)
class _Draft:
    """What a turn's transaction decides; it comes true in memory when the commit is certain."""

    asking: list[Waiter] = field(default_factory=list)
    answered: list[Waiter] = field(default_factory=list)
    paused: list[Waiter] = field(default_factory=list)
    final: set[InvocationId] = field(default_factory=set)
    ready: list[Waiter] = field(default_factory=list)
    resumed: list[Waiter] = field(default_factory=list)
    given_up: list[Waiter] = field(default_factory=list)
    has_no_place: bool = False
    replies: list[Callable[[], None]] = field(default_factory=list)


def default_max_paused() -> int:
    """Half of the memory that is free now, in paused processes; at least 16."""
    return max(16, psutil.virtual_memory().available // 2 // PAUSED_PROCESS_BYTES)


class WaitingRoom:
    """A runner's waiters, from its registration on."""

    def __init__(self, database: Database, max_paused: int) -> None:
        self._database = database
        self._max_paused = max_paused
        self._asking: dict[Running, Waiter] = {}
        self._waiters: dict[InvocationId, Waiter] = {}
        self._ready: dict[InvocationId, Waiter] = {}
        self._draft = _Draft()
        self._replies: list[Callable[[], None]] = []
        self._look = False
        self._look_after = 0.0
        self._has_no_place = False
        """Whether somebody is ready, and only its queue keeps it: that changes with a commit."""

    def __len__(self) -> int:
        return len(self._waiters)

    def ask(
        self,
        running: Running,
        reply: Reply,
        ids: list[InvocationId],
        timeout: float | None,
        *,
        for_result: bool = False,
        soon: bool = False,
    ) -> None:
        """A job asks to be told when all of `ids` are final; `soon`: they may be so in a moment."""
        # A job asks one thing at a time: where it asked before, an exception has made it turn away from that.
        self._asking.pop(running, None)
        self._asking[running] = Waiter(running, reply, ids, timeout, for_result, SOON_SECONDS if soon else 0.0)

    def look_again(self) -> None:
        """Something may have become final."""
        self._look = bool(self._waiters)
        self._has_no_place = False

    def forget(self, *those: Running) -> None:
        """Their processes are gone, or going; nobody is to be told."""
        for running in those if self._asking else ():
            self._asking.pop(running, None)
        for running in those if self._waiters else ():
            self._waiters.pop(running.claimed.id, None)
            self._ready.pop(running.claimed.id, None)

    def wants(self, free: int) -> bool:
        """Whether `write` has something to do."""
        may_look = self._look and time.monotonic() >= self._look_after
        may_resume = self._ready and free > 0 and not self._has_no_place
        return bool(may_look or may_resume or self._must_pause() or self._overdue())

    @property
    def is_still(self) -> bool:
        """Whether nobody can be resumed as far as is known, and nobody asks."""
        return not (self._look or self._ready or any(running.paused_at is None for running in self._asking))

    @property
    def next_moment(self) -> float | None:
        """When the first of them has waited long enough, or one may look again, on the monotonic clock."""
        moments = [one.deadline for one in self._not_ready() if one.deadline is not None]
        moments += [one.pause_at for running, one in self._asking.items() if running.paused_at is None]
        return min([*moments, self._look_after] if self._look else moments, default=None)

    def write(self, free: int, ended: Collection[InvocationId] = ()) -> Changes:
        """Inside a transaction: pause those that have to wait, and resume whom it is time for while there is room.

        What has `ended` here is looked at now, before others are claimed, who would have the slots to go on in.

        All stay as they are until `written`: a transaction that fails changes nobody.
        """
        self._draft = draft = _Draft()
        for waiter in self._asking.values():
            if self._pause(waiter):
                draft.paused.append(waiter)  # one by one: each counts for those behind it
        self._find_ready(ended)
        self._resume_some(free + len(draft.paused))
        return Changes([one.running for one in draft.paused], [one.running for one in draft.resumed])

    def written(self) -> None:
        """The commit is certain: those that were paused wait, and those that were resumed do not."""
        draft, self._draft = self._draft, _Draft()
        self._asking = {one.running: one for one in draft.asking}
        for waiter in draft.answered:
            waiter.running.stood_still(waiter.asked_at)
        for waiter in draft.paused:
            waiter.running.pause(waiter.asked_at)
            self._waiters[waiter.running.claimed.id] = waiter
        for waiter in self._waiters.values() if draft.final else ():
            waiter.unfinished -= draft.final
        self._ready = {one.running.claimed.id: one for one in draft.ready}
        self._has_no_place = draft.has_no_place
        for waiter in draft.resumed:
            waiter.running.resume()
        for waiter in (*draft.resumed, *draft.given_up):  # what such a job asks by now stays asked
            self._waiters.pop(waiter.running.claimed.id, None)
            self._ready.pop(waiter.running.claimed.id, None)
        self._replies += draft.replies

    def reply(self) -> None:
        """Send the answers; what was decided is committed."""
        replies, self._replies = self._replies, []
        for reply in replies:
            reply()

    def classify_waiting_invocations(self) -> ClassifiedInvocations:
        """Ask once for all that anybody here waits for which are final and which not."""
        return self._classify({one for waiter in self._waiters.values() for one in waiter.unfinished})

    def _classify(self, awaited: set[InvocationId]) -> ClassifiedInvocations:
        non_final = orchestrator.unfinished(self._database, sorted(awaited)) if awaited else []
        return ClassifiedInvocations(sorted(awaited.difference(non_final)), non_final)

    def _pause(self, waiter: Waiter) -> bool:
        """Pause it if it has to wait; else its answer is ready. One that is being stopped, or has ended, gets none."""
        if waiter.running.stopped is not None or waiter.running.outcome is not None:
            return False
        try:
            states = state_backend.states(self._database, waiter.ids)
            waiter.unfinished = {one.id for one in states if not one.status.is_final}
            if not waiter.unfinished:
                if waiter.has_patience:
                    self._draft.answered.append(waiter)
                self._answer(waiter)
                return False
            if not waiter.is_to_be_paused:
                self._draft.asking.append(waiter)
                return False
            self._check_room(len(self._waiters) + len(self._draft.paused))
            with self._database.transaction():
                orchestrator.pause(self._database, waiter.running.claimed, sorted(waiter.unfinished))
        except (DatabaseBroken, DatabaseBusy):
            raise  # the runner's trouble, not the job's
        except JobRunnerError as error:
            self._draft.replies.append(partial(waiter.reply, "error", facts_of(error)))
            return False
        return True

    def _check_room(self, paused: int) -> None:
        if paused >= self._max_paused:
            raise JobRunnerError(
                f"{paused} jobs of this runner wait for others already, which is its limit: "
                "raise it with --max-paused, or let fewer wait at a time"
            )

    def _find_ready(self, ended: Collection[InvocationId]) -> None:
        draft = self._draft
        if self._look and time.monotonic() >= self._look_after:
            self._look = False
            self._find_final()
        elif ended:
            here = {one for waiter in self._waiters.values() for one in waiter.unfinished.intersection(ended)}
            draft.final.update(self._classify(here).final)
        waiting = [*self._not_ready(), *draft.paused]
        draft.ready += self._ready.values()
        draft.ready += [one for one in waiting if one.unfinished <= draft.final or one.is_overdue]

    def _find_final(self) -> None:
        began = time.thread_time()  # of a busy machine, what others do is no cost of the look
        self._draft.final.update(self.classify_waiting_invocations().final)
        # Where very many are waited for, looking must not become all that the runner does.
        self._look_after = time.monotonic() + LOOK_SHARE * (time.thread_time() - began)

    def _resume_some(self, slots: int) -> None:
        ready = self._draft.ready if slots > 0 else []
        places = queues.places(self._database, {one.running.claimed.queue for one in ready}) if ready else {}
        for waiter in ready:
            queue = waiter.running.claimed.queue
            if slots > 0 and places.get(queue, 1) > 0:
                self._resume(waiter)
                slots -= 1
                if queue in places:
                    places[queue] -= 1
            elif slots > 0:
                orchestrator.wait_for_place(self._database, waiter.running.claimed)
                self._draft.has_no_place = True

    def _resume(self, waiter: Waiter) -> None:
        if not orchestrator.resume(self._database, waiter.running.claimed):
            self._draft.given_up.append(waiter)
            return
        self._draft.resumed.append(waiter)
        if left := sorted(waiter.unfinished - self._draft.final):
            error = WaitTimeout(waiter.timeout or 0, left)
            self._draft.replies.append(partial(waiter.reply, "error", facts_of(error)))
        else:
            self._answer(waiter)

    def _answer(self, waiter: Waiter) -> None:
        claimed = waiter.running.claimed
        verb, facts = ("result", waiter.ids[:1]) if waiter.for_result else ("states", [waiter.ids])
        self._draft.replies.append(partial(waiter.reply, *requests.answer(self._database, claimed, verb, facts)))

    def _not_ready(self) -> Iterator[Waiter]:
        return (one for number, one in self._waiters.items() if number not in self._ready)

    def _must_pause(self) -> bool:
        return any(one.is_to_be_paused for one in self._asking.values())

    def _overdue(self) -> bool:
        return any(one.is_overdue for one in self._not_ready())
