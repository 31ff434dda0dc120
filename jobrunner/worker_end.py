"""A worker's end of a channel: it waits until what it says is taken, and until something comes.

It is less than a `Channel`, since whatever a fork makes anew costs it copies of pages.
"""

import _socket
import os
from _thread import allocate_lock  # see channel
from errno import EBADF

from jobrunner.channel import FEW, MANY, SOCKET_KIND, Message, check_size, frame, take_message
from jobrunner.errors import ChannelClosed

_sending = allocate_lock()  # a worker has one end: so the lock may be as old as its template
_new_socket = _socket.socket
_FAMILY, _KIND, _ = SOCKET_KIND
_LEVEL = _socket.SOL_SOCKET
_MAKER = getattr(_socket, "SO_PEERCRED", _socket.SO_TYPE)
"""Asks who made the other end, of ours the runner; where the kernel does not tell, it asks no more than the kind."""
_ANSWER = 12
"""Bytes of what the kernel tells: a pid, then a user and a group, which a job may see change."""
_PID = slice(4)


class WorkerEnd:
    """It starts with a connected descriptor, which it owns, and ends with its process, or `close`."""

    __slots__ = ("_incoming", "_maker", "_socket")

    def __init__(self, descriptor: int) -> None:
        # A socket, not the bare descriptor: a job may have closed that, and opened a file with the same number.
        self._socket = _new_socket(_FAMILY, _KIND, 0, descriptor)
        self._socket.settimeout(None)  # whatever a task module has made the default
        self._maker = self._socket.getsockopt(_LEVEL, _MAKER, _ANSWER)[_PID]
        self._incoming: bytearray | None = None

    def close(self) -> None:
        """Close it."""
        os.close(self._socket.detach())

    def leave(self) -> None:
        """Forget it, and leave it open: it is for a process that was forked."""
        self._socket.detach()

    def send(self, *message: object) -> None:
        """Send one message, waiting until the other side takes it; UsageError where it is too large."""
        framed = frame(message)
        check_size(framed)
        self.send_frame(framed)

    def send_frame(self, frame: bytes) -> None:
        """Send a message that was made ready by `frame`, and is not too large."""
        try:
            with _sending:
                self._be_ours()
                self._socket.sendall(frame)
        except OSError as error:
            raise ChannelClosed(f"the runner cannot be reached: {error.strerror}") from error

    def receive(self) -> Message:
        """Wait for one message; ChannelClosed at the end."""
        if self._incoming is None:
            self._incoming = bytearray()
        room = FEW
        while (message := take_message(self._incoming)) is None:
            try:
                self._be_ours()
                data = self._socket.recv(room)
            except OSError:
                data = b""
            if not data:
                raise ChannelClosed("the runner is gone")
            self._incoming += data
            room = MANY
        return message

    def _be_ours(self) -> None:
        # Or it opened a socket with the same number, and our words are not for whoever reads that.
        if self._socket.getsockopt(_LEVEL, _MAKER, _ANSWER)[_PID] != self._maker:
            raise OSError(EBADF, "a job has closed the channel")
