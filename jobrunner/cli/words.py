"""Words of the command line, read: whole numbers, and numbers of jobs."""

from collections.abc import Sequence

from jobrunner.errors import InvocationNotFound, RunnerNotFound, UsageError

_LARGEST_ID = 2**63 - 1


def whole(name: str, word: str | None) -> int | None:
    """A whole number; None where nothing was said."""
    if word is None:
        return None
    try:
        return int(word)
    except ValueError as error:
        raise UsageError(f"{name} wants a whole number, not {word!r}") from error


def job_ids(words: Sequence[str], command: str) -> list[int]:
    """Numbers of jobs; UsageError where there are none, InvocationNotFound where one is too large for any job."""
    if not words:
        raise UsageError(f"which job? Type its number, as in `jobrunner {command} 7`; `jobrunner list` shows them")
    return [_job_id(word, command) for word in words]


def runner_id(words: Sequence[str]) -> int:
    """The number of one runner; UsageError where it is none, or not one, RunnerNotFound where it is too large."""
    if len(words) != 1:
        raise UsageError("which runner? Type one number, as in `jobrunner runner stop 3`: `jobrunner runner list`")
    word = words[0]
    if not (word.isascii() and word.isdigit()):
        raise UsageError(f"{word!r} is not the number of a runner: type it as in `jobrunner runner stop 3`")
    number = int(word[:30])
    if number > _LARGEST_ID:
        raise RunnerNotFound(number)
    return number


def _job_id(word: str, command: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise UsageError(f"{word!r} is not the number of a job: type it as in `jobrunner {command} 7`")
    number = int(word[:30])
    if number > _LARGEST_ID:
        raise InvocationNotFound(number)
    return number
