"""`app.schedules`: the schedules of the database, and those that the code declares."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobrunner import declarations, schedules
from jobrunner.arrangements import Fire, Plan, Schedule
from jobrunner.client import Client
from jobrunner.direct_client import DirectClient
from jobrunner.errors import UsageError
from jobrunner.invocation import AnyInvocation, Invocation


class Schedules:
    """Everything is asked anew at each call; ScheduleNotFound where a name is nobody's."""

    def __init__(self, path: Callable[[], Path], client: Callable[[], Client]) -> None:
        self._path = path
        self._client = client

    def sync(self) -> list[str]:
        """Write down what the code declares; gives the names of those that it does not declare any more.

        A runner that imports the module (`jobrunner run --import shop.tasks`) does this by itself when it starts.
        """
        plans = declarations.noted(self._path())
        with self._open() as client:
            return schedules.declare(client.database, plans, {plan.task.partition(":")[0] for plan in plans})

    def add(self, plan: Plan) -> None:
        """Make a schedule, or change the one of this name."""
        with self._open() as client:
            schedules.put(client.database, plan, "command")

    def all(self) -> list[Schedule]:
        """All, by name."""
        with self._open() as client:
            return schedules.schedules(client.database)

    def get(self, name: str) -> Schedule:
        """One of them."""
        with self._open() as client:
            return schedules.schedule(client.database, name)

    def next(self, name: str, count: int = 1) -> list[int]:
        """Its next instants, in milliseconds since 1970."""
        return schedules.upcoming(self.get(name), count)

    def fires(self, name: str, limit: int = 100) -> list[Fire]:
        """What became of its last instants, the newest first: a job, or why there is none."""
        with self._open() as client:
            return schedules.fires(client.database, name, limit)

    def run_now(self, name: str) -> AnyInvocation:
        """Enqueue a run of it, whatever its times say."""
        with self._open() as client:
            return Invocation(self._client, schedules.run_now(client.database, name))

    def pause(self, name: str, until: int | None = None) -> None:
        """It does not fire, until that moment (milliseconds since 1970) or until it is resumed."""
        with self._open() as client:
            schedules.pause(client.database, name, until)

    def resume(self, name: str) -> None:
        """It fires again, from now on."""
        with self._open() as client:
            schedules.resume(client.database, name)

    def remove(self, name: str) -> None:
        """It is gone; what it enqueued stays."""
        with self._open() as client:
            schedules.remove(client.database, name)

    @contextmanager
    def _open(self) -> Iterator[DirectClient]:
        client = self._client()
        if not isinstance(client, DirectClient):
            raise UsageError("schedules are read and changed outside of jobs and of `app.inline()`")
        yield client
