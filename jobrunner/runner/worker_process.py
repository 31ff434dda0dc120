"""A worker as its runner sees it: a key that the template knows it by, a channel, and two streams of output."""

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator

from jobrunner import channel
from jobrunner.channel import Channel, Message
from jobrunner.runner.backlog import Backlog
from jobrunner.runner.messages import BadMessage
from jobrunner.runner.running import Running
from jobrunner.runner.thread_runner import Given

Descriptors = tuple[int, int, int]
_MANY = 1 << 20
"""Characters of arguments in one message."""


class WorkerProcess(ABC):
    """It starts before its process is forked, and ends with `close`; OSError where no descriptors are left.

    `lend` gives the three descriptors of the worker's side, once; `streams` maps ours to their names.
    """

    def __init__(self, key: int) -> None:
        self.key = key
        self.pid = 0
        self.is_heard_out = False
        """Whether nothing that it says is read any more."""
        self.begun_at = 0.0
        """When it was there and had what it is to do, on the monotonic clock."""
        self.is_over = False
        """Whether all that it did is concluded, though it is not reaped yet."""
        self.is_unused = False
        """Whether it is known to have read nothing of what it was told."""
        pipes: list[int] = []
        try:
            pipes += _pipe()
            pipes += _pipe()
            ours, theirs = channel.pair()
        except OSError:
            for end in pipes:
                os.close(end)
            raise
        self.channel = Channel(ours)
        self.streams = {pipes[0]: "stdout", pipes[2]: "stderr"}
        self._theirs = (theirs.detach(), pipes[1], pipes[3])

    @property
    @abstractmethod
    def runnings(self) -> list[Running]:
        """The attempts that it has in hand."""

    @property
    def unstarted(self) -> list[Running]:
        """Those of them that it cannot have begun."""
        return self.runnings if self.is_unused else []

    @abstractmethod
    def addressed(self, message: Message) -> tuple[Running | None, Message, Message]:
        """Whose message it is (None: of one that is over), what is said, and what an answer begins with."""

    @contextlib.contextmanager
    def lend(self) -> Iterator[Descriptors]:
        """The worker's side, closed here when the block ends."""
        try:
            yield self._theirs
        finally:
            for descriptor in self._theirs:
                os.close(descriptor)

    def close_stream(self, stream: int) -> None:
        """Nothing more comes out of it."""
        del self.streams[stream]
        os.close(stream)

    def close(self) -> None:
        """Close our side."""
        self.channel.close()
        for stream in list(self.streams):
            self.close_stream(stream)


class SingleWorker(WorkerProcess):
    """A process for one attempt; forked ahead, it waits for it, and is a spare as long as it has none."""

    def __init__(self, key: int, running: Running | None = None) -> None:
        super().__init__(key)
        self.running = running

    @property
    def is_spare(self) -> bool:
        """Whether it can be given an attempt."""
        return self.running is None and not self.is_over and self.channel.fileno() >= 0

    @property
    def runnings(self) -> list[Running]:
        """The one."""
        return [] if self.running is None else [self.running]

    def addressed(self, message: Message) -> tuple[Running | None, Message, Message]:
        """It can only be the one's; a question has its number behind it."""
        match message:
            case ["ask", verb, facts, int(number)]:
                return self.running, ["ask", verb, facts], [number]
        return self.running, message, []


class PoolWorker(WorkerProcess):
    """A process with threads, for many attempts at a time."""

    def __init__(self, key: int, threads: int, most: int | None) -> None:
        super().__init__(key)
        self.threads = threads
        """How many attempts it is to have at a time."""
        self.most = most
        """How many attempts it is to have in all; None: no end."""
        self.extra = 0
        """How many threads it has beyond these: one for each that waits for results."""
        self.grown = threads
        """How many threads it has had at most."""
        self.held: dict[int, Running] = {}
        self._given: list[Given] = []
        self._given_size = 0
        self.done = 0
        self.retiring = False
        """No more work is placed in it."""
        self.backlog = Backlog()
        """What waits in it for a thread."""

    def give(self, running: Running) -> None:
        """It is to do this one; `hand_over` follows."""
        if not self.held or self.backlog.is_asked_back:  # nothing else could take it: it, too, comes back after a while
            self.backlog.moved()
        one = running.claimed
        args = one.args or "{}"
        self.held[one.id] = running
        self._given.append((one.id, one.claim, one.attempt, one.task, args, one.policy))
        self._given_size += len(args)
        if self._given_size > _MANY:
            self.hand_over()

    def hand_over(self) -> None:
        """Have what was given ready to be sent, in one message: one for each would take longer than a job."""
        if self._given:
            self.channel.queue("do", *self._given)
        self._given, self._given_size = [], 0

    def ask_back(self) -> None:
        """Have ready to be sent: it is to give back what waits in it for a thread."""
        self.backlog.expect()
        self.channel.queue("give_back")

    def grow(self) -> bool:
        """Have ready: a thread takes the place of one that waits; tells whether it never had so many."""
        if self.extra >= self.waiting:
            return False
        self.extra += 1
        self.channel.queue("more")
        is_most = self.threads + self.extra > self.grown
        self.grown += is_most
        return is_most

    def shrink(self) -> None:
        """Have ready: threads end that took the place of one that goes on, or is over."""
        while self.extra > 0 and self.extra > self.waiting:
            if self.queued:
                self.ask_back()  # else the thread would go on with that first
            self.extra -= 1
            self.channel.queue("fewer")

    @property
    def runnings(self) -> list[Running]:
        """Those that its threads do, and those that wait."""
        return list(self.held.values())

    @property
    def unstarted(self) -> list[Running]:
        """Its threads take them in the order in which they came: what is behind as many as there ever were threads."""
        return self.runnings[self.grown :] if len(self.held) > self.grown else []

    @property
    def queued(self) -> int:
        """How many wait in it for a thread."""
        return max(0, self.active - self.threads)

    @property
    def active(self) -> int:
        """How many attempts it has, those that wait for others not counted."""
        if self.grown == self.threads:
            return len(self.held)  # none of it has ever waited
        return len(self.held) - self.waiting

    @property
    def waiting(self) -> int:
        """How many attempts wait for others."""
        return sum(one.paused_at is not None for one in self.held.values())

    @property
    def has_room(self) -> bool:
        """Whether one more can be placed in it."""
        return not self.retiring and not self.is_used_up and self.active < self.threads

    @property
    def is_used_up(self) -> bool:
        """Whether it has had as many attempts as it is to have."""
        return self.most is not None and self.done + len(self.held) >= self.most

    def addressed(self, message: Message) -> tuple[Running | None, Message, Message]:
        """`["of", invocation, claim, number of the question, ...]`."""
        match message:
            case ["of", int(invocation_id), int(claim), int(number), *said] if said:
                running = self.held.get(invocation_id)
                mine = running if running is not None and running.claimed.claim == claim else None
                return mine, said, ["reply", invocation_id, claim, number]
        raise BadMessage("a message that is nobody's")


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return reader, writer
