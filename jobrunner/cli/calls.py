"""What is to be done, as it was typed: a function with arguments, a program, or a line for the shell."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jobrunner import outputs, payload
from jobrunner.errors import NotSerializable, UsageError
from jobrunner.models import Json, Kind, Request
from jobrunner.options import Options

HOLE = "{}"
"""What `--each` fills with an item."""


class Call(NamedTuple):
    """A task and its arguments; for a function `args` are the words NAME=VALUE, and `items` follow by position."""

    kind: Kind
    task: str
    args: tuple[str, ...] = ()
    items: tuple[str, ...] = ()

    def fill(self, item: str) -> "Call":
        """This call for one of many items: in place of each `{}`, or behind the last argument where there is none."""
        if self.kind == "shell":
            word = shlex.quote(item)  # an item is one word for the shell, whatever is in it
            return self._replace(task=self.task.replace(HOLE, word) if HOLE in self.task else f"{self.task} {word}")
        if any(HOLE in word for word in self.args):
            return self._replace(args=tuple(word.replace(HOLE, item) for word in self.args))
        if self.kind == "function":
            return self._replace(items=(item,))
        return self._replace(args=(*self.args, item))

    def request(self, options: Options) -> Request:
        """What is to be enqueued."""
        args = self.arguments()
        text, jobs = outputs.keep(args)
        return outputs.given(options.request(self.task, text, args, self.kind), jobs)

    def arguments(self) -> Json:
        """The arguments as a job gets them: for a function an object, else a list."""
        if self.kind != "function":
            return list(self.args)
        named = _named_arguments(self.task, self.args)
        return _by_position(self.items, named) if self.items else named


def _by_position(items: tuple[str, ...], named: dict[str, Json]) -> Json:
    return {payload.POSITIONAL: list(items), **named}


def program(words: Sequence[str]) -> Call:
    """What stands after `--`."""
    if not words or not words[0]:
        raise UsageError("there is no program after `--`: write it as in `jobrunner enqueue -- gzip -k big.csv`")
    return Call("command", words[0], tuple(words[1:]))


def function(words: Sequence[str]) -> Call:
    """MODULE:FUNCTION and its arguments; UsageError says what to type where the first word is something else."""
    task, *args = words
    module, colon, name = task.partition(":")
    if colon and _is_path(module) and _is_path(name):
        return Call("function", task, tuple(args))
    raise UsageError(_not_a_function(task, words))


def _is_path(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _not_a_function(task: str, words: Sequence[str]) -> str:
    module, colon, name = task.partition(":")
    if colon and ("/" in module or module.endswith(".py")) and _is_path(name):
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        return f"write the module as Python imports it: `jobrunner enqueue {dotted}:{name}`"
    if not colon and "." in task and _is_path(task) and not _is_program(task):
        return f"a colon parts module and function: `jobrunner enqueue {':'.join(task.rsplit('.', 1))}`"
    if not colon or _is_program(task):
        return f"{task!r} is not MODULE:FUNCTION; a command follows `--`: `jobrunner enqueue -- {shlex.join(words)}`"
    return f"{task!r} is not MODULE:FUNCTION, as in `jobrunner enqueue shop.tasks:send`"


def _is_program(word: str) -> bool:
    import shutil

    return Path(word).is_file() or shutil.which(word) is not None


def _named_arguments(task: str, words: Sequence[str]) -> dict[str, Json]:
    named: dict[str, Json] = {}
    for word in words:
        name, value = _argument(task, word)
        if name in named:
            raise UsageError(f"{name!r} is given twice")
        named[name] = value
    return named


def _argument(task: str, word: str) -> tuple[str, Json]:
    name, equals, value = word.partition("=")
    if not equals or not name.rstrip(":"):
        raise UsageError(
            f"{word!r} is not an argument: write `jobrunner enqueue {task} name={word}`, or name:={word} for JSON"
        )
    if name.endswith(":"):
        return name[:-1], _json(name[:-1], value)
    return name, _text_of(name, value[1:]) if value.startswith("@") else value


def _json(name: str, value: str) -> Json:
    try:
        return outputs.read(value, f"contents of {name}")
    except NotSerializable as error:
        shown = value if len(value) <= 100 else f"{value[:100]}..."
        raise UsageError(f"{error}; for text write {name}={shown}") from error


def _text_of(name: str, file: str) -> str:
    try:
        with open(file, "rb") as opened:
            limit = payload.max_bytes()
            data = opened.read(limit + 1)  # and not all: it may be a device without end
        if len(data) > limit:
            raise UsageError(f"{name}=@{file} is larger than the limit, {limit:,} bytes: pass the file's name")
        return data.decode()
    except OSError as error:
        raise UsageError(
            f"{name}=@{file}: {error.strerror}; for this text itself write {name}:='\"@{file}\"'"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}=@{file}: the file is not UTF-8 text") from error
