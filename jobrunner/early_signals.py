"""Signals to a runner that only starts: they are kept until it listens, which takes tenths of a second of imports.

So little is imported here that they are kept from nearly the first moment on.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

HEEDED = (signal.SIGTERM, signal.SIGINT)


class _Kept:
    def __init__(self) -> None:
        self.came: list[int] = []
        self.had_terminal = False


_kept = _Kept()


def keep() -> dict[int, Any]:
    """From now on TERM, INT and HUP are for the runner that this process becomes. Gives who had them before.

    Where HUP is ignored, as under nohup, it stays so.
    """
    before: dict[int, Any] = {number: signal.signal(number, _keep) for number in HEEDED}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, _keep)
    _kept.had_terminal = has_terminal()
    return before


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """`keep` for the block; what no runner has taken when it ends goes to whoever had it before."""
    if signal.getsignal(signal.SIGTERM) is _keep:  # for the whole life of the process
        yield
        return
    before = keep()
    try:
        yield
    finally:
        _kept.had_terminal = False
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in taken():
            signal.raise_signal(number)


def taken() -> list[int]:
    """What has come since they are kept, in its order; they are forgotten here."""
    came = _kept.came.copy()
    del _kept.came[: len(came)]  # and none that comes in this moment
    return came


def had_terminal() -> bool:
    """Whether there was a terminal when they began to be kept."""
    return _kept.had_terminal


def has_terminal() -> bool:
    """Whether this process's session has a terminal that has not hung up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _keep(number: int, frame: FrameType | None) -> None:
    _kept.came.append(number)
