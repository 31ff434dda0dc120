"""The template: a lean process that imports the task modules once, and forks a worker when it is told to.

It never opens the database. It is the subreaper of all that its workers start, so nothing of a job
outlives the job, and it ends with everything below it when its runner's end of the channel closes.
Started by `runner.template_process`; this module runs in a fresh interpreter.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from jobrunner import kernel
from jobrunner.channel import Channel
from jobrunner.errors import ChannelClosed
from jobrunner.runner import output_router, sources, trial
from jobrunner.runner.birth import BEGIN, WORKER_SIGNALS
from jobrunner.runner.brood import Brood
from jobrunner.runner.nursery import Nursery
from jobrunner.runner.places import Order, Places
from jobrunner.runner.stop_signals import wakeup_pipe
from jobrunner.runner.worker import WORKER_VARIABLE, practise, template_name, trial_name


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
    drop_env: list[str]
    """Variables that were for its own start alone."""
    watch: bool
    """Whether to tell which source files are read."""


class Template:
    """It starts with its runner's channel and ends with it."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._channel = Channel(socket.socket(fileno=orders.channel))
        self._name = kernel.OwnEnvironment(WORKER_VARIABLE)
        self._own_name = template_name(orders.number)
        self._wakeup_read, self._wakeup_write = wakeup_pipe()
        mine = (orders.channel, self._wakeup_read, self._wakeup_write)
        nursery = Nursery(mine, self._name, orders.pass_env)
        self._brood = Brood(self._channel, nursery, Places(orders.places), self._own_name)

    def main(self) -> None:
        """Import, say so, and obey until the runner is gone."""
        for name in self._orders.drop_env:
            os.environ.pop(name, None)
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
            self._brood.end()

    def _heed_children(self) -> None:
        # After any import: it may have set handlers of its own. What is set here is what a worker begins with.
        _fill_streams()
        for number, handler in WORKER_SIGNALS.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_BLOCK, {*WORKER_SIGNALS, BEGIN})  # the runner ends us by closing the channel
        signal.signal(signal.SIGCHLD, _heard)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)

    def _turn(self) -> None:
        # It never waits for the runner to read, who may be waiting for it.
        writers = [self._channel.fileno()] if self._channel.has_more_to_send else []
        readable, _, _ = select.select([self._channel.fileno(), self._wakeup_read], writers, [])
        if self._wakeup_read in readable:
            os.read(self._wakeup_read, 4096)
            self._brood.reap()
        if self._channel.fileno() in readable:
            # To the end, since orders come one by one, as their descriptors do; then those for which there is a place
            # are forked in a row.
            for verb, *facts in self._channel.read(to_the_end=True):
                _VERBS[verb](self, *facts)
            self._brood.fill()
        self._channel.flush()

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
        output_router.flush()
        template = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.environ[WORKER_VARIABLE] = name
            trial.become_trial(module, template, self._channel.send)
        self._name.rewrite(self._own_name)
        _, status = os.waitpid(pid, 0)
        self._brood.clear_away(pid)
        self._brood.sweep()
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
            plans = declarations.noted()
            packages = {module.partition(".")[0] for module in self._orders.imports}
            modules = [module for module in sys.modules if module.partition(".")[0] in packages]
            self._channel.post("schedules", plans, modules)

    def _preload(self, module: str) -> None:
        self._import_quietly(module)
        self._heed_children()
        self._brood.reap()  # nobody may have woken us in the meantime

    def _import_quietly(self, module: str) -> None:
        # A worker has imported it without harm; should it fail here, each worker goes on importing it itself.
        # It may raise anything, sys.exit() included: that would end the template, and all workers with it.
        with contextlib.suppress(BaseException):
            importlib.import_module(module)
        self._tell_sources()
        gc.freeze()

    def _spawn(self, key: int, *first: Any) -> None:
        if order := self._order(key, list(first)):
            self._brood.fork(order)

    def _line_up(self, key: int, *first: Any) -> None:
        if order := self._order(key, list(first)):
            self._brood.line_up(order)

    def _order(self, key: int, first: list[Any]) -> Order | None:
        order = Order(key, self._channel.take_descriptors(3), first)
        if len(order.descriptors) == 3:
            return order
        order.close()
        self._channel.post("not_forked", key, "its template has no descriptors left")
        return None


def _fill_streams() -> None:
    """Where a module has closed one, a descriptor that comes would get its number, which is overwritten in a worker."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # only then: there may be no descriptor left for a look at which is the lowest
            os.open(os.devnull, os.O_RDWR)


def _heard(*_: object) -> None:
    """The descriptor that wakes us tells enough. Not a lambda: each worker would free a copy of it."""


_VERBS: dict[str, Callable[..., Any]] = {
    "spawn": Template._spawn,
    "line_up": Template._line_up,
    "apart": lambda template, *keys: template._brood.set_apart(*keys),
    "give_back": lambda template: template._brood.give_back(),
    "signal": lambda template, *facts: template._brood.signal(*facts),
    "preload": Template._preload,
}


def main() -> None:
    """Entered by the interpreter that `template_process` starts: the orders are the last argument."""
    Template(Orders(**json.loads(sys.argv[-1]))).main()
