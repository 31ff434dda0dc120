"""The template: a lean process that imports the task modules once, and forks a worker when it is told to.

It never opens the database. It is the subreaper of all that its workers start, so nothing of a job
outlives the job, and it ends with everything below it when its runner's end of the channel closes.
Started by `runner.template_process`; this module runs in a fresh interpreter.
"""

import contextlib
import gc
import importlib
import json
import mmap
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from resource import struct_rusage
from typing import Any, NamedTuple, NoReturn

from jobrunner import kernel
from jobrunner.channel import Channel
from jobrunner.errors import ChannelClosed
from jobrunner.runner import output_router, sources, trial
from jobrunner.runner.places import Order, Places
from jobrunner.runner.stop_signals import wakeup_pipe
from jobrunner.runner.worker import (
    WORKER_SIGNALS,
    WORKER_VARIABLE,
    practise,
    run_worker,
    template_name,
    trial_name,
    worker_name,
)


class Orders(NamedTuple):
    """What the runner tells a new template on its command line."""

    number: int
    places: int
    """How many workers of those that wait for a place may be alive."""
    channel: int
    app_dir: str
    own: list[str]
    """Modules of jobrunner that workers of this runner need."""
    imports: list[str]
    again: list[str]
    """Modules that jobs had imported from the code before this."""
    pass_env: list[str]
    watch: bool
    """Whether to tell which source files are read."""


class Template:
    """It starts with its runner's channel and ends with it."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._channel = Channel(socket.socket(fileno=orders.channel))
        self._name = kernel.OwnEnvironment(WORKER_VARIABLE)
        self._own_name = template_name(orders.number)
        self._pid = os.getpid()
        self._workers: dict[int, int] = {}  # pid: key
        self._places = Places(orders.places)
        self._spares: dict[int, mmap.mmap] = {}  # key of one that was forked ahead: a byte that is 1 when it has work
        self._wakeup_read, self._wakeup_write = wakeup_pipe()
        self._mine = (orders.channel, self._wakeup_read, self._wakeup_write)
        self._stdin = os.open(os.devnull, os.O_RDONLY)

    def main(self) -> None:
        """Import, say so, and obey until the runner is gone."""
        kernel.adopt_orphans()
        for module in self._orders.own:  # now, and not in each worker: they may be of another version by then
            importlib.import_module(module)
        output_router.install()
        sources.install()
        if self._orders.watch:
            sources.watch(self._orders.app_dir, self._orders.imports)
        practise()
        sys.path.insert(0, self._orders.app_dir)
        try:
            for module in self._orders.imports:
                self._import(module)
            self._tell_schedules()
            for module in self._orders.again:
                self._try(module)
            self._tell_sources()
            self._heed_children()
            gc.freeze()  # what is here stays for good: forked workers then share its pages
            self._channel.post("ready", os.getpid())
            while True:
                self._turn()
        except ChannelClosed:
            self._end_everything()

    def _heed_children(self) -> None:
        # After any import: it may have set handlers of its own. What is set here is what a worker begins with.
        for number, handler in WORKER_SIGNALS.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_BLOCK, WORKER_SIGNALS)  # the runner ends us by closing the channel
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)

    def _turn(self) -> None:
        # It never waits for the runner to read, who may be waiting for it.
        writers = [self._channel.fileno()] if self._channel.has_more_to_send else []
        readable, writable, _ = select.select([self._channel.fileno(), self._wakeup_read], writers, [])
        if writable:
            self._channel.flush()
        if self._wakeup_read in readable:
            os.read(self._wakeup_read, 4096)
            self._reap()
        if self._channel.fileno() in readable:
            for verb, *facts in self._channel.read():
                _VERBS[verb](self, *facts)

    def _import(self, module: str) -> None:
        error = trial.error_of(module)
        if error is not None:  # the runner decides
            self._channel.post("import_failed", module, *trial.reason(error))

    def _try(self, module: str) -> None:
        """As `_import_quietly`, but before there are workers that could import it first: a child does."""
        if module in sys.modules:
            return
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where a module ignores it, nobody can wait for a child
        name = trial_name(self._orders.number)
        self._name.rewrite(name)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.environ[WORKER_VARIABLE] = name
            trial.become_trial(module, self._pid, self._channel.send)
        self._name.rewrite(self._own_name)
        _, status = os.waitpid(pid, 0)
        self._clear_away(pid)
        self._sweep()
        code = os.waitstatus_to_exitcode(status)
        if code == trial.CLEAN:
            self._import_quietly(module)
        elif code not in {trial.UNSHARED, trial.GONE, trial.FAILED}:
            self._channel.post("import_failed", module, f"its import ends the process, with {code}", None)

    def _tell_sources(self) -> None:
        if files := sources.news():
            self._channel.post("read", files)

    def _tell_schedules(self) -> None:
        """What the imported modules declare, and which modules of their packages are there."""
        declarations = sys.modules.get("jobrunner.declarations")
        if declarations is not None:
            from jobrunner import location  # brings pathlib, which costs each fork

            plans = declarations.noted(location.find_database())
            packages = {module.partition(".")[0] for module in self._orders.imports}
            modules = [module for module in sys.modules if module.partition(".")[0] in packages]
            self._channel.post("schedules", plans, modules)

    def _preload(self, module: str) -> None:
        self._import_quietly(module)
        self._heed_children()
        self._reap()  # nobody may have woken us in the meantime

    def _import_quietly(self, module: str) -> None:
        # A worker has imported it without harm; should it fail here, each worker goes on importing it itself.
        # It may raise anything, sys.exit() included: that would end the template, and all workers with it.
        with contextlib.suppress(BaseException):
            importlib.import_module(module)
        self._tell_sources()
        gc.freeze()

    def _spawn(self, key: int, *first: Any) -> None:
        if order := self._order(key, list(first)):
            self._fork(order)

    def _line_up(self, key: int, *first: Any) -> None:
        if order := self._order(key, list(first)):
            self._places.add(order)
            self._fill()

    def _order(self, key: int, first: list[Any]) -> Order | None:
        order = Order(key, self._channel.take_descriptors(3), first)
        if len(order.descriptors) == 3:
            return order
        order.close()
        self._channel.post("not_forked", key, "its template has no descriptors left")
        return None

    def _set_apart(self, *keys: int) -> None:
        self._places.apart = set(keys)
        self._fill()

    def _fill(self) -> None:
        # A spare counts: whoever sends something that has to wait has given work to the spare before.
        while (order := self._places.next(self._workers.values())) is not None:
            self._fork(order)

    def _give_back(self) -> None:
        for key in self._places.drop_all():
            self._channel.post("dropped", key)

    def _fork(self, order: Order) -> None:
        key, (channel, *streams), first = order
        sys.stdout.flush()
        sys.stderr.flush()
        output_router.rebind()
        name = worker_name(key)
        # Whatever a worker does first costs it a copy of a page or two; done here, where the pages are ours, much less.
        self._name.rewrite(name)
        spare = mmap.mmap(-1, 1) if first == ["spare"] else None
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(name, channel, (self._stdin, streams[0], streams[1]), first, spare)
            self._workers[pid] = key
            if spare is not None:
                self._spares[key] = spare
            self._channel.post("forked", key, pid)
        except OSError as error:
            self._channel.post("not_forked", key, error.strerror)
        finally:
            self._name.rewrite(self._own_name)
        order.close()

    def _become_worker(
        self, name: str, channel: int, streams: tuple[int, int, int], first: list[Any], spare: mmap.mmap | None
    ) -> NoReturn:
        signal.set_wakeup_fd(-1)
        for descriptor in self._mine:
            os.close(descriptor)
        self._places.close()  # a job must not have the channels of others
        run_worker(name, channel, streams, self._pid, first, self._orders.pass_env, spare)

    def _signal(self, key: int, number: int) -> None:
        if self._places.drop(key):
            self._channel.post("dropped", key)
            return
        # Only processes that we have not reaped yet: their pids cannot have been given to others.
        for pid, held in self._workers.items():
            if held == key:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, number)

    def _reap(self) -> None:
        ended = False
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            ended = True
            key = self._workers.pop(pid, None)
            if key is None:
                continue  # an adopted orphan
            spare = self._spares.pop(key, None)
            if spare is not None and not spare[0]:
                self._channel.queue("unused", key)
            self._clear_away(pid)
            self._channel.queue("exit", key, pid, *_exit_facts(status), *_usage_facts(usage))
        if ended:
            self._fill()
            self._channel.flush()
            self._sweep()

    def _clear_away(self, pid: int) -> None:
        """Kill what a child that has ended left in its process group."""
        try:  # noqa: SIM105 - after each fork, the first use of `suppress` costs copies of its pages
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def _sweep(self) -> None:
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

    def _end_everything(self) -> None:
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


_VERBS: dict[str, Callable[..., Any]] = {
    "spawn": Template._spawn,
    "line_up": Template._line_up,
    "apart": Template._set_apart,
    "give_back": Template._give_back,
    "signal": Template._signal,
    "preload": Template._preload,
}


def main() -> None:
    """Entered by the interpreter that `template_process` starts: the orders are the last argument."""
    Template(Orders(**json.loads(sys.argv[-1]))).main()
