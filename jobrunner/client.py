"""The seam between what users call and where it is done: on the database here, or by the runner over the channel.

In a worker nothing of ours may open the database (locks of two libraries or of a forked connection get
lost), so there every call is a message to the runner.
"""

from collections.abc import Sequence
from typing import Protocol

from jobrunner.models import InvocationId, Job, Json, LogPiece, Progress, Request, State
from jobrunner.status import Status


class Client(Protocol):
    """What can be asked of jobrunner, wherever one is. Unknown ids raise InvocationNotFound."""

    def enqueue(self, requests: Sequence[Request]) -> list[InvocationId]:
        """Put all in, or none; ids in order."""

    def enqueue_one(self, request: Request) -> InvocationId:
        """The same for one alone, which most calls enqueue: nothing is put into lists and taken out again."""

    def job(self, invocation_id: int) -> Job:
        """All facts of one invocation."""

    def states(self, ids: Sequence[int]) -> list[State]:
        """Where these stand, in order."""

    def result(self, invocation_id: int) -> Json:
        """What it returned; InvocationFailed, or InvocationCancelled, where there is nothing."""

    def cancel(self, ids: Sequence[int], *, children: bool = False) -> list[InvocationId]:
        """Call these off; the ids of those that were not finished."""

    def retry(self, ids: Sequence[int]) -> list[InvocationId]:
        """Have these done again; the ids of those that could be."""

    def log(self, invocation_id: int, after: int = 0) -> list[LogPiece]:
        """The pieces of output that follow the piece number `after`, a page at a time."""

    def progress(self, invocation_id: int) -> Progress | None:
        """What it last said of itself."""

    def counts(self) -> dict[Status, int]:
        """How many are in each status."""

    def wait(self, ids: Sequence[int], timeout: float | None) -> list[State]:
        """Block until all are final; WaitTimeout where `timeout` seconds do not suffice."""

    def await_result(self, invocation_id: int, timeout: float | None) -> Json:
        """`wait` for this one, and its `result`."""

    async def wait_async(self, ids: Sequence[int], timeout: float | None) -> None:
        """`wait` for asyncio."""
