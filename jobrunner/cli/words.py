"""Words of the command line, read: whole numbers, and numbers of jobs."""

from collections.abc import Sequence

from jobrunner.errors import InvocationNotFound, UsageError

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


def _job_id(word: str, command: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise UsageError(f"{word!r} is not the number of a job: type it as in `jobrunner {command} 7`")
    number = int(word[:30])
    if number > _LARGEST_ID:
        raise InvocationNotFound(number)
    return number
