"""Messages between processes over a stream socket: each a JSON array, behind its length in four bytes.

A message is `[verb, fact, ...]`. What blocks uses `send` and `receive`, as a worker does, whose end is a `WorkerEnd`;
what has a selector (the runner, the template) uses `post`, `flush` and `read`, which never block.
"""

import _socket
import array
import contextlib
import json
import os
import socket
import struct
from _thread import allocate_lock  # not threading, which costs each fork half a millisecond
from collections.abc import Callable, Iterable, Iterator, Sequence

from jobrunner.errors import ChannelBroken, ChannelClosed, UsageError
from jobrunner.models import Json

MAX_MESSAGE = 64 << 20
"""A longer message is no message of ours; results, the largest, are at most 8 MiB, six times that where each character
is written as an escape."""
_LENGTH = struct.Struct("!I")
MANY = 1 << 18
"""Bytes to read or send at once where much is coming."""
FEW = 1 << 14
"""Bytes to read at once where little is coming: each reading makes a buffer for all that it may get."""
_ROOM_FOR_DESCRIPTORS = socket.CMSG_SPACE(32 * 4)
_encoder = json.JSONEncoder(separators=(",", ":"))
_decode = json.JSONDecoder().raw_decode
# As plain numbers: to join two of the enums of `socket` takes as long as to read a message.
SOCKET_KIND = int(socket.AF_UNIX), int(socket.SOCK_STREAM), 0
_NOT_WAITING = int(socket.MSG_DONTWAIT)
_CLOSE_ON_EXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))

Message = list[Json]


def pair() -> tuple[socket.SocketType, socket.SocketType]:
    """Two connected ends."""
    # Not of the module `socket`, whose classes take longer, and which a task module may have changed.
    return _socket.socketpair(*SOCKET_KIND)


class Channel:
    """One end: it starts with a connected socket and ends with `close`."""

    def __init__(self, end: socket.SocketType) -> None:
        end.settimeout(None)  # whatever a task module has made the default
        self._socket = end
        self._incoming = bytearray()
        self._room = FEW
        self._outgoing = bytearray()
        self._descriptors: list[int] = []
        self._sending = allocate_lock()

    def fileno(self) -> int:
        """The descriptor, for a selector; -1 after the end."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end; the other one reads an end of file."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        with contextlib.suppress(OSError):  # a job that closed every descriptor closed this one too
            self._socket.close()

    def send(self, *message: Json) -> None:
        """Send one message, waiting until the other side takes it; UsageError where it is too large."""
        framed = frame(message)
        check_size(framed)
        try:
            with self._sending:
                self._socket.sendall(framed)
        except OSError as error:
            raise ChannelClosed(f"the runner cannot be reached: {error.strerror}") from error

    def receive(self) -> Message:
        """Wait for one message; ChannelClosed at the end."""
        while (message := take_message(self._incoming)) is None:
            if not self._fill(0):
                raise ChannelClosed("the runner is gone")
        return message

    def send_with(self, descriptors: Sequence[int], *message: Json) -> None:
        """Send one short message and open descriptors with it; they come out of `take_descriptors` in order."""
        framed = frame(message)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        sent = self._socket.sendmsg([framed], [rights])
        if sent < len(framed):  # a signal came while it waited for room
            self._socket.sendall(framed[sent:])

    def take_descriptors(self, count: int) -> list[int]:
        """The next `count` descriptors that came in; the caller owns them now."""
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return taken

    @property
    def untaken(self) -> list[int]:
        """Descriptors that came in, and whose message is not handled yet, or not even there as a whole."""
        return self._descriptors

    def queue(self, *message: Json) -> None:
        """Have a message ready for the next `flush`."""
        self._outgoing += frame(message)

    def post(self, *message: Json) -> None:
        """Queue a message and send what the socket takes now."""
        self.queue(*message)
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes of the queued messages; all of them are dropped where nobody is left to read."""
        try:
            while self._outgoing:
                sent = self._socket.send(self._outgoing[:MANY], _NOT_WAITING)
                del self._outgoing[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._outgoing.clear()

    @property
    def has_more_to_send(self) -> bool:
        """Whether `flush` has something left to do when the socket takes more."""
        return bool(self._outgoing)

    def read(self, *, to_the_end: bool = False) -> Iterator[Message]:
        """The messages that are there now, `to_the_end` however many; ChannelClosed after the last one."""
        is_open = True
        try:  # not `suppress`: a template reads once for each fork, which then has pages to be copied
            is_open = self._fill(_NOT_WAITING)
            while is_open and to_the_end:
                is_open = self._fill(_NOT_WAITING)
        except BlockingIOError:
            pass
        while (message := take_message(self._incoming)) is not None:
            yield message
        if not is_open:
            raise ChannelClosed("the other side is gone")

    def _fill(self, flags: int) -> bool:
        try:
            # Not socket.recv_fds: it ignores its flags.
            data, ancillary, _, _ = self._socket.recvmsg(self._room, _ROOM_FOR_DESCRIPTORS, flags | _CLOSE_ON_EXEC)
        except BlockingIOError:
            raise
        except OSError:
            return False
        for level, kind, packed in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._descriptors += array.array("i", packed[: len(packed) - len(packed) % 4])
        self._room = MANY if len(data) == self._room else FEW
        self._incoming += data
        return bool(data)


def take_message(incoming: bytearray) -> Message | None:
    """The first message of what has come in, where it is whole; it is taken away from that."""
    if len(incoming) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(incoming)
    end = _LENGTH.size + length
    if length > MAX_MESSAGE:
        raise ChannelBroken("the other side sent what is no message")
    if len(incoming) < end:
        return None
    body = bytes(incoming[_LENGTH.size : end])
    del incoming[:end]
    return _parse(body)


def _piecemeal() -> Callable[[Sequence[Json], int], Iterable[str]]:
    """What gives the pieces of a text, made once: `JSONEncoder.encode` makes it for each, which takes twice as long."""
    make = getattr(json.encoder, "c_make_encoder", None)  # undocumented, and None where json has no C
    if make is None:
        return lambda message, _: _encoder.encode(message)
    made: Callable[[Sequence[Json], int], Iterable[str]] = make(
        None, _encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True
    )
    return made


_pieces = _piecemeal()


def frame(message: Sequence[Json]) -> bytes:
    """A message as it is sent."""
    body = "".join(_pieces(message, 0)).encode()
    return _LENGTH.pack(len(body)) + body


def check_size(framed: bytes) -> None:
    """UsageError where it is too large to be sent."""
    if len(framed) > MAX_MESSAGE:
        raise UsageError(f"{len(framed):,} bytes at once from a job to its runner are too much: say less at a time")


def _parse(body: bytes) -> Message:
    try:
        text = body.decode()
        message, end = _decode(text)
    except (ValueError, RecursionError) as error:
        raise ChannelBroken("the other side sent what is no message") from error
    if not isinstance(message, list) or not message or end != len(text):
        raise ChannelBroken("the other side sent what is no message")
    return message
