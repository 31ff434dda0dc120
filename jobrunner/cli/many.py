"""Many jobs at once: a JSON object a line, or one call for each item of the standard input."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from jobrunner import outputs, payload
from jobrunner.cli import fields
from jobrunner.cli.calls import HOLE, Call
from jobrunner.errors import UsageError
from jobrunner.models import Json, Request
from jobrunner.options import Options
from jobrunner.outputs import Output

_FILLED = ("label", "key")
_FORMS = '"task" and "args", "command", or "sh"'


def from_jsonl(file: str, defaults: Mapping[str, Json], here: str) -> Iterator[Request]:
    """A request for each line; `defaults` are the fields that hold where a line says nothing else."""
    known = _Known(defaults, here)
    with _opened(file) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                with _in_line(number):
                    yield known.request(_object(line))


def from_items(call: Call, said: Mapping[str, Json], end: bytes) -> Iterator[Request]:
    """A request for each line of the standard input (each item up to `end`), `{}` being the item."""
    differ = any(HOLE in str(said.get(name)) for name in _FILLED)
    same = None if differ else fields.options(said)
    for number, item in enumerate(_items(sys.stdin.buffer, end), 1):
        if item:
            with _in_line(number):
                word = os.fsdecode(item)
                yield call.fill(word).request(same or fields.options(_filled(said, word)))


class _Known:
    """The options that were met already: lines differ in their arguments, seldom in their options."""

    def __init__(self, defaults: Mapping[str, Json], here: str) -> None:
        self._defaults = defaults
        self._here = here
        self._met: dict[str, Options] = {}

    def request(self, line: dict[str, Json]) -> Request:
        task, args, kind = _call(line)
        said = {name.replace("-", "_"): value for name, value in line.items() if value is not None}
        where = {} if kind == "function" else {"cwd": self._here}
        options = self._options({**where, **self._defaults, **said})
        text, jobs = outputs.keep(args)
        return outputs.given(options.request(task, text, args, kind), jobs)

    def _options(self, said: dict[str, Json]) -> Options:
        key = repr(said)
        if key not in self._met:
            fields.check(said)
            if len(self._met) > 1000:
                self._met.clear()
            self._met[key] = fields.options(said)
        return self._met[key]


def _call(line: dict[str, Json]) -> tuple[str, Json, Any]:
    """Take the task out of the line."""
    forms = [name for name in ("task", "command", "sh") if name in line]
    if len(forms) != 1:
        raise UsageError(f"a job needs {_FORMS}" + (", and only one of them" if forms else ""))
    value = line.pop(forms[0])
    if forms == ["command"]:
        if not (isinstance(value, list) and value and all(isinstance(word, str) for word in value)):
            raise UsageError(f'"command" is a list of texts, program first, not {value!r}')
        return value[0], value[1:], "command"
    if not isinstance(value, str) or not value:
        raise UsageError(f'"{forms[0]}" is a text, not {value!r}')
    if forms == ["sh"]:
        return value, [], "shell"
    args = line.pop("args", {})
    if ":" not in value:
        raise UsageError(f'"task" is MODULE:FUNCTION, not {value!r}; a program is {{"command": ["{value}"]}}')
    if not isinstance(args, dict | list):
        raise UsageError(f'"args" is an object or a list, not {args!r}')
    if "outputs" in line:
        args = _with_outputs(args, line.pop("outputs"))
    return value, args, "function"


def _with_outputs(args: Json, said: Json) -> Json:
    if not isinstance(said, dict) or not isinstance(args, dict):
        raise UsageError('"outputs" says which named arguments are results of jobs, as in {"parts": [7, 8]}')
    if twice := sorted(said.keys() & args.keys()):
        raise UsageError(f"{twice[0]!r} is given twice")
    return args | {name: [*map(_output, one)] if isinstance(one, list) else _output(one) for name, one in said.items()}


def _output(job: Json) -> Output:
    if not isinstance(job, int) or isinstance(job, bool) or not 0 < job < 2**63:
        raise UsageError(f'"outputs" are those of jobs, by their numbers, not {job!r}')
    return Output(job)


def _object(line: bytes) -> dict[str, Json]:
    try:
        found = payload.load(line.decode().strip(), "fields")
    except UnicodeDecodeError as error:
        raise UsageError("this is not UTF-8 text") from error
    if not isinstance(found, dict):
        raise UsageError('each line is an object, as in {"task": "shop.tasks:send", "args": {"user": 7}}')
    return found


def _filled(said: Mapping[str, Json], item: str) -> dict[str, Json]:
    """The fields with the item in the places of people's texts; braces of the item name no argument in a key."""
    known = {"label": item, "key": item.replace("{", "{{").replace("}", "}}")}
    return {name: value.replace(HOLE, known[name]) if name in known else value for name, value in said.items()}


def _items(stream: BinaryIO, end: bytes) -> Iterator[bytes]:
    if end == b"\n":
        return (line.removesuffix(b"\n") for line in stream)
    return iter(stream.read().split(end))


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as opened:
        try:
            stream = opened.enter_context(open(file, "rb"))
        except OSError as error:
            raise UsageError(f"--jsonl {file}: {error.strerror}") from error
        yield stream


@contextmanager
def _in_line(number: int) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise UsageError(f"line {number}: {error}; nothing was queued") from error
