"""Results of jobs as arguments of others: `job.output` stands for what a job will return, until the other one starts.

Arguments that have such are kept with `{"$output": 7}` in the place of the result of job 7, and their row says so:
in all others an object of this form is data. Beside them, a key of a user's that looks so gets one more `$`.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from jobrunner import payload
from jobrunner.errors import NotSerializable, UsageError
from jobrunner.facts import Facts
from jobrunner.models import After, Json, Request

_MARK = "$output"
# In the text that `payload.dump` writes. A brace or a quote before the `$` that was not escaped cannot be inside of a
# string, so nothing needs to be parsed, and what is put in is not looked at again.
_MARKS = r'\{"\$output": ?(-?\d+)\}|(?<!\\)"\$(\$+output"):'
_WRITTEN = r'"(?:[^"\\]|\\.)*"|@(\d{1,18})\.output\b'
_KEY = r"\$+output"


class Output(Facts):
    """What a job will return: an argument for `enqueue`, alone or in lists and dicts; who gets it waits for that job.

    A number below zero is a place, `~place`, among the requests of the same enqueue: an earlier one.
    """

    id: int


def keep(args: Json) -> tuple[str, tuple[int, ...]]:
    """Arguments as JSON text, and the jobs whose results are among them; NotSerializable where they cannot be kept."""
    try:
        return payload.dump(args, "arguments"), ()  # as most are
    except NotSerializable as error:
        jobs: dict[int, None] = {}
        try:
            marked = _marked(args, jobs)
        except RecursionError:
            raise error from None
        if not jobs:
            raise
    return payload.dump(marked, "arguments"), tuple(jobs)


def _marked(value: Json, jobs: dict[int, None]) -> Json:
    match value:
        case Output(one):
            jobs[one] = None
            return {_MARK: one}
        case dict():
            return {_escaped(name): _marked(one, jobs) for name, one in value.items()}
        case list() | tuple():
            return [_marked(one, jobs) for one in value]
    return value


def _escaped(name: object) -> object:
    return f"${name}" if isinstance(name, str) and re.fullmatch(_KEY, name) else name


def given(request: Request, jobs: Sequence[int]) -> Request:
    """The request whose arguments have the results of these among them: it begins when they have succeeded."""
    return behind(request, jobs)._replace(outputs=True) if jobs else request


def behind(request: Request, jobs: Sequence[int]) -> Request:
    """The request, to begin when these, too, have succeeded."""
    if jobs and request.if_exists == "debounce":
        raise UsageError("debounce says when it begins: it cannot wait for the results of other jobs")
    after = [After(*edge) for edge in json.loads(request.after or "[]")]
    return request._replace(after=_after([*after, *map(After, jobs)]))


def _after(edges: list[After]) -> str | None:
    edges = list(dict.fromkeys(edges))
    if len({edge.id for edge in edges}) < len(edges):
        raise UsageError("a job waits for another in one way: for its output, and after its success, or in one other")
    return json.dumps(edges) if edges else None


def placed(request: Request, ids: Sequence[int]) -> Request:
    """With the numbers of what was enqueued before it by the same call, where it stands behind some of that."""
    if request.after is None or "-" not in request.after:
        return request
    after = _after([After(_number(one, ids), kind) for one, kind in json.loads(request.after)])
    if not request.outputs:
        return request._replace(after=after)

    def number(match: re.Match[str]) -> str:
        return match[0] if match[1] is None else f'{{"{_MARK}":{_number(int(match[1]), ids)}}}'

    return request._replace(after=after, args=re.sub(_MARKS, number, request.args))


def _number(one: int, ids: Sequence[int]) -> int:
    if one >= 0:
        return one
    if ~one >= len(ids):
        raise UsageError("a job stands behind others of the same enqueue that come before it")
    return ids[~one]


def wanted(text: str) -> Counter[int]:
    """The jobs whose results are among the arguments, and how often each is."""
    return Counter(int(match[1]) for match in re.finditer(_MARKS, text) if match[1] is not None)


def filled(text: str, results: Mapping[int, str]) -> str:
    """The arguments with the results, JSON texts, in their places."""

    def put(match: re.Match[str]) -> str:
        return f'"{match[2]}:' if match[1] is None else results[int(match[1])]

    return re.sub(_MARKS, put, text)


def shown(text: str) -> str:
    """The arguments for people: `@7.output` is the result of job 7."""

    def show(match: re.Match[str]) -> str:
        return f'"{match[2]}:' if match[1] is None else f"@{match[1]}.output"

    return re.sub(_MARKS, show, text)


def read(text: str, what: str) -> Json:
    """JSON text from a user, in which `@7.output` stands for the result of job 7."""
    hole = os.urandom(8).hex()  # which nobody's key can be

    def take(match: re.Match[str]) -> str:
        return match[0] if match[1] is None else f'{{"{hole}":{int(match[1])}}}'

    with_holes = re.sub(_WRITTEN, take, text)
    value = payload.load(with_holes, what)
    return value if with_holes == text else _read(value, hole)


def _read(value: Json, hole: str) -> Json:
    match value:
        case dict():
            return Output(value[hole]) if hole in value else {name: _read(one, hole) for name, one in value.items()}
        case list():
            return [_read(one, hole) for one in value]
    return value
