"""Standard output and error that know whose they are: a thread that does a job writes to its own job's log.

It is put in place before the task modules are imported, since handlers of `logging` keep the stream that
they found then. Outside of such a thread it is an ordinary line-buffered stream.
"""

import io
import os
import sys
from _thread import allocate_lock  # see channel
from typing import Any, Protocol, cast

from jobrunner.context import find_current

_installed: list[Any] = [None, None]
_in_use: list["OutputRouter"] = []


class Routed(Protocol):
    """A link that takes output."""

    def output(self, stream: str, text: str) -> None:
        """Some output of the job that this link belongs to; lone surrogates stand for bytes that are not UTF-8."""


class OutputRouter(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr."""

    def __init__(self, name: str, descriptor: int) -> None:
        self._name = name
        self._descriptor = descriptor
        self._opened: io.TextIOWrapper | None = None
        self._opening = allocate_lock()
        self._lent: list[io.TextIOWrapper] = []

    def rebind(self) -> None:
        """The descriptor is another file soon: begin with an empty buffer, when something is written."""
        self._opened = None

    @property
    def _own(self) -> io.TextIOWrapper:
        opened = self._opened  # asked once: the template may fork while another thread of it writes
        if opened is None:
            with self._opening:
                opened = self._open_once()
        return opened

    def _open_once(self) -> io.TextIOWrapper:
        opened = self._opened
        if opened is None:
            opened = self._opened = open(  # noqa: SIM115 - it lives as long as it is in use
                self._descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
            )
            _in_use.append(self)
        return opened

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """UTF-8, whatever the locale."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What cannot be encoded is written out."""
        return "backslashreplace"

    @property
    def name(self) -> str:
        """As that of Python's own stream."""
        return f"<{self._name}>"

    @property
    def line_buffering(self) -> bool:
        """A line is written when it ends."""
        return self._own.line_buffering

    def reconfigure(self, **changes: Any) -> None:
        """As of Python's own stream, until the next fork; a job's log stays as it is."""
        self._own.reconfigure(**changes)

    @property
    def buffer(self) -> Any:
        """For those who write bytes."""
        if self._link() is not None:
            return _Bytes(self)
        own = self._own
        if own not in self._lent:
            self._lent.append(own)  # never to be collected: that would close its buffer, which a module may hold
        return own.buffer

    def write(self, text: str) -> int:
        """Write to the job's log, or to the descriptor."""
        given: object = text
        if not isinstance(given, str):
            raise TypeError(f"write() argument must be str, not {type(given).__name__}")
        link = self._link()
        if link is None:
            return self._own.write(text)
        link.output(self._name, text.encode("utf-8", "backslashreplace").decode())
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write to the job's log what need not be text."""
        link = self._link()
        if link is None:
            own = self._own
            own.buffer.write(data)
        else:
            link.output(self._name, data.decode("utf-8", "surrogateescape"))

    def flush(self) -> None:
        """Nothing is held back for a job's log."""
        opened = self._opened
        if opened is not None:
            opened.flush()

    def fileno(self) -> int:
        """The descriptor below, which is the whole process's."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor below is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Always."""
        return True

    def _link(self) -> Routed | None:
        current = find_current()
        link = current.link if current is not None else None
        return cast(Routed, link) if hasattr(link, "output") else None


class _Bytes(io.RawIOBase):
    """What `sys.stdout.buffer` is in a thread that does a job."""

    def __init__(self, router: OutputRouter) -> None:
        self._router = router

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        taken = bytes(data)
        self._router.write_bytes(taken)
        return len(taken)


def install() -> None:
    """Put routers in the place of this process's standard streams."""
    _installed[:] = OutputRouter("stdout", 1), OutputRouter("stderr", 2)
    sys.stdout, sys.stderr = _installed


def flush() -> None:
    """Have what was written so far leave this process, wherever a module has put its streams."""
    out, error = _installed
    if not _in_use and sys.stdout is out and sys.stderr is error:
        return  # nothing was written: most jobs write nothing
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - of what `suppress` needs, each fork would copy ten pages
            stream.flush()
        except Exception:  # noqa: BLE001, S110 - it may be closed, or None, or have no room
            pass


def rebind() -> None:
    """Before a fork of which the descriptors will be others."""
    while _in_use:
        _in_use.pop().rebind()
