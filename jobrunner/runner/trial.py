"""A module imported where it may fail: in a template, or in a child of it, which shows what forks should not share."""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from jobrunner import execution, kernel
from jobrunner.runner import sources

# None of them is 0: a module may end its process with that.
CLEAN = 10
"""Imported, and nothing opened or started that forks would share."""
UNSHARED = 11
GONE = 12
FAILED = 13
"""And the runner was told why."""

_IMPORTING = (__file__, importlib.__file__)
Tell = Callable[..., Any]


def become_trial(module: str, template: int, tell: Tell) -> NoReturn:
    """In the child: import it, tell what was read and what failed, and end."""
    code = FAILED
    try:
        os.setsid()
        if kernel.die_with_parent(signal.SIGKILL, template):
            code = _try(module, tell)
            tell("read", sources.news())
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(code)


def _try(module: str, tell: Tell) -> int:
    before = kernel.open_descriptors()
    error = error_of(module)
    if error is not None and _is_gone(module, error):
        return GONE
    if error is not None:
        tell("import_failed", module, *reason(error))
        return FAILED
    return CLEAN if kernel.open_descriptors() == before and execution.is_quiet() else UNSHARED


def error_of(module: str) -> BaseException | None:
    """What its import raises, if anything."""
    try:
        sources.imported(importlib.import_module(module))
    except ModuleNotFoundError as error:
        sources.missed(error.name)
        return error
    except BaseException as error:  # a module may raise anything, sys.exit() included
        return error
    return None


def _is_gone(module: str, error: BaseException) -> bool:
    """Whether there is no such module any more; one that misses another has failed."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return False
    return f"{module}.".startswith(f"{error.name}.")


def reason(error: BaseException) -> tuple[str, str | None]:
    """Why an import failed, in a line, and the traceback."""
    failure = execution.describe(error.with_traceback(_from_the_module(error.__traceback__)))
    return f"{failure.type}: {failure.message}", failure.traceback


def _from_the_module(frames: TracebackType | None) -> TracebackType | None:
    """Those below the ones of the import itself, which tell nothing."""
    while frames is not None and _is_import(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_import(file: str) -> bool:
    return file.startswith("<frozen importlib") or file in _IMPORTING
