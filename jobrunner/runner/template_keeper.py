"""The templates of a runner from its start to its end: one that dies is replaced, and one whose code is outdated."""

import logging
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from jobrunner import location, ownership, unknown_tasks
from jobrunner.errors import ChannelClosed, JobRunnerError, UsageError
from jobrunner.runner.base_runner import BaseRunner
from jobrunner.runner.declared import Declared
from jobrunner.runner.renewal import Renewal
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.sources import Signature
from jobrunner.runner.template_process import TemplateProcess
from jobrunner.runner.templates import Templates

_TOO_SOON_SECONDS = 2.0
_MANY_DEATHS = 5

log = logging.getLogger("jobrunner.runner")


class TemplateKeeper(BaseRunner):
    """Owns the templates that workers are forked from."""

    worker_modules: ClassVar[tuple[str, ...]] = ()
    """Modules of jobrunner that only workers of this kind of runner need."""

    def __init__(self, conf: RunSettings) -> None:
        super().__init__(conf)
        self._templates = Templates(
            self.max_parallel_slots, self.runner_args, conf, self.worker_modules, self._hearing, self._hear_template
        )
        self._renewal = Renewal(self._templates)
        self._preloaded: set[str] = set()
        self._deaths = 0

    @property
    def runner_args(self) -> dict[str, str]:
        """What every process of this runner finds in its environment: its token, and the database by name alone."""
        return {ownership.TOKEN_VARIABLE: self.token, location.VARIABLE: str(self.conf.database)}

    def _on_start(self) -> None:
        self._templates.start()
        while (message := self._first_word())[0] != "ready":
            if message[0] == "schedules":
                self._declared = Declared.read(message)
                continue
            if message[0] == "read":
                self._renewal.watched.read(message[1])
                continue
            _, module, why, traceback = message
            raise JobRunnerError(f"--import {module} failed: {why}\n{traceback or ''}".rstrip())

    def _first_word(self) -> list[Any]:
        try:
            return self._templates.current.receive()
        except ChannelClosed:
            raise JobRunnerError("the template process ended while it imported the task modules") from None

    def _hear_template(self, template: TemplateProcess) -> None:
        is_coming = template is self._templates.coming
        try:
            for verb, *facts in template.read():
                if is_coming:
                    self._renewal.hear(verb, *facts)
                else:
                    _VERBS[verb](self, *facts)
        except ChannelClosed:
            self._template_died(template)

    def _template_died(self, template: TemplateProcess) -> None:
        """Its workers died with it: sweep up, give the work back, start another where it was the current one."""
        if template is self._templates.coming:
            self._templates.died(template)
            self._renewal.refuse("the process that loaded the new code has ended")
            return
        keys = self._templates.died(template)
        log.error("the template process %d died, and %d workers with it", template.pid, len(keys))
        for key in keys:
            self._died_with_template(key)
        if template is self._templates.current:
            self._replace_template()

    def _replace_template(self) -> None:
        lived = time.monotonic() - self._templates.current.started_at
        self._deaths = self._deaths + 1 if lived < _TOO_SOON_SECONDS else 1
        self._preloaded.clear()
        if self._deaths >= _MANY_DEATHS:
            raise JobRunnerError("the template process dies again and again right after its start")
        self._templates.start()

    # New code

    def _renew(self) -> None:
        self._templates.tend()
        if self._signals.wants_new_code():
            self._renewal.ask("HUP")
        if self._is_stopping:
            self._renewal.give_up()
            return
        if self._renewal.may_be_taken() and not self._setback.is_resting:
            with self._setback.survived():
                self._take_new_code()
        self._renewal.begin()

    def _take_new_code(self) -> None:
        """What the new code declares is written down first: where that cannot be done now, it is tried again."""
        try:
            self._renewal.declared.write(self.database)
        except UsageError as error:
            self._renewal.refuse(str(error))
            return
        unknown_tasks.try_now(self.database)
        self._intake.look_again()
        log.info("the new code is taken: %d jobs finish with the old", len(self._attempts))
        self._templates.take_over()
        self._renewal.taken()
        self._preloaded.clear()
        self._code_is_new()

    # What the current one says, or one that only finishes

    @abstractmethod
    def _forked(self, key: int, pid: int) -> None:
        """A worker is there."""

    @abstractmethod
    def _not_forked(self, key: int, why: str) -> None:
        """A worker could not be had."""

    @abstractmethod
    def _unused(self, key: int) -> None:
        """A worker that was forked ahead has ended, and had read nothing; `_exited` follows."""

    @abstractmethod
    def _dropped(self, key: int) -> None:
        """A worker that waited for a place is not forked any more."""

    @abstractmethod
    def _exited(self, key: int, pid: int, *facts: Any) -> None:
        """A worker is reaped; the facts are those of `Exit`."""

    @abstractmethod
    def _died_with_template(self, key: int) -> None:
        """A worker is gone, and nobody can tell how it ended."""

    def _import_failed(self, module: str, why: str, _: str | None) -> None:
        log.error("%s cannot be imported any more: %s", module, why)

    def _read(self, files: dict[str, Signature]) -> None:
        self._renewal.watched.also_read(files)


_VERBS: dict[str, Callable[..., None]] = {
    "ready": lambda *_: None,
    "forked": lambda runner, *facts: runner._forked(*facts),
    "not_forked": lambda runner, *facts: runner._not_forked(*facts),
    "unused": lambda runner, *facts: runner._unused(*facts),
    "dropped": lambda runner, *facts: runner._dropped(*facts),
    "exit": lambda runner, *facts: runner._exited(*facts),
    "import_failed": TemplateKeeper._import_failed,
    "schedules": lambda *_: None,  # of a template that replaces one that died: they are the same
    "read": TemplateKeeper._read,
}
