"""What a template has forked, from the fork to the reaping."""

import contextlib
import os
import signal
from resource import struct_rusage

from jobrunner import kernel
from jobrunner.channel import Channel
from jobrunner.runner.birth import BEGIN
from jobrunner.runner.marks import Marks
from jobrunner.runner.nursery import Nursery
from jobrunner.runner.places import Order, Places
from jobrunner.runner.worker import WORKER_VARIABLE, usage_facts, worker_name

_MOST_IN_A_ROW = 10 if kernel.is_linux else 1
"""More would keep it for too long from those that have ended. Elsewhere none is forked ahead: a blocked signal is lost
where a task module ignores it, and who waits for it would outlive a killed template."""


class Brood:
    """From the first fork until all are reaped, or until `end`.

    What it tells of them waits for the channel's `flush`.
    """

    def __init__(self, channel: Channel, nursery: Nursery, places: Places, own_name: str) -> None:
        """`own_name`: what tells the template, and what task modules start while they are imported, from workers."""
        self._channel = channel
        self._nursery = nursery
        self._places = places
        self._own_name = own_name
        self._workers: dict[int, int] = {}  # pid: key
        self._marks = Marks()

    # Orders

    def fork(self, order: Order) -> None:
        """Fork it now."""
        mark = self._marks.give(order.key) if order.is_spare else None
        pids, error = self._nursery.fork([order], [mark], self._foreign)
        if error is not None:
            self._could_not(order, error)
            return
        self._begun(pids[0], order.key)
        order.close()

    def line_up(self, order: Order) -> None:
        """Have it begin when there is a place for it; `fill` follows."""
        self._places.add(order)

    def set_apart(self, *keys: int) -> None:
        """These need no place any more, and others do; `fill` follows."""
        self._places.apart = set(keys)

    def give_back(self) -> None:
        """Forget what waits for a place."""
        for key in self._places.drop_all():
            self._channel.queue("dropped", key)
        for pid in list(self._places.ready):
            self._drop(pid)

    def signal(self, key: int, number: int) -> None:
        """Send it to the worker with this key, if there is one; one that still waits for a place is dropped."""
        if self._places.drop(key):
            self._channel.queue("dropped", key)
            return
        for pid, held in self._places.ready.items():
            if held == key:
                self._drop(pid)
                return
        # Only processes that we have not reaped yet: their pids cannot have been given to others.
        for pid, held in self._workers.items():
            if held == key:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, number)

    def _drop(self, pid: int) -> None:
        key = self._places.ready.pop(pid)
        os.kill(pid, signal.SIGKILL)
        self._marks.forget(key)
        self._channel.queue("dropped", key)

    # Forking

    def fill(self) -> None:
        """Have those begin for which there is a place."""
        # A spare counts: whoever sends something that has to wait has given work to the spare before.
        while (free := self._places.free(self._workers.values())) > 0:
            if self._places.ready:
                pid = next(iter(self._places.ready))
                os.kill(pid, BEGIN)
                self._begun(pid, self._places.ready.pop(pid))
            elif orders := self._places.take(_MOST_IN_A_ROW):
                self._fork_in_a_row(orders, free)
            else:
                return

    def _fork_in_a_row(self, orders: list[Order], free: int) -> None:
        marks = [None if place < free else self._marks.give(order.key) for place, order in enumerate(orders)]
        pids, error = self._nursery.fork(orders, marks, self._foreign)
        for place, (pid, order) in enumerate(zip(pids, orders, strict=False)):
            if place < free:
                self._begun(pid, order.key)
            else:
                self._places.ready[pid] = order.key
            order.close()
        later = orders[len(pids) :]
        if error is not None and len(pids) < free:  # those that have no place yet may be had when they have one
            self._could_not(later.pop(0), error)
        for order in later:
            self._marks.forget(order.key)
        self._places.put_back(later)

    @property
    def _foreign(self) -> list[int]:
        """Descriptors of workers that are not forked yet."""
        return [*self._places.descriptors, *self._channel.untaken]

    def _could_not(self, order: Order, error: OSError) -> None:
        self._channel.queue("not_forked", order.key, error.strerror)
        self._marks.forget(order.key)
        order.close()

    def _begun(self, pid: int, key: int) -> None:
        self._workers[pid] = key
        self._channel.queue("forked", key, pid)

    # Reaping

    def reap(self) -> None:
        """Tell of those that have ended, and have others begin in their places."""
        ended = False
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            ended = True
            self._reaped(pid, status, usage)
        if ended:
            self.fill()
            self._channel.flush()
            self.sweep()

    def _reaped(self, pid: int, status: int, usage: struct_rusage) -> None:
        key = self._workers.pop(pid, None)
        if key is None:
            key = self._places.ready.pop(pid, None)
        if key is None:
            return  # an adopted orphan, or one that was dropped
        if not self._marks.has_begun(key):
            self._channel.queue("unused", key)
        self._marks.forget(key)
        self.clear_away(pid)
        self._channel.queue("exit", key, pid, *_exit_facts(status), *usage_facts(usage))

    def clear_away(self, pid: int) -> None:
        """Kill what a child that has ended left in its process group."""
        try:  # noqa: SIM105 - after each fork, the first use of `suppress` costs copies of its pages
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def sweep(self) -> None:
        """Kill what daemonised out of the process group of a job that is over; its own children come to us next."""
        ours, ready = self._workers, self._places.ready
        strangers = [pid for pid in kernel.children() if pid not in ours and pid not in ready]
        if not strangers:
            return
        # The template's own name has, too, what a task module started while it was imported.
        alive = {self._own_name, *map(worker_name, self._workers.values())}
        some_work = any(map(self._marks.has_begun, self._workers.values()))
        for pid in strangers:
            name = kernel.environment(pid).get(WORKER_VARIABLE)
            # One that has emptied its environment may belong to any job that still runs.
            if (name is None and not some_work) or (name is not None and name not in alive):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill everything below us; returns when all is reaped."""
        signal.set_wakeup_fd(-1)
        while True:
            for pid in kernel.children() or [*self._workers, *self._places.ready]:
                for end in (os.killpg, os.kill):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        end(pid, signal.SIGKILL)
            try:
                pid, _ = os.wait()
            except ChildProcessError:
                return
            self._workers.pop(pid, None)


def _exit_facts(status: int) -> tuple[int | None, int | None]:
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.waitstatus_to_exitcode(status), None
