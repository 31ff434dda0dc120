"""The output of one attempt: its head is kept as it comes, of the rest only the tail, so memory stays bounded."""

from collections import deque
from typing import NamedTuple

from jobrunner.times import now_ms

LIMIT = 1 << 20
"""Bytes kept of one attempt's output, both streams together."""
_PIECE = 1 << 16


class Piece(NamedTuple):
    """Some output: when (ms since 1970), of which stream, the bytes; `cut`: bytes left out here."""

    at: int
    stream: str
    data: bytes
    cut: int = 0


class Capture:
    """It starts with an attempt and ends with its end; `limit` is how many bytes are kept, at least 1."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._head_room = limit // 2
        self._tail_room = limit - self._head_room
        self._ready: deque[Piece] = deque()
        self._tail: deque[Piece] = deque()
        self._tail_size = 0
        self._cut = 0

    def add(self, stream: str, data: bytes) -> None:
        """Take what a stream gave."""
        head, rest = data[: self._head_room], data[self._head_room :]
        if head:
            self._head_room -= len(head)
            _append(self._ready, stream, head)
        if rest:
            _append(self._tail, stream, rest)
            self._tail_size += len(rest)
            self._trim()

    @property
    def has_pieces(self) -> bool:
        """Whether `head` has something to give."""
        return bool(self._ready)

    def head(self) -> list[Piece]:
        """The pieces of the head that have come since `forget_head`."""
        return list(self._ready)

    def forget_head(self) -> None:
        """What `head` gave is written down."""
        self._ready.clear()

    def all(self) -> list[Piece]:
        """What is not written down, once nothing more comes: the head's rest, the mark of the cut, the tail."""
        pieces = self.head()
        if self._cut:
            first = self._tail[0]
            pieces.append(Piece(first.at, first.stream, b"", self._cut))
        return pieces + list(self._tail)

    def _trim(self) -> None:
        while (excess := self._tail_size - self._tail_room) > 0:
            oldest = self._tail.popleft()
            dropped = min(excess, len(oldest.data))
            if dropped < len(oldest.data):
                self._tail.appendleft(oldest._replace(data=oldest.data[dropped:]))
            self._tail_size -= dropped
            self._cut += dropped


def _append(pieces: deque[Piece], stream: str, data: bytes) -> None:
    # Jobs may write a byte at a time: many small pieces would cost more memory than what they hold.
    last = pieces[-1] if pieces else None
    if last is not None and last.stream == stream and len(last.data) + len(data) <= _PIECE:
        pieces[-1] = last._replace(data=last.data + data)
    else:
        pieces.append(Piece(now_ms(), stream, data))
