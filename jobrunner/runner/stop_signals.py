"""TERM and INT to a runner: the handlers raise a flag and wake the loop, nothing else."""

import os
import signal
from types import FrameType, TracebackType
from typing import Self

HEEDED = (signal.SIGTERM, signal.SIGINT)


def wakeup_pipe() -> tuple[int, int]:
    """A pipe for signal.set_wakeup_fd: neither end blocks, and no program inherits it."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


class StopSignals:
    """It starts and ends with the `with` block, which must stand in the main thread."""

    def __enter__(self) -> Self:
        self.count = 0
        self._read, self._write = wakeup_pipe()
        self._before_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._raise_flag) for number in HEEDED}
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
                return

    def _raise_flag(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
