"""Jobs that hand their results on: chains, groups, and groups with a job behind them, all enqueued in one transaction.

Nothing here that `after=` and `.output` do not do: a step is a call that is not enqueued yet, and what it is given by
those before it becomes its first argument.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jobrunner import outputs
from jobrunner.errors import UsageError
from jobrunner.invocation import AnyInvocation, GetClient, Invocation
from jobrunner.models import InvocationId, Json, Request
from jobrunner.options import joined
from jobrunner.outputs import Output

MakeRequest = Callable[[tuple[Any, ...], Mapping[str, Any]], Request]
"""Makes the request of a call with these arguments."""


class Given(NamedTuple):
    """What steps give to the one behind them: an output or a list of such, and the places of the jobs it comes from."""

    value: Json
    places: tuple[int, ...]


class Draft:
    """The requests of what is to be enqueued at once, in their order; a job is known by its place, as in `Output`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.clients: list[GetClient] = []

    def add(self, request: Request, client: GetClient) -> int:
        """Put it behind those that are there; gives its place."""
        if self.clients and client != self.clients[0]:
            raise UsageError("what is enqueued at once is of one app")
        self.clients.append(client)
        self.requests.append(joined(request))
        return ~(len(self.requests) - 1)


class Step(ABC):
    """A part of a chain or group."""

    @abstractmethod
    def put(self, draft: Draft, given: Given | None) -> Given:
        """Put its requests into the draft, behind what it is given; gives what it gives itself."""

    def _enqueued(self) -> tuple[GetClient, list[InvocationId], Json]:
        """In one transaction: all or nothing."""
        draft = Draft()
        given = self.put(draft, None)
        if not draft.requests:
            raise UsageError("there is nothing in it to enqueue")
        client = draft.clients[0]
        ids = client().enqueue(draft.requests)
        return client, ids, _numbered(given.value, ids)


class Call(Step):
    """A call of a task: what `task.step(...)` and `task.just(...)` give."""

    def __init__(
        self, call: MakeRequest, client: GetClient, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, takes: bool
    ) -> None:
        self._call = call
        self._client = client
        self._args = args
        self._kwargs = kwargs
        self._takes = takes

    def put(self, draft: Draft, given: Given | None) -> Given:
        """One request; what it is given is its first argument, where it takes it."""
        args = self._args if given is None or not self._takes else (given.value, *self._args)
        request = self._call(args, self._kwargs)
        if given is not None and given.places:
            request = outputs.behind(request, given.places)
        place = draft.add(request, self._client)
        return Given(Output(place), (place,))


class Chain(Step):
    """Steps one after another; it gives what the last one gives."""

    def __init__(self, steps: Sequence[Step]) -> None:
        if not steps:
            raise UsageError("a chain has at least one step")
        self._steps = tuple(map(_step, steps))

    def put(self, draft: Draft, given: Given | None) -> Given:
        """The requests of all steps, each behind those of the one before."""
        first, *others = self._steps
        given = first.put(draft, given)
        for step in others:
            given = step.put(draft, given)
        return given

    def enqueue(self) -> "ChainJobs":
        """Queue all of it, in one transaction."""
        return ChainJobs(*self._enqueued())


class Group(Step):
    """Steps side by side, each of which is given the same; it gives the list of what they give."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = tuple(map(_step, steps))

    def put(self, draft: Draft, given: Given | None) -> Given:
        """The requests of all."""
        gives = [step.put(draft, given) for step in self._steps]
        return Given([one.value for one in gives], tuple(place for one in gives for place in one.places))

    def enqueue(self) -> "GroupJobs":
        """Queue all of it, in one transaction."""
        return GroupJobs(*self._enqueued())


def chain(*steps: Step) -> Chain:
    """One after another, each with the result of the one before as its first argument.

    `chain(fetch.step(url), parse.step(), store.step(table="pages")).enqueue().result()`. A step made with `just`, as in
    `tidy.just(folder)`, begins after the one before, too, and gets these arguments and no result. A step can be a
    group, of which the next one gets the list of results, or another chain. Where one fails, those behind it are
    cancelled with that reason.
    """
    return Chain(steps)


def group(steps: Iterable[Step]) -> Group:
    """Side by side: `group(resize.step(one) for one in images).enqueue().results()`; a step can be a chain."""
    return Group(steps)


def chord(members: Group | Iterable[Step], callback: Step) -> Chain:
    """A group, and behind it one job that gets the list of its results: `chain(group(...), callback)`."""
    return Chain([members if isinstance(members, Group) else Group(members), callback])


class Jobs:
    """The jobs of a chain or group, once they are enqueued; `after=` takes it, too, and waits for all of them."""

    def __init__(self, client: GetClient, ids: list[InvocationId], output: Json) -> None:
        self._client = client
        self.ids = ids
        """The numbers of all its jobs, in the order of their steps."""
        self.output = output
        """What it will give, as an argument of another job: an `Output`, for a group a list."""

    @property
    def jobs(self) -> list[AnyInvocation]:
        """All of them, in the order of their steps."""
        return [Invocation(self._client, one) for one in self.ids]

    def wait(self, timeout: float | None = None) -> list[AnyInvocation]:
        """Block until all have ended, at most so many seconds; it does not raise what they raised."""
        self._client().wait(self.ids, timeout)
        return self.jobs

    def cancel(self) -> list[InvocationId]:
        """Call off what has not ended; gives the numbers."""
        return self._client().cancel(self.ids)

    def _results(self, timeout: float | None) -> Json:
        self._client().wait(_ends(self.output), timeout)
        return self._result(self.output)

    def _result(self, output: Json) -> Json:
        return [*map(self._result, output)] if isinstance(output, list) else self._client().result(output.id)


class ChainJobs(Jobs):
    """Those of a chain."""

    def result(self, timeout: float | None = None) -> Json:
        """Wait for the last step and give its result, or raise what became of it, as `Invocation.result` does."""
        return self._results(timeout)


class GroupJobs(Jobs):
    """Those of a group."""

    def results(self, timeout: float | None = None) -> list[Json]:
        """Wait for all and give their results in order; raises for the first that did not succeed."""
        return list(self._results(timeout))


def _step(one: object) -> Step:
    if not isinstance(one, Step):
        raise UsageError(f"a step is task.step(...), task.just(...), a chain or a group, not {one!r}")
    return one


def _ends(output: Json) -> list[int]:
    return [job for one in output for job in _ends(one)] if isinstance(output, list) else [output.id]


def _numbered(value: Json, ids: Sequence[int]) -> Json:
    if isinstance(value, Output):
        return Output(ids[~value.id])
    return [_numbered(one, ids) for one in value]
