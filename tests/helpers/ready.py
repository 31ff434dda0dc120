"""`python -m jobrunner` for calls that are answered at once, each a process of its own that need not import typer.

Run as a program, this is what they are forks of. What is ours they import themselves, in the order in which it is
imported where the command is started by itself; but for what every call imports before it has looked at its words.
"""

import atexit
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobrunner.location import VARIABLE
from tests.helpers.processes import ROOT
from tests.helpers.trace import FOLDER_VARIABLE
from tests.helpers.waiting import SECONDS

OWN = {FOLDER_VARIABLE, VARIABLE, "PYTEST_CURRENT_TEST"}
"""Variables that differ from call to call, and that are not looked at before the call is."""
MOST = 1 << 16
"""Bytes of standard input, and of all else that makes a call: more goes to a process that is started by itself."""


class Ready:
    """A process with typer imported, from its start to its end."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.settimeout(SECONDS)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.helpers.ready", str(theirs.fileno())],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,  # its streams are made for pipes
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            process_group=0,
        )
        theirs.close()

    def call(self, words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: bytes) -> Any:
        """What `subprocess.run` gives of a call with pipes at its ends."""
        told = json.dumps({"words": words, "folder": str(folder), "environment": environment})
        pipes = [os.pipe() for _ in range(3)]
        (given, ours), (out, to_out), (err, to_err) = pipes
        socket.send_fds(self._link, [told.encode()], [given, to_out, to_err])
        for theirs in (given, to_out, to_err):
            os.close(theirs)
        os.write(ours, stdin)
        os.close(ours)
        try:
            printed = _read_all(out, err)
            code = int(self._link.recv(MOST))
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(words, code, *printed)

    def end(self) -> None:
        """End it, and wait for that."""
        self._link.close()
        self._process.communicate()


_kept: list[Ready] = []
"""One at most."""


def call(words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: bytes) -> Any:
    """The same, of a process that was started with all that `environment` has in it but for `OWN`."""
    general = {name: value for name, value in environment.items() if name not in OWN}
    if not _kept or _kept[0].environment != general:
        _end()
        _kept.append(Ready(general))
    return _kept[0].call(words, folder, environment, stdin)


@atexit.register
def _end() -> None:
    while _kept:
        _kept.pop().end()


def _read_all(*descriptors: int) -> list[bytes]:
    """All that comes from each until nobody can write any more."""
    read = dict.fromkeys(descriptors, b"")
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(SECONDS)
            if not ready:
                raise TimeoutError("nothing more came, and the call did not end")
            for key, _ in ready:
                some = os.read(key.fd, MOST)
                read[key.fd] += some
                if not some:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return list(read.values())


# In the other process


def _become(call: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Be as a process that was started with these words, streams and environment, in this folder."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    time.tzset()
    sys.path[0] = call["folder"]
    sys.argv[:] = [str(ROOT / "jobrunner" / "__main__.py"), *call["words"]]


def _serve(link: socket.socket) -> bool:
    """Fork for each call, and tell its exit code; True in the fork, False when there are no more."""
    while True:
        told, descriptors, _, _ = socket.recv_fds(link, 4 * MOST, 3)
        if not told:
            return False
        child = os.fork()
        if child == 0:
            link.close()
            _become(json.loads(told), descriptors)
            return True
        for descriptor in descriptors:
            os.close(descriptor)
        link.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _main(link: socket.socket) -> None:
    import apsw  # noqa: F401 - as those that follow: it only has to be there
    import psutil  # noqa: F401
    import rich.console
    import rich.table  # noqa: F401

    import jobrunner.cli.entry  # noqa: F401
    from jobrunner.cli import main

    gc.freeze()
    if _serve(link):
        main()


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
