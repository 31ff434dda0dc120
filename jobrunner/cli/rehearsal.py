"""`enqueue --check`: import and bind what would be queued, and say it; nothing is queued, no database is needed."""

import importlib
import inspect
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from jobrunner import execution, payload
from jobrunner.cli import printing
from jobrunner.cli.job_facts import parsed
from jobrunner.cli.session import Session
from jobrunner.errors import JobRunnerError, TaskNotFound, UsageError
from jobrunner.masking import hide_call
from jobrunner.models import Request
from jobrunner.policy import Policy

_ALWAYS = ("task", "kind", "args", "queue")


def rehearse(called: Session, requests: Sequence[Request]) -> None:
    """Check each request and print it; UsageError or TaskNotFound where one could not be done here."""
    sys.path.insert(0, str(Path.cwd()))  # as a runner that is started here
    for request in requests:
        if request.kind == "function":
            _check_function(request)
        elif request.kind == "command":
            _check_program(request)
        _print(called, request)


def _check_function(request: Request) -> None:
    module = request.task.partition(":")[0]
    try:
        importlib.invalidate_caches()
        function = execution.find(request.task).function
    except TaskNotFound:
        raise
    except Exception as error:  # a user's module may raise anything when it is imported
        raise JobRunnerError(f"importing {module} failed: {type(error).__name__}: {error}") from error
    args = parsed(request.args)
    positional = args if isinstance(args, list) else args.pop(payload.POSITIONAL, [])
    try:
        inspect.signature(function).bind(*positional, **(args if isinstance(args, dict) else {}))
    except TypeError as error:
        raise UsageError(
            f"{request.task}{inspect.signature(function)} does not take these arguments: {error}"
        ) from error


def _check_program(request: Request) -> None:
    folder = Policy.from_json(request.policy).cwd or str(Path.cwd())
    if "/" in request.task:
        found = os.access(Path(folder) / request.task, os.X_OK)
    else:
        found = shutil.which(request.task) is not None
    if not found:
        raise UsageError(f"there is no program {request.task!r} here that could be started")


def _print(called: Session, request: Request) -> None:
    task, args, policy = hide_call(request.kind, request.task, request.args, request.policy)
    request = request._replace(task=task, args=args or "", policy=policy)
    usual = Request._field_defaults
    facts = request._replace(outputs=False)._asdict()  # the arguments show them
    said = {name: value for name, value in facts.items() if name in _ALWAYS or value != usual[name]}
    said |= {name: parsed(said[name]) for name in ("args", "policy") if name in said}
    if called.json:
        printing.write_json(said)
    else:
        words = (f"{name} {value!r}" for name, value in said.items() if name not in ("task", "args", "kind"))
        printing.write_tabs([f"would queue {request.kind} {request.task} {request.args}; {', '.join(words)}"])
