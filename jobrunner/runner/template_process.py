"""The runner's handle on a template: start it, tell it to fork and to signal, hear of what ended."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from jobrunner import channel
from jobrunner.channel import Channel, Message
from jobrunner.ownership import TOKEN_VARIABLE, kill_leftovers
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.worker import WORKER_VARIABLE, template_name, trial_name, worker_name

_CODE = "from jobrunner.runner.template import main; main()"
_LINK_AT_ONCE = {"LD_BIND_NOW": "1"}
"""For the template alone: else each worker would look up, and note in copies, what it calls as the first one."""
_LAST_SECONDS = 5.0
"""What a template gets to end everything below it, and itself."""


class TemplateProcess:
    """A template from its start to its end.

    It is a fresh interpreter, not a fork of the runner: lean, in a session of its own so that the
    terminal's Ctrl-C does not reach it, and with no descriptor of ours but its end of the channel.
    """

    def __init__(
        self,
        number: int,
        places: int,
        environment: dict[str, str],
        conf: RunSettings,
        own: Sequence[str] = (),
        again: Sequence[str] = (),
    ) -> None:
        self.number = number
        self.started_at = time.monotonic()
        self.workers: set[int] = set()
        """The keys of those that it was told to fork, and that are not reaped."""
        ours, theirs = channel.pair()
        orders = {
            "number": number,
            "places": places,
            "channel": theirs.fileno(),
            "app_dir": str(conf.app_dir),
            "own": own,
            "imports": conf.imports,
            "again": again,
            "pass_env": conf.pass_env,
            "drop_env": [name for name in _LINK_AT_ONCE if name not in os.environ],
            "watch": conf.reload,
        }
        self._apart: set[int] = set()
        self._token = environment[TOKEN_VARIABLE]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, json.dumps(orders)],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={**_LINK_AT_ONCE, **os.environ, **environment, WORKER_VARIABLE: template_name(number)},
        )
        theirs.close()
        self._channel = Channel(ours)
        self._kill_at = float("inf")

    @property
    def pid(self) -> int:
        """Of the template."""
        return self._process.pid

    def fileno(self) -> int:
        """Readable when the template has said something."""
        return self._channel.fileno()

    def read(self) -> Iterator[Message]:
        """What it said; ChannelClosed when it is gone."""
        return self._channel.read()

    def receive(self) -> Message:
        """Wait for the next thing that it says."""
        return self._channel.receive()

    def spawn(self, key: int, descriptors: tuple[int, int, int], first: Message, *, at_once: bool) -> None:
        """Have it fork the worker `key` with these ends of a channel, of standard output and of standard error.

        `first` is what the worker reads first, where that is short: empty, it waits for it on its channel.
        If not `at_once`, the worker waits in the template until there is a place for it.
        """
        self._channel.send_with(descriptors, "spawn" if at_once else "line_up", key, *first)
        self.workers.add(key)

    def set_apart(self, keys: set[int]) -> None:
        """These workers are stopped while they wait for others: each leaves its place to another until it is gone."""
        if keys != self._apart:
            self._apart = keys
            self._channel.send("apart", *keys)

    def ask_back(self) -> None:
        """Have it give back what waits for a place: it says `dropped` of each."""
        self._channel.send("give_back")

    def signal(self, key: int, number: int) -> None:
        """Have the signal sent to the process group of the worker `key`, if that lives."""
        self._channel.send("signal", key, number)

    def preload(self, module: str) -> None:
        """Have it import a module, so that workers need not."""
        self._channel.send("preload", module)

    def let_go(self) -> None:
        """Have it end, and everything below it; `is_gone` tells when it has."""
        self._channel.close()
        self._kill_at = time.monotonic() + _LAST_SECONDS

    def kill(self) -> None:
        """End it without a word: it may be importing something that does not end."""
        self.let_go()
        self._process.kill()

    def is_gone(self) -> bool:
        """Whether it has ended; it is killed where it takes too long. `sweep` follows."""
        if self._process.poll() is None and time.monotonic() >= self._kill_at:
            self._process.kill()
        return self._process.poll() is not None

    def sweep(self, others: Collection["TemplateProcess"] = ()) -> None:
        """Kill what it has left, where it could not do so itself, and nothing of the other templates."""
        if self._process.returncode == 0:
            return
        names = {name for other in others for name in other.names}
        some_work = any(other.workers for other in others)

        def spares(environment: Mapping[str, str]) -> bool:
            name = environment.get(WORKER_VARIABLE)
            # One that has emptied its environment may belong to any job that still runs.
            return some_work if name is None else name in names

        kill_leftovers(self._token, spares)

    @property
    def names(self) -> set[str]:
        """What it, and all that belongs to it, has in its environment."""
        return {template_name(self.number), trial_name(self.number), *map(worker_name, self.workers)}

    def close(self, others: Collection["TemplateProcess"] = ()) -> None:
        """End it and everything below it; returns when all is gone."""
        self.let_go()
        try:
            self._process.wait(timeout=_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.sweep(others)
