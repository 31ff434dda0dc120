"""New code: asked for by HUP or a changed file, loaded beside the old, and refused where it cannot be imported."""

import json
import logging
import time

from jobrunner.channel import Message
from jobrunner.runner.declared import Declared
from jobrunner.runner.sources import Signature
from jobrunner.runner.templates import Templates
from jobrunner.runner.watched import Watched
from jobrunner.text import visible

PATIENCE_SECONDS = 10.0
"""A template that imports for longer than this is given up when the new code is asked for once more."""
_ROOM = 1 << 16
"""Characters of all modules that are tried: they travel on a command line."""

log = logging.getLogger("jobrunner.runner")


class Renewal:
    """One at a time: however often it is asked for meanwhile, one more follows."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._why: str | None = None
        self._modules: set[str] = set()
        self._room = _ROOM
        self.watched = Watched()
        self._forget()

    def _forget(self) -> None:
        self.declared = Declared([], [])
        self._files: dict[str, Signature] = {}
        self._failures: list[str] = []
        self._is_done = False

    def imported(self, module: str) -> None:
        """A job has imported its task's module: new code is not taken before it is seen that this can still be done."""
        length = len(json.dumps(module))
        if module not in self._modules and length <= self._room:
            self._modules.add(module)
            self._room -= length

    def ask(self, why: str) -> None:
        """It is to be loaded."""
        self._why = why

    def begin(self) -> None:
        """Have it loaded, where that is asked for and is not being done."""
        changed = self.watched.changed()
        if changed is not None:
            self.ask(f"{visible(changed)} has changed")
        if self._why is None or self._is_busy():
            return
        why, self._why = self._why, None
        log.info("%s: the code is loaded anew", why)
        try:
            self._templates.prepare(sorted(self._modules))
        except OSError as error:
            self.refuse(f"there is no process to load the new code in: {error}")

    def hear(self, verb: str, *facts: Message) -> None:
        """What the template that loads it says."""
        if verb == "schedules":
            self.declared = Declared.read([verb, *facts])
        elif verb == "read":
            self._files.update(facts[0])
        elif verb == "import_failed":
            module, why, traceback = facts
            self._failures.append(f"{module} cannot be imported: {why}\n{traceback or ''}".rstrip())
        else:
            self._is_done = True

    def may_be_taken(self) -> bool:
        """Whether it is loaded, and all of it can be imported; where not, that is told."""
        if self._is_done and self._failures:
            self.refuse("\n".join(self._failures))
        return self._is_done

    def refuse(self, why: str) -> None:
        """It cannot be taken."""
        log.error("the old code goes on: %s", visible(why, lines=True))
        self.watched.read(self._files)
        self.give_up()

    def give_up(self) -> None:
        """Load no new code, unless it is asked for again."""
        self._templates.give_up(is_importing=not self._is_done)
        self._forget()

    def taken(self) -> None:
        """It has taken the place of the old."""
        self.watched.replace(self._files)
        self._forget()

    def _is_busy(self) -> bool:
        coming = self._templates.coming
        if coming is None:
            return False
        lasted = time.monotonic() - coming.started_at
        if lasted < PATIENCE_SECONDS:
            return True
        self.refuse(f"the new code was not loaded within {lasted:.0f} s, and is loaded once more")
        return False
