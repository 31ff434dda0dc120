"""The templates of a runner: the one that forks workers, one that may take its place, and those that only finish."""

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Sequence

from jobrunner.errors import ChannelClosed
from jobrunner.models import Json
from jobrunner.runner.hearing import Hearing
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.template_process import TemplateProcess
from jobrunner.runner.worker_process import WorkerProcess


class Templates:
    """They start with `start` and end with `close`. Each stays until the last worker that it forked is reaped."""

    current: TemplateProcess
    """The one that forks."""

    def __init__(
        self,
        places: int,
        environment: dict[str, str],
        conf: RunSettings,
        own: Sequence[str],
        hearing: Hearing,
        heed: Callable[[TemplateProcess], None],
    ) -> None:
        self._places = places
        self._environment = environment
        self._own = own
        self._conf = conf
        self._hearing = hearing
        self._heed = heed
        self._numbers = itertools.count(1)
        self.coming: TemplateProcess | None = None
        """One that imports the new code."""
        self._finishing: list[TemplateProcess] = []
        self._ending: list[TemplateProcess] = []

    def start(self) -> None:
        """Start one to fork from."""
        self.current = self._begin()

    def prepare(self, again: Sequence[str]) -> None:
        """Start one beside it, which tries these modules, too; OSError where no process can be had."""
        self.coming = self._begin(again)

    def take_over(self) -> None:
        """The one that comes forks from now on."""
        if self.coming is not None:
            self._finishing.append(self.current)
            self.current, self.coming = self.coming, None

    def give_up(self, *, is_importing: bool) -> None:
        """The one that comes is not wanted any more."""
        if self.coming is not None:
            coming, self.coming = self.coming, None
            self._end(coming, at_once=is_importing)

    def tend(self) -> None:
        """End those that have no worker left, and clear up after those that have ended."""
        for template in [one for one in self._finishing if not one.workers]:
            self._finishing.remove(template)
            self._end(template)
        for template in [one for one in self._ending if one.is_gone()]:
            self._ending.remove(template)
            template.sweep(self._all)

    def died(self, template: TemplateProcess) -> list[int]:
        """One has died: clear up after it; gives the keys of the workers that died with it."""
        if template is self.coming:
            self.coming = None
        if template in self._finishing:
            self._finishing.remove(template)
        self._hearing.ignore(template.fileno())
        template.close([one for one in self._all if one is not template])
        return sorted(template.workers)

    def close(self) -> None:
        """End them all, and everything below them."""
        self.give_up(is_importing=True)
        everyone = self._all
        for template in everyone:
            template.let_go()
        for template in everyone:
            template.close()

    # Workers

    def spawn(
        self, worker: WorkerProcess, descriptors: tuple[int, int, int], first: list[Json], *, at_once: bool
    ) -> None:
        """Have the current one fork the worker, `at_once` or when it has a place; OSError where that cannot be told."""
        self.current.spawn(worker.key, descriptors, first, at_once=at_once)

    def set_apart(self, workers: Iterable[WorkerProcess]) -> None:
        """These workers are stopped while they wait for others, and need no place."""
        with contextlib.suppress(ChannelClosed):  # it is gone, and with it what waits
            self.current.set_apart({worker.key for worker in workers if self.has_forked(worker)})

    def ask_back(self) -> None:
        """Have all give back what waits in them for a place."""
        for template in (self.current, *self._finishing):
            with contextlib.suppress(ChannelClosed):
                template.ask_back()

    @property
    def are_several(self) -> bool:
        """Whether there are workers of another one than the current one."""
        return bool(self._finishing)

    def signal(self, worker: WorkerProcess, number: int) -> None:
        """Have the signal sent to the worker's process group; nothing where its template is gone, and it too."""
        for template in (self.current, *self._finishing):
            if worker.key in template.workers:
                with contextlib.suppress(ChannelClosed):
                    template.signal(worker.key, number)

    def has_forked(self, worker: WorkerProcess) -> bool:
        """Whether it was the current one that was told to fork it."""
        return worker.key in self.current.workers

    def reaped(self, key: int) -> None:
        """The worker is gone, or was never there."""
        for template in (self.current, *self._finishing):
            template.workers.discard(key)

    # Inside

    @property
    def _all(self) -> Collection[TemplateProcess]:
        coming = [] if self.coming is None else [self.coming]
        current = [self.current] if hasattr(self, "current") else []
        return [*current, *coming, *self._finishing, *self._ending]

    def _begin(self, again: Sequence[str] = ()) -> TemplateProcess:
        template = TemplateProcess(next(self._numbers), self._places, self._environment, self._conf, self._own, again)
        self._hearing.listen(template.fileno(), lambda _: self._heed(template))
        return template

    def _end(self, template: TemplateProcess, *, at_once: bool = False) -> None:
        self._hearing.ignore(template.fileno())
        if at_once:
            template.kill()
        else:
            template.let_go()
        self._ending.append(template)
