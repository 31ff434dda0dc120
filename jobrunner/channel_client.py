"""The client inside of a worker: every call is a message to the runner, which answers after its next commit."""

from collections.abc import Sequence

from jobrunner.context import Current
from jobrunner.errors import error_of
from jobrunner.models import InvocationId, Job, Json, LogPiece, Progress, Request, State
from jobrunner.status import Status


class ChannelClient:
    """The runner of the job that runs here."""

    def __init__(self, current: Current) -> None:
        self._current = current

    def enqueue(self, requests: Sequence[Request]) -> list[InvocationId]:
        """Put all in, or none; ids in order."""
        return [InvocationId(one) for one in self._ask("enqueue", list(requests))]

    def enqueue_one(self, request: Request) -> InvocationId:
        """The same for one alone."""
        return self.enqueue([request])[0]

    def job(self, invocation_id: int) -> Job:
        """All facts of one invocation."""
        job = Job(*self._ask("job", invocation_id))
        return job._replace(status=Status(job.status))

    def states(self, ids: Sequence[int]) -> list[State]:
        """Where these stand, in order."""
        return [_state(row) for row in self._ask("states", list(ids))]

    def result(self, invocation_id: int) -> Json:
        """What it returned, or the exception that tells why there is nothing."""
        return self._ask("result", invocation_id)

    def cancel(self, ids: Sequence[int], *, children: bool = False) -> list[InvocationId]:
        """Call these off; the ids of those that were not finished."""
        return [InvocationId(one) for one in self._ask("cancel", list(ids), children)]

    def retry(self, ids: Sequence[int]) -> list[InvocationId]:
        """Have these done again; the ids of those that could be."""
        return [InvocationId(one) for one in self._ask("retry", list(ids))]

    def log(self, invocation_id: int, after: int = 0) -> list[LogPiece]:
        """The next pieces of output."""
        pieces = [LogPiece(*row) for row in self._ask("log", invocation_id, after)]
        return [piece._replace(data=str(piece.data).encode("latin-1")) for piece in pieces]

    def progress(self, invocation_id: int) -> Progress | None:
        """What it last said of itself."""
        row = self._ask("progress", invocation_id)
        return row and Progress(*row)

    def counts(self) -> dict[Status, int]:
        """How many are in each status."""
        return {Status(name): count for name, count in self._ask("counts").items()}

    def wait(self, ids: Sequence[int], timeout: float | None) -> list[State]:
        """Block until all are final: the runner pauses this job meanwhile, and gives its slot to others."""
        return [_state(row) for row in self._ask("wait", list(ids), timeout)]

    def await_result(self, invocation_id: int, timeout: float | None) -> Json:
        """The same, and the answer is what it returned."""
        return self._ask("result", invocation_id, timeout)

    async def wait_async(self, ids: Sequence[int], timeout: float | None) -> None:
        """The same from asyncio; one wait after the other, which for all of several is the same."""
        import asyncio  # only where it is needed: forks of a lean template are cheap

        await asyncio.to_thread(self.wait, ids, timeout)

    def _ask(self, verb: str, *facts: Json) -> Json:
        kind, value = self._current.ask(verb, *facts)
        if kind == "error":
            raise error_of(*value)
        return value


def _state(row: Json) -> State:
    return State(row[0], Status(row[1]), row[2], row[3])
