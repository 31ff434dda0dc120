"""What a worker may say to its runner, checked: its memory is the job's, and the job may have written anything."""

import math
from typing import NamedTuple

from jobrunner import payload
from jobrunner.channel import Message
from jobrunner.errors import JobRunnerError
from jobrunner.models import Failure, InvocationId, Json, Outcome
from jobrunner.policy import Policy
from jobrunner.runner.sources import Signature

_NOTHING = Outcome("null")
_LARGEST = 1 << 62
MAX_PROGRESS = 1000
"""Characters of a progress message that are kept."""


class BadMessage(JobRunnerError):
    """What came over the channel is no message of a worker."""


class Delivered(NamedTuple):
    """What came of the attempt; CPU milliseconds of a thread.

    Of a process, these and its peak resident set in KiB, where nothing of the job goes on when it has said so: it has
    no other thread, and never had a child.
    """

    outcome: Outcome
    cpu_ms: int | None = None
    peak_kb: int | None = None


class Began(NamedTuple):
    """The task's module is imported and the function begins: its timeout runs from here."""


class Wrote(NamedTuple):
    """Output of a job in a thread."""

    stream: str
    data: bytes


class Asks(NamedTuple):
    """The job asks the runner for something and waits for the answer."""

    verb: str
    facts: list[Json]


class Waits(NamedTuple):
    """The job waits until these are final, or for `timeout` seconds; `for_result`: of the one it wants the result."""

    ids: list[InvocationId]
    timeout: float | None
    for_result: bool = False


class Progressed(NamedTuple):
    """The job says how far it is."""

    fraction: float | None
    message: str | None


class Unknown(NamedTuple):
    """The worker has not begun it, since its code has no such task."""

    why: str


class Imported(NamedTuple):
    """The worker has imported the task's module; whether without harm, so that the template may do so, too."""

    module: str
    is_clean: bool


class Read(NamedTuple):
    """Source files that were read by imports, for a runner that watches them: each with its signature."""

    files: dict[str, Signature]


class Done(NamedTuple):
    """Several jobs of a worker with threads have succeeded, and took so many microseconds of its clock in all.

    Of each: its number, its claim, its outcome and its CPU milliseconds.
    """

    took_us: int
    jobs: list[tuple[int, int, Outcome, int]]


Said = Delivered | Began | Wrote | Asks | Waits | Progressed | Policy | Unknown | Imported | Read
"""A Policy is what the task declares."""


def parse(message: Message) -> Said:
    """The message as facts of the right types; BadMessage where it has none."""
    try:
        return _parse(message)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise BadMessage(f"a message that cannot be read: {error!r}") from error


def _parse(message: Message) -> Said:
    match message:
        case ["outcome", result, failure, *measured]:
            return Delivered(_outcome(result, failure), *_measures(measured))
        case ["began"]:
            return Began()
        case ["unknown", str(why)]:
            return Unknown(_clean(why)[:MAX_PROGRESS])
        case ["output", "stdout" | "stderr" as stream, str(text)]:
            return Wrote(stream, _bytes(text))
        case ["ask", str(verb), list(facts)]:
            return _asks(verb, facts)
        case ["progress", int() | float() | None as fraction, str() | None as text] if _is_fraction(fraction):
            return Progressed(fraction, text and _clean(text)[:MAX_PROGRESS])
        case ["declared", str(policy)]:
            return Policy.from_json(policy)
        case ["imported", str(), bool()] | ["read", dict()]:
            return Read(message[1]) if message[0] == "read" else Imported(*message[1:])
    raise BadMessage(f"there is no message {message[0]!r} of this form")


def _asks(verb: str, facts: list[Json]) -> Asks | Waits:
    match verb, facts:
        case "wait", [list(ids), int() | float() | None as timeout]:
            return Waits([InvocationId(int(one)) for one in ids], _patience(timeout))
        case "result", [int(one), int() | float() | None as timeout]:
            return Waits([InvocationId(one)], _patience(timeout), for_result=True)
    return Asks(verb, facts)


def parse_done(message: Message) -> Done:
    """`["done", microseconds, [invocation, claim, result, CPU milliseconds], ...]`; BadMessage where it is none."""
    try:
        _, took_us, *rows = message
        ids, claims, results, cpu_ms = zip(*rows, strict=True)
        _check_measures(took_us, *ids, *claims, *cpu_ms)
        outcomes = [_NOTHING if result == "null" else _result(result) for result in results]
        return Done(took_us, list(zip(ids, claims, outcomes, cpu_ms, strict=True)))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadMessage(f"a message that cannot be read: {error!r}") from error


def parse_returned(message: Message) -> list[tuple[int, int]]:
    """`["returned", [invocation, claim], ...]`: those that no thread of it has begun; BadMessage where it is none."""
    match message:
        case ["returned", *rows] if all(isinstance(row, list) and [*map(type, row)] == [int, int] for row in rows):
            return [(invocation_id, claim) for invocation_id, claim in rows]
    raise BadMessage("something is given back that is no job")


def _check_measures(*numbers: Json) -> None:
    # All at once: to look at each on its own takes longer than to read it.
    if {*map(type, numbers)} != {int} or min(numbers) < 0 or max(numbers) >= _LARGEST:
        raise BadMessage("successes without their facts")


def _result(result: Json) -> Outcome:
    if type(result) is not str:
        raise BadMessage("a result that is not text")
    if result == "null":
        return _NOTHING
    payload.load(result, "result")
    return Outcome(result)


def _outcome(result: Json, failure: Json) -> Outcome:
    match result, failure:
        case str(), None:
            return _result(result)
        case None, [str(kind), str(text), str() | None as trace, list(types)]:
            return Outcome(failure=Failure(_clean(kind), _clean(text), trace and _clean(trace), tuple(map(str, types))))
    raise BadMessage("an outcome that is neither a result nor a failure")


def _measures(measured: list[Json]) -> list[int]:
    match measured:
        case [] | [int()] | [int(), int()]:
            return [min(max(0, one), _LARGEST) for one in measured]
    raise BadMessage("an outcome with measures that are none")


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _bytes(text: str) -> bytes:
    # A stream of bytes that are not UTF-8 comes as text with lone surrogates of this kind; of others there are none.
    return text.encode("utf-8", "surrogateescape")


def _is_fraction(number: float | None) -> bool:
    return number is None or 0 <= number <= 1


def _patience(seconds: float | None) -> float | None:
    return None if seconds is None or math.isnan(seconds) else seconds
