"""TERM, INT and HUP to a runner: the handlers raise a flag and wake the loop, nothing else."""

import os
import signal
from types import FrameType, TracebackType
from typing import Self

from jobrunner import early_signals
from jobrunner.early_signals import HEEDED, has_terminal


def wakeup_pipe() -> tuple[int, int]:
    """A pipe for signal.set_wakeup_fd: neither end blocks, and no program inherits it."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


class StopSignals:
    """It starts and ends with the `with` block, which must stand in the main thread.

    TERM and INT ask for the end. So does the HUP of a terminal that is gone; any other HUP asks for new code. Where
    HUP is ignored, as under nohup, it stays so. What came before, and was kept, counts as if it came now.
    """

    def __enter__(self) -> Self:
        self.count = 0
        self._hung_up = False
        self._wants_new_code = False
        self._has_terminal = early_signals.had_terminal() or has_terminal()
        self._read, self._write = wakeup_pipe()
        self._before_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._raise_flag) for number in HEEDED}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._raise_flag)
        self._heed_early_ones()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._before_fd)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        """Readable when a signal came."""
        return self._read

    def drain(self) -> None:
        """Forget what woke us; `count` stays."""
        while True:
            try:
                os.read(self._read, 512)
            except BlockingIOError:
                break
        if self._hung_up:
            self._hung_up = False
            self._heed_hangup()

    def wants_new_code(self) -> bool:
        """Whether a HUP has asked for it since this was asked last."""
        wants, self._wants_new_code = self._wants_new_code, False
        return wants

    def _heed_early_ones(self) -> None:
        for number in early_signals.taken():
            self._raise_flag(number, None)
            os.write(self._write, b"\0")

    def _heed_hangup(self) -> None:
        if self._has_terminal and not has_terminal():
            self._has_terminal = False  # a shell passes on the HUP that we had already: once is enough
            self.count += 1
        else:
            self._wants_new_code = True

    def _raise_flag(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._hung_up = True
        else:
            self.count += 1
