"""What a template has forked, from the fork to the reaping."""

import contextlib
import mmap
import os
import signal
import sys
from resource import struct_rusage
from typing import NoReturn

from jobrunner import kernel
from jobrunner.channel import Channel
from jobrunner.runner import output_router
from jobrunner.runner.places import Order, Places
from jobrunner.runner.worker import WORKER_VARIABLE, run_worker, worker_name


class Brood:
    """From the first fork until all are reaped, or until `end`."""

    def __init__(
        self,
        channel: Channel,
        mine: tuple[int, int, int],
        name: tuple[kernel.OwnEnvironment, str],
        places: Places,
        pass_env: list[str],
    ) -> None:
        """`mine`: descriptors that no worker may have; `name`: what tells who we are, and what it says."""
        self._channel = channel
        self._mine = mine
        self._name, self._own_name = name
        self._places = places
        self._pass_env = pass_env
        self._pid = os.getpid()
        self._workers: dict[int, int] = {}  # pid: key
        self._spares: dict[int, mmap.mmap] = {}  # key of one that was forked ahead: a byte that is 1 when it has work
        self._stdin = os.open(os.devnull, os.O_RDONLY)

    # Orders

    def fork(self, order: Order) -> None:
        """Fork it now."""
        try:
            spare = mmap.mmap(-1, 1) if order.first == ["spare"] else None
            pid = self._fork(order, spare)
        except OSError as error:
            self._channel.post("not_forked", order.key, error.strerror)
        else:
            if spare is not None:
                self._spares[order.key] = spare
            self._workers[pid] = order.key
            self._channel.post("forked", order.key, pid)
        order.close()

    def line_up(self, order: Order) -> None:
        """Fork it when there is a place for it."""
        self._places.add(order)
        self._fill()

    def set_apart(self, *keys: int) -> None:
        """These need no place any more, and others do."""
        self._places.apart = set(keys)
        self._fill()

    def give_back(self) -> None:
        """Forget what waits for a place."""
        for key in self._places.drop_all():
            self._channel.post("dropped", key)

    def signal(self, key: int, number: int) -> None:
        """Send it to the worker with this key, if there is one; one that still waits for a place is dropped."""
        if self._places.drop(key):
            self._channel.post("dropped", key)
            return
        # Only processes that we have not reaped yet: their pids cannot have been given to others.
        for pid, held in self._workers.items():
            if held == key:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, number)

    # Forking

    def _fill(self) -> None:
        # A spare counts: whoever sends something that has to wait has given work to the spare before.
        while (order := self._places.next(self._workers.values())) is not None:
            self.fork(order)

    def _fork(self, order: Order, spare: mmap.mmap | None) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        output_router.rebind()
        # Whatever a worker does first costs it a copy of a page or two; done here, where the pages are ours, much less.
        self._name.rewrite(worker_name(order.key))
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(order, spare)
        finally:
            self._name.rewrite(self._own_name)
        return pid

    def _become_worker(self, order: Order, spare: mmap.mmap | None) -> NoReturn:
        signal.set_wakeup_fd(-1)
        for descriptor in self._mine:
            os.close(descriptor)
        self._places.close()  # a job must not have the channels of others
        channel, *streams = order.descriptors
        run_worker(
            worker_name(order.key),
            channel,
            (self._stdin, streams[0], streams[1]),
            self._pid,
            order.first,
            self._pass_env,
            spare,
        )

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
            self._fill()
            self._channel.flush()
            self.sweep()

    def _reaped(self, pid: int, status: int, usage: struct_rusage) -> None:
        key = self._workers.pop(pid, None)
        if key is None:
            return  # an adopted orphan
        spare = self._spares.pop(key, None)
        if spare is not None and not spare[0]:
            self._channel.queue("unused", key)
        self.clear_away(pid)
        self._channel.queue("exit", key, pid, *_exit_facts(status), *_usage_facts(usage))

    def clear_away(self, pid: int) -> None:
        """Kill what a child that has ended left in its process group."""
        try:  # noqa: SIM105 - after each fork, the first use of `suppress` costs copies of its pages
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def sweep(self) -> None:
        """Kill what daemonised out of the process group of a job that is over; its own children come to us next."""
        strangers = [pid for pid in kernel.children() if pid not in self._workers]
        if not strangers:
            return
        # The template's own name has, too, what a task module started while it was imported.
        alive = {self._own_name, *map(worker_name, self._workers.values())}
        some_work = any(key not in self._spares or self._spares[key][0] for key in self._workers.values())
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
            for pid in kernel.children() or list(self._workers):
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


def _usage_facts(usage: struct_rusage) -> tuple[int, int]:
    per_kilobyte = 1 if kernel.is_linux else 1024  # macOS counts bytes
    return round((usage.ru_utime + usage.ru_stime) * 1000), usage.ru_maxrss // per_kilobyte
