"""The first steps of a worker after its fork: from a copy of the template to a process of its own.

Whatever a process does first after a fork costs it copies of pages, each as long as twenty lines of Python. So all that
can be is made ready before, no name is looked up in a module or in an object, and C is called where it does the work.
"""

import importlib
import os
import signal
from collections.abc import Callable
from os import closerange, dup2, setsid
from types import FrameType
from typing import Any, NamedTuple

from jobrunner.kernel import die_with_parent
from jobrunner.models import UNDELIVERED
from jobrunner.runner.marks import Mark
from jobrunner.runner.ready import Ready
from jobrunner.runner.variables import Made
from jobrunner.worker_end import WorkerEnd

WORKER_SIGNALS: dict[signal.Signals, Callable[[int, FrameType | None], object] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
"""What a job finds set, whatever a module that the template imported has set; blocked in the template."""
BEGIN = int(getattr(signal, "SIGRTMAX", signal.SIGUSR1))
"""What a worker that was forked ahead waits for, and nobody else sends or handles; blocked in the template, too."""
_BEGIN_ONLY = (BEGIN,)
# What the module `signal` adds to these, its enums, costs a fork copies of seventy pages.
_signal = importlib.import_module("_signal")
_set_handler, _get_handler, _set_wakeup = _signal.signal, _signal.getsignal, _signal.set_wakeup_fd
_mask, _sigwait = _signal.pthread_sigmask, _signal.sigwait
_CHILD_ENDED, _DEFAULT, _UNBLOCK = int(signal.SIGCHLD), int(signal.SIG_DFL), int(signal.SIG_UNBLOCK)
_UNBLOCKED = (*map(int, WORKER_SIGNALS), BEGIN)
_KILL = int(signal.SIGKILL)
_NO_SIGNAL = 0


class Birth(NamedTuple):
    """What a worker begins with."""

    template: int
    """A pid."""
    streams: tuple[int, int, int]
    """Descriptors, in the order of their numbers to come."""
    foreign: list[tuple[int, int]]
    """Descriptors that it must not keep: from the first number of each pair up to the second, without that."""
    place: memoryview
    """Where others see which worker it is."""
    name: bytes
    """What is to be there."""
    waits: Mark | None
    """Where it begins at the signal BEGIN, and not at once: what it sets then."""
    variables: Made
    """Where it sees that itself, and which job it does."""
    end: WorkerEnd
    first: list[Any]
    """The first message, if that came along."""
    ready: Ready | None
    """What that asks for, where it could be made ready."""
    pass_env: list[str]
    """Patterns of variables that commands see, too."""
    spare: Mark | None
    """Where it is forked before there is work: what it sets when it has some."""


def settle(
    template: int,
    streams: tuple[int, int, int],
    foreign: list[tuple[int, int]],
    place: memoryview,
    name: bytes,
    waits: Mark | None,
) -> None:
    """Become what the first fields of a `Birth` say; ends the process where its template has ended."""
    _set_wakeup(-1)
    stdin, stdout, stderr = streams
    dup2(stdin, 0)
    dup2(stdout, 1)
    dup2(stderr, 2)
    for first, behind in foreign:
        closerange(first, behind)
    place[:] = name
    setsid()
    if not die_with_parent(_KILL, template):
        os._exit(UNDELIVERED)
    if waits is not None:
        _sigwait(_BEGIN_ONLY)
        page, at = waits
        page[at] = 1
    heed_signals()


def heed_signals() -> None:
    """Be told of them as a job expects it."""
    _set_handler(_CHILD_ENDED, _DEFAULT)
    _mask(_UNBLOCK, _UNBLOCKED)


def practise() -> None:
    """In the template: do of it what does no harm there, so that Python need not prepare it in each worker."""
    die_with_parent(_NO_SIGNAL, os.getppid())
    heed_signals()


def hears_of_children() -> bool:
    """Whether SIGCHLD is as it was."""
    return bool(_get_handler(_CHILD_ENDED) == _DEFAULT)
