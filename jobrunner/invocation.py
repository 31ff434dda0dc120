"""One enqueued invocation, as its user holds it: a number, and what can be asked about it."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from jobrunner.client import Client
from jobrunner.models import InvocationId, Job, LogPiece, Progress
from jobrunner.outputs import Output
from jobrunner.status import Status

R = TypeVar("R")
GetClient = Callable[[], Client]
"""Asked at each use: the connection may have been closed and opened anew."""


class Invocation(Generic[R]):
    """Everything is asked anew at each call: nothing here gets old."""

    __slots__ = ("__weakref__", "_get_client", "id")

    def __init__(self, get_client: GetClient, invocation_id: InvocationId) -> None:
        self._get_client = get_client
        self.id = invocation_id

    @property
    def _client(self) -> Client:
        return self._get_client()

    def __repr__(self) -> str:
        return f"Invocation({self.id})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Invocation) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def status(self) -> Status:
        """Where it stands."""
        return self._client.states([self.id])[0].status

    @property
    def details(self) -> Job:
        """All that is known of it."""
        return self._client.job(self.id)

    @property
    def progress(self) -> Progress | None:
        """What it last said of itself; None if nothing."""
        return self._client.progress(self.id)

    @property
    def output(self) -> R:
        """What it will return, as an argument of another job: `total.enqueue(a.output, [b.output])`.

        That job begins when this one has succeeded, and gets what it returned; to type checkers it is that already.
        """
        return cast(R, Output(self.id))

    def result(self, timeout: float | None = None) -> R:
        """Wait until it is final and give what it returned; reading it deletes nothing.

        Raises InvocationFailed, InvocationCancelled (also when expired), or WaitTimeout after `timeout` seconds.
        """
        return cast(R, self._client.await_result(self.id, timeout))

    async def aresult(self, timeout: float | None = None) -> R:
        """`result` for asyncio: other tasks go on meanwhile. A job that waits is paused, all of its process."""
        await self._client.wait_async([self.id], timeout)
        return cast(R, self._client.result(self.id))

    def cancel(self, *, children: bool = False) -> bool:
        """Call it off, with all that it has enqueued where `children`; False where it was finished already."""
        return self.id in self._client.cancel([self.id], children=children)

    def retry(self) -> bool:
        """Have it done again, all budgets anew; also releases a held or delayed one. False where it is under way."""
        return self.id in self._client.retry([self.id])

    def log(self) -> str:
        """The output of all its attempts so far, both streams, as text; bytes that are not UTF-8 are written out."""
        return "".join(_text(piece) for piece in self.log_pieces())

    def log_pieces(self) -> list[LogPiece]:
        """The output of all its attempts so far, with the time and stream of each piece."""
        pieces: list[LogPiece] = []
        while page := self._client.log(self.id, pieces[-1].id if pieces else 0):
            pieces += page
        return pieces


def _text(piece: LogPiece) -> str:
    return f"\n[{piece.cut} bytes cut here]\n" if piece.cut else piece.data.decode("utf-8", "backslashreplace")


AnyInvocation = Invocation[Any]
