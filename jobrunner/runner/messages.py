"""What a worker may say to its runner, checked: its memory is the job's, and the job may have written anything."""

import json
from typing import NamedTuple

from jobrunner.channel import Message
from jobrunner.errors import JobRunnerError
from jobrunner.models import Failure, InvocationId, Json, Outcome
from jobrunner.policy import Policy


class BadMessage(JobRunnerError):
    """What came over the channel is no message of a worker."""


class Asks(NamedTuple):
    """The job asks the runner for something and waits for the answer."""

    verb: str
    facts: list[Json]


class Waits(NamedTuple):
    """The job waits until these are final, or for `timeout` seconds."""

    ids: list[InvocationId]
    timeout: float | None


class Progressed(NamedTuple):
    """The job says how far it is."""

    fraction: float | None
    message: str | None


class Imported(NamedTuple):
    """The worker has imported the task's module without harm."""

    module: str


Said = Outcome | Asks | Waits | Progressed | Policy | Imported
"""A Policy is what the task declares."""


def parse(message: Message) -> Said:
    """The message as facts of the right types; BadMessage where it has none."""
    try:
        return _parse(message)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadMessage(f"a message that cannot be read: {error!r}") from error


def _parse(message: Message) -> Said:
    match message:
        case ["outcome", str(result), None]:
            json.loads(result)
            return Outcome(result)
        case ["outcome", None, [str(kind), str(text), str() | None as trace, list(types)]]:
            return Outcome(failure=Failure(_clean(kind), _clean(text), trace and _clean(trace), tuple(map(str, types))))
        case ["ask", "wait", [list(ids), int() | float() | None as timeout]]:
            return Waits([InvocationId(int(one)) for one in ids], timeout)
        case ["ask", str(verb), list(facts)]:
            return Asks(verb, facts)
        case ["progress", int() | float() | None as fraction, str() | None as text]:
            return Progressed(fraction, text and _clean(text))
        case ["declared", str(policy)]:
            return Policy.from_json(policy)
        case ["imported", str(module)]:
            return Imported(module)
    raise BadMessage(f"there is no message {message[0]!r} of this form")


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
