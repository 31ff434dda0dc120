"""A function that can be enqueued: calling it runs it, like any function; `.enqueue` queues it."""

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, cast

from jobrunner import outputs
from jobrunner.arguments import Parameters, parameters_of
from jobrunner.errors import UsageError
from jobrunner.flow import Call
from jobrunner.invocation import GetClient, Invocation
from jobrunner.models import Request
from jobrunner.options import Options, OptionWords, Pattern, joined, joining

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


class Enqueuer(Generic[P, R]):
    """A task with the options of a call: what `task.options(...)` gives."""

    def __init__(self, name: str, function: Callable[..., Any], options: Options, client: GetClient) -> None:
        self.name = name
        self.function = function
        self._options = options
        self._client = client
        self._pattern = Pattern(options, name)
        self._bare: Request | None = None
        """From the first call without arguments on, the one that all such calls make."""

    def later(self, args: Mapping[str, Any]) -> Request:
        """What a schedule or a batch enqueues: a call with these arguments; TypeError where they do not fit."""
        return self._request((), args)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Invocation[R]:
        """Queue a call with these arguments; TypeError where they do not fit the function."""
        request = self._request(args, kwargs)
        if joining.get() is not None:
            request = joined(request)
        return Invocation(self._client, self._client().enqueue_one(request))

    def enqueue_many(self, calls: Iterable[Mapping[str, Any]]) -> list[Invocation[R]]:
        """Queue a call for each mapping of arguments, in one transaction: all or nothing."""
        requests = [self._request((), call) for call in calls]
        if joining.get() is not None:
            requests = [joined(request) for request in requests]
        return [Invocation(self._client, one) for one in self._client().enqueue(requests)]

    def step(self, *args: Any, **kwargs: Any) -> Call:
        """A call for a `chain` or `group`; the result of what comes before it goes in front of these arguments."""
        return Call(self._request, self._client, args, kwargs, takes=True)

    def just(self, *args: P.args, **kwargs: P.kwargs) -> Call:
        """The same with these arguments alone: what comes before it is waited for, and its result left aside."""
        return Call(self._request, self._client, args, kwargs, takes=False)

    @functools.cached_property
    def _parameters(self) -> Parameters:
        return parameters_of(self.function)

    def _request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request:
        if self._bare is not None and not args and not kwargs:
            return self._bare
        text, jobs = outputs.keep(self._parameters.as_json(args, kwargs))
        if not args and not kwargs:  # and they fit
            self._bare = self._pattern.bare
        request = self._pattern.request(text, functools.partial(self._parameters.named, args, kwargs))
        return outputs.given(request, jobs) if jobs else request


class Task(Enqueuer[P, R], Generic[P, R, C]):
    """A function with its decorator's options. Its job returns R; calling it gives C: R, or a coroutine of R."""

    def __init__(self, function: Callable[..., Any], options: Options, client: GetClient) -> None:
        super().__init__(task_name(function), function, options, client)
        functools.update_wrapper(self, function)
        self.declared = options.policy().to_json()
        """What a runner must know where the invocation itself does not say it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Run it here and now."""
        return cast(C, self.function(*args, **kwargs))

    def options(self, **changes: Unpack[OptionWords]) -> Enqueuer[P, R]:
        """The same task with other options for the calls that follow: `send.options(delay="10m").enqueue(7)`."""
        return Enqueuer(self.name, self.function, self._options.but(**changes), self._client)


def task_name(function: Callable[..., Any]) -> str:
    """`module:function`; a function that cannot be imported by name has none."""
    name = function.__qualname__
    if "<" in name:
        raise UsageError(f"{name} cannot be a task: a worker must be able to import it by its name")
    return f"{_module_name(function.__module__)}:{name}"


def _module_name(name: str) -> str:
    """What a worker must import: the script that runs as `__main__` here has another name there."""
    if name != "__main__":
        return name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is None:
        raise UsageError("a function of an interactive session cannot be a task: put it into a module")
    from pathlib import Path  # only for scripts: it costs each fork

    return Path(file).stem
