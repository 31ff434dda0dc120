"""Doing the work of one function invocation: find it, call it, and say what came of it. No database here."""

import importlib
import json
import sys
import traceback
from collections.abc import Callable
from types import CoroutineType, FunctionType, ModuleType
from typing import Any, NamedTuple

from jobrunner import aliases, payload
from jobrunner.errors import NotSerializable, TaskNotFound, TaskUnknown, type_name
from jobrunner.models import Failure, Json, Outcome
from jobrunner.payload import POSITIONAL

MAX_MESSAGE = 10_000
"""Characters of an exception's message that are kept."""
MAX_TRACEBACK = 100_000
"""Characters of a traceback that are kept: its end, where the error is."""


class Found(NamedTuple):
    """A task as its module has it; `policy` is what it declares, as JSON text."""

    function: Callable[..., Any]
    policy: str | None


class _Place(NamedTuple):
    """Where a task was found: what its module had under its name."""

    module_name: str
    module: ModuleType
    name: str
    content: Any
    found: Found


_places: dict[str, _Place] = {}


def found_before(task: str) -> Found | None:
    """What `find` gave the last time, in a fifth of the time; None where its module has something else by now."""
    place = _places.get(task)
    if place is None:
        return None
    module_name, module, name, content, found = place
    return found if sys.modules.get(module_name) is module and module.__dict__.get(name) is content else None


def find(task: str) -> Found:
    """Import `module:function`; TaskNotFound says what is missing. What the import itself raises goes through."""
    return _found(task, _content(task))


def find_for_good(task: str) -> Found:
    """As `find`, and `found_before` gives it from now on."""
    content = _content(task)
    found = _found(task, content)
    module_name, _, name = task.partition(":")
    module = sys.modules.get(module_name)
    if isinstance(module, ModuleType):
        _places[task] = _Place(module_name, module, name, content, found)
    return found


def find_plain(task: str) -> Found | None:
    """As `find`, but only what an imported module has as it is, so that no code of a user's runs.

    Not as it was: a module that comes later may have put another function into the same task.
    """
    module_name, _, name = task.partition(":")
    if type(sys.modules.get(module_name)) is not ModuleType:  # others may import when they are looked at
        return None
    content = _imported(module_name, name)
    if type(content) is not FunctionType and type(content).__module__ != "jobrunner.task":
        return None
    try:
        return _found(task, content)
    except TaskNotFound:
        return None


def _found(task: str, content: Any) -> Found:
    function = getattr(content, "function", content)
    if not callable(function):
        raise TaskNotFound(task, f"{task.partition(':')[2]} is a {type(content).__name__}, not a function")
    declared = getattr(content, "declared", None)
    return Found(function, declared if isinstance(declared, str) else None)  # others may use the word, too


def _content(task: str) -> Any:
    """What the module has under the name, which is mostly there."""
    module_name, _, name = task.partition(":")
    content = _imported(module_name, name)
    return _looked_for(task, module_name, name) if content is None else content


def _imported(module_name: str, name: str) -> Any:
    """What the module has under this name, if that is imported and has it."""
    module = sys.modules.get(module_name)
    if isinstance(module, ModuleType) and not _is_being_imported(module) and name.isidentifier():
        return module.__dict__.get(name)
    return None


def _is_being_imported(module: ModuleType) -> bool:
    return getattr(getattr(module, "__spec__", None), "_initializing", False)


def _looked_for(task: str, module_name: str, path: str) -> Any:
    names = path.split(".")
    if not all(map(str.isidentifier, (*module_name.split("."), *names))):
        raise TaskNotFound(task, "a function is written module:function, as in shop.tasks:send")
    try:
        # Where another thread is at it, this waits until it is done.
        content: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        return _taken_over(task, f"there is no module {error.name!r} on the path (--app-dir adds a folder)")
    try:
        for name in names:
            content = getattr(content, name)
    except AttributeError:
        return _taken_over(task, f"{module_name} has no {path!r}")
    return content


def _taken_over(task: str, why: str) -> Any:
    content = aliases.find(task)
    if content is None:
        raise TaskUnknown(task, why) from None
    return content


def first_word(policy: str | None, found: Found) -> list[str]:
    """What the runner is to be told before the function begins; nothing, where it knows it all and measures no time.

    `policy` is that of the invocation, as JSON text.
    """
    if found.policy is not None and found.policy != policy:
        return ["declared", found.policy]
    return ["began"] if policy is not None and '"timeout"' in policy else []


def call(function: Callable[..., Any], args: Json) -> Any:
    """Call it with JSON arguments: a list is positional, an object is named, its key `*` positional."""
    if args or not isinstance(args, dict):
        named = dict(args) if isinstance(args, dict) else {POSITIONAL: args}
        positional = named.pop(POSITIONAL, [])
        returned = function(*positional, **named)
    else:
        returned = function()
    if returned is None:
        return None
    if isinstance(returned, CoroutineType):
        import asyncio  # only where it is needed: forks of a lean template are cheap

        return asyncio.run(returned)
    return returned


NOTHING = Outcome("null")
"""Of a function that gives None, as most do."""


def perform(function: Callable[..., Any], args: Json) -> Outcome:
    """Call it and tell what came of it; nothing that it raises gets out, SystemExit and KeyboardInterrupt included."""
    try:
        returned = call(function, args)
    except BaseException as error:  # a job may raise whatever it likes; its runner must hear of it
        return Outcome(failure=describe(error))
    if returned is None:
        return NOTHING
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
