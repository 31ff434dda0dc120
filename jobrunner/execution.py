"""Doing the work of one function invocation: find it, call it, and say what came of it. No database here."""

import functools
import importlib
import json
import sys
import traceback
from collections.abc import Callable
from types import CoroutineType
from typing import Any, NamedTuple

from jobrunner import aliases, payload
from jobrunner.errors import NotSerializable, TaskNotFound, TaskUnknown
from jobrunner.models import Claimed, Failure, Json, Outcome
from jobrunner.payload import POSITIONAL
from jobrunner.policy import type_name

MAX_MESSAGE = 10_000
"""Characters of an exception's message that are kept."""
MAX_TRACEBACK = 100_000
"""Characters of a traceback that are kept: its end, where the error is."""


class Found(NamedTuple):
    """A task as its module has it; `policy` is what it declares, as JSON text."""

    function: Callable[..., Any]
    policy: str | None


def find(task: str) -> Found:
    """Import `module:function`; TaskNotFound says what is missing. What the import itself raises goes through."""
    try:
        found = _import(task, *_parts(task))
    except TaskUnknown:
        found = aliases.find(task)
        if found is None:
            raise
    function = getattr(found, "function", found)
    if not callable(function):
        raise TaskNotFound(task, f"{task.partition(':')[2]} is a {type(found).__name__}, not a function")
    return Found(function, getattr(found, "declared", None))


@functools.lru_cache(1024)
def _parts(task: str) -> tuple[str, tuple[str, ...]]:
    """The module's name, and the names that lead from it to the function."""
    module_name, _, path = task.partition(":")
    names = tuple(path.split("."))
    if not all(part.isidentifier() for part in (*module_name.split("."), *names)):
        raise TaskNotFound(task, "a function is written module:function, as in shop.tasks:send")
    return module_name, names


def _import(task: str, module_name: str, names: tuple[str, ...]) -> Any:
    try:
        found = _module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise TaskUnknown(task, f"there is no module {error.name!r} on the path (--app-dir adds a folder)") from None
    for name in names:
        try:
            found = getattr(found, name)
        except AttributeError:
            raise TaskUnknown(task, f"{module_name} has no {'.'.join(names)!r}") from None
    return found


def _module(name: str) -> Any:
    found = sys.modules.get(name)
    if found is None or getattr(getattr(found, "__spec__", None), "_initializing", False):
        return importlib.import_module(name)  # where another thread is at it, this waits until that is done
    return found


def first_word(claimed: Claimed, found: Found) -> list[str]:
    """What the runner is to be told before the function begins; nothing, where it knows it all and measures no time."""
    if found.policy is not None and found.policy != claimed.policy:
        return ["declared", found.policy]
    return ["began"] if claimed.policy is not None and '"timeout"' in claimed.policy else []


def call(function: Callable[..., Any], args: Json) -> Any:
    """Call it with JSON arguments: a list is positional, an object is named, its key `*` positional."""
    named = dict(args) if isinstance(args, dict) else {POSITIONAL: args}
    positional = named.pop(POSITIONAL, [])
    returned = function(*positional, **named)
    if returned is None:
        return None
    if isinstance(returned, CoroutineType):
        import asyncio  # only where it is needed: forks of a lean template are cheap

        return asyncio.run(returned)
    return returned


def perform(function: Callable[..., Any], args: Json) -> Outcome:
    """Call it and tell what came of it; nothing that it raises gets out, SystemExit and KeyboardInterrupt included."""
    try:
        returned = call(function, args)
    except BaseException as error:  # a job may raise whatever it likes; its runner must hear of it
        return Outcome(failure=describe(error))
    try:
        return Outcome(result=payload.dump(returned, "result"))
    except NotSerializable as error:
        return Outcome(failure=describe(error, f"the function was done, but {error}"))


def describe(error: BaseException, message: str | None = None) -> Failure:
    """The exception as facts: even one whose own text cannot be had."""
    return Failure(
        type=_clean(type_name(type(error))),
        message=_text(error) if message is None else message,
        traceback=None if isinstance(error, (TaskNotFound, NotSerializable)) else _traceback(error),
        types=tuple(_clean(type_name(cls)) for cls in type(error).__mro__[:-1]),
    )


def _text(error: BaseException) -> str:
    try:
        return _clean(str(error))[:MAX_MESSAGE]
    except BaseException as broken:  # a user's __str__ may raise anything
        return f"(its text cannot be had: {type(broken).__name__})"


def _traceback(error: BaseException) -> str:
    try:
        frames = error.__traceback__
        # The frames of this module say nothing about the job.
        while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
            frames = frames.tb_next
        return _clean("".join(traceback.format_exception(type(error), error, frames)))[-MAX_TRACEBACK:]
    except BaseException as broken:  # as above: formatting calls the user's __str__ and __repr__
        return f"(no traceback: {type(broken).__name__})"


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def load_args(text: str) -> Json:
    """The arguments as the row has them."""
    return {} if text == "{}" else json.loads(text)


def is_quiet() -> bool:
    """Whether this process has one thread only: one that an import started would be missing in a fork."""
    threading = sys.modules.get("threading")
    return threading is None or threading.active_count() == 1
