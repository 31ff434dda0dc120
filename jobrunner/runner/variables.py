"""What a worker is to find in its environment, made ready before its fork, so that it only has to point there.

To set a variable, Python and C write to pages of their own, seven and more for each, of which a fork makes copies.
Where C keeps its pointer is known of Linux; elsewhere, and where a task module has put something else in the place
of `os.environ`, the variables are set one by one.
"""

import array
import ctypes
import os
import struct
from typing import Any, NamedTuple

from jobrunner import kernel

_Data = dict[bytes, bytes]
_DATA = "_data"
"""Where `os.environ` and `os.environb` keep what they have."""
_POINTER = struct.Struct("P")
_POINTERS = "Q" if _POINTER.size == 8 else "L"
_NULL = bytes(_POINTER.size)


class Variables:
    """The environment of this process as it was at the last `look`, and variables with these names beside it."""

    def __init__(self, *names: str) -> None:
        self._names = [os.fsencode(name) for name in names]
        self._pointer = _pointer()
        self._place = None if self._pointer is None else memoryview(self._pointer).cast("B")
        self._address = 0
        self._entries = b""
        """What is at this address: where each `NAME=value` is, and a null."""
        self._others = b""
        """Where those are that have other names than ours."""
        self._mappings: list[dict[str, Any]] = []
        self._data: _Data | None = None

    def look(self) -> None:
        """See what is in the environment now."""
        self._mappings = [getattr(one, "__dict__", {}) for one in (os.environ, os.environb)]
        data, other = (one.get(_DATA) for one in self._mappings)
        is_known = self._pointer is not None and type(data) is dict and data is other
        self._data = data if is_known else None
        address = 0 if self._pointer is None else self._pointer.value or 0
        if address != self._address or ctypes.string_at(address, len(self._entries)) != self._entries:
            self._address, self._entries = address, _entries(address)
            ours = tuple(name + b"=" for name in self._names)
            found = [one for (one,) in _POINTER.iter_unpack(self._entries[: -_POINTER.size])]
            self._others = b"".join(_POINTER.pack(one) for one in found if not ctypes.string_at(one).startswith(ours))

    def made(self, *values: str) -> "Made":
        """They with these values, for `take`."""
        pairs = dict(zip(self._names, [value.encode() for value in values], strict=True))
        if self._data is None or self._place is None:
            return Made(None, b"", [], pairs, ())
        text = b"".join([b"%s=%s\0" % pair for pair in pairs.items()])
        texts, block = array.array("B", text), array.array(_POINTERS, self._others)
        start, _ = texts.buffer_info()
        end = 0
        while end < len(text):
            block.append(start + end)
            end = text.index(0, end) + 1
        block.append(0)
        address, _ = block.buffer_info()
        return Made(self._place, _POINTER.pack(address), self._mappings, self._data | pairs, (texts, block))


class Made(NamedTuple):
    """An environment; it has to be kept by whoever takes it, as long as its process lives."""

    place: memoryview | None
    address: bytes
    mappings: list[dict[str, Any]]
    data: _Data
    """All of it; where there is no `place`, only what is added."""
    memory: tuple[object, ...]
    """What C reads."""


def take(made: Made) -> None:
    """Have it in this process from now on."""
    place, address, mappings, data, _ = made
    if place is None:
        os.environ.update({os.fsdecode(name): os.fsdecode(value) for name, value in data.items()})
    else:
        place[:] = address
        for one in mappings:
            one[_DATA] = data


def _pointer() -> ctypes.c_void_p | None:
    """C's `environ`."""
    if not kernel.is_linux:
        return None
    try:
        return ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ")
    except ValueError:
        return None


def _entries(address: int) -> bytes:
    block = b""
    while address and not block.endswith(_NULL):
        block += ctypes.string_at(address + len(block), _POINTER.size)
    return block
