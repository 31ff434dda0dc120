"""The runner's handle on its template: start it, tell it to fork and to signal, hear of what ended."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from jobrunner import channel
from jobrunner.channel import Channel, Message
from jobrunner.ownership import TOKEN_VARIABLE, kill_leftovers
from jobrunner.runner.settings import RunSettings
from jobrunner.runner.worker import WORKER_VARIABLE, worker_name

_CODE = "from jobrunner.runner.template import main; main()"


class TemplateProcess:
    """A template from its start to its end.

    It is a fresh interpreter, not a fork of the runner: lean, in a session of its own so that the
    terminal's Ctrl-C does not reach it, and with no descriptor of ours but its end of the channel.
    """

    def __init__(self, environment: dict[str, str], conf: RunSettings) -> None:
        ours, theirs = channel.pair()
        orders = {
            "channel": theirs.fileno(),
            "app_dir": str(conf.app_dir),
            "imports": conf.imports,
            "pass_env": conf.pass_env,
        }
        self._token = environment[TOKEN_VARIABLE]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, json.dumps(orders)],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env={**os.environ, **environment, WORKER_VARIABLE: worker_name(0)},
        )
        theirs.close()
        self._channel = Channel(ours)

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

    def spawn(self, key: int, descriptors: tuple[int, int, int], first: Message) -> None:
        """Have it fork the worker `key` with these ends of a channel, of standard output and of standard error.

        `first` is what the worker reads first, where that is short: empty, it waits for it on its channel.
        """
        self._channel.send_with(descriptors, "spawn", key, *first)

    def signal(self, key: int, number: int) -> None:
        """Have the signal sent to the process group of the worker `key`, if that lives."""
        self._channel.send("signal", key, number)

    def preload(self, module: str) -> None:
        """Have it import a module, so that workers need not."""
        self._channel.send("preload", module)

    def close(self) -> None:
        """End it and everything below it; returns when all is gone."""
        self._channel.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode != 0:  # else it has swept up itself
            kill_leftovers(self._token)
