"""A job as a JSON object: a line of `enqueue --jsonl`, or a row of an outbox."""

from collections.abc import Mapping

from jobrunner import fields, outputs, payload
from jobrunner.errors import UsageError
from jobrunner.models import Json, Kind, Request
from jobrunner.options import Pattern
from jobrunner.outputs import Output

_FORMS = '"task" and "args", "command", or "sh"'


class Lines:
    """The tasks and options that were met already: lines differ in their arguments, seldom in these."""

    def __init__(self, defaults: Mapping[str, Json], here: str | None = None) -> None:
        self._defaults = defaults
        self._here = here
        self._met: dict[tuple[str, Kind, str], Pattern] = {}

    def request(self, line: dict[str, Json], now: int | None = None) -> Request:
        """What the object asks for; its durations count from `now`, in milliseconds since 1970."""
        task, args, kind = _call(line)
        said = {name.replace("-", "_"): value for name, value in line.items() if value is not None}
        where = {} if kind == "function" or self._here is None else {"cwd": self._here}
        text, jobs = outputs.keep(args)
        request = self._pattern(task, kind, {**where, **self._defaults, **said}).request(text, lambda: args, now)
        return outputs.given(request, jobs) if jobs else request

    def _pattern(self, task: str, kind: Kind, said: dict[str, Json]) -> Pattern:
        key = task, kind, repr(said)
        if key not in self._met:
            fields.check(said)
            if len(self._met) > 1000:
                self._met.clear()
            self._met[key] = Pattern(fields.options(said), task, kind)
        return self._met[key]


def _call(line: dict[str, Json]) -> tuple[str, Json, Kind]:
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


def read(line: bytes) -> dict[str, Json]:
    """The object that a line is; UsageError where it is none."""
    try:
        return checked(payload.load(line.decode().strip(), "fields"))
    except UnicodeDecodeError as error:
        raise UsageError("this is not UTF-8 text") from error


def checked(found: Json) -> dict[str, Json]:
    """The same, where it was read already."""
    if not isinstance(found, dict):
        raise UsageError('each line is an object, as in {"task": "shop.tasks:send", "args": {"user": 7}}')
    return found
