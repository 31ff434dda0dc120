"""Many jobs at once: a JSON object a line, or one call for each item of the standard input."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

from jobrunner import fields
from jobrunner.cli.calls import HOLE, Call
from jobrunner.errors import UsageError
from jobrunner.lines import Lines, read
from jobrunner.models import Json, Request

_FILLED = ("label", "key", "concurrency_key")


def from_jsonl(file: str, defaults: Mapping[str, Json], here: str) -> Iterator[Request]:
    """A request for each line; `defaults` are the fields that hold where a line says nothing else."""
    known = Lines(defaults, here)
    number = 0
    with _opened(file) as lines:
        try:
            for number, line in enumerate(lines, 1):  # noqa: B007 - for the error
                if line.strip():
                    yield known.request(read(line))
        except UsageError as error:
            raise _in_line(number, error) from error


def from_items(call: Call, said: Mapping[str, Json], end: bytes) -> Iterator[Request]:
    """A request for each line of the standard input (each item up to `end`), `{}` being the item."""
    differ = any(HOLE in str(said.get(name)) for name in _FILLED)
    same = None if differ else fields.options(said)
    number = 0
    try:
        for number, item in enumerate(_items(sys.stdin.buffer, end), 1):  # noqa: B007 - for the error
            if item:
                word = os.fsdecode(item)
                yield call.fill(word).request(same or fields.options(_filled(said, word)))
    except UsageError as error:
        raise _in_line(number, error) from error


def _filled(said: Mapping[str, Json], item: str) -> dict[str, Json]:
    """The fields with the item in the places of people's texts; braces of the item name no argument in a key."""
    in_key = item.replace("{", "{{").replace("}", "}}")
    known = {"label": item, "key": in_key, "concurrency_key": in_key}
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


def _in_line(number: int, error: UsageError) -> UsageError:
    return UsageError(f"line {number}: {error}; nothing was queued")
