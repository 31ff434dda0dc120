"""Whether what jobrunner did is what a plain loop does: sentences about each difference."""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from demo.stdlib_survey import Survey, survey
from demo.work import Work
from jobrunner import Invocation, InvocationFailed

Told = Survey | str
"""What came of one file: what it holds, or why it could not be read, as `Type: message`."""


class Totals(NamedTuple):
    """The sums over all files."""

    files: int
    lines: int
    functions: int
    classes: int
    unparsable: int


def plain_loop(paths: Iterable[str]) -> dict[str, Told]:
    """The same work done here, one file after the other, without jobrunner."""
    return {path: _survey_or_why_not(path) for path in paths}


def _survey_or_why_not(path: str) -> Told:
    try:
        return survey(path)
    except Exception as error:  # noqa: BLE001  # whatever a file provokes, its job must have told the same
        return f"{type(error).__qualname__}: {error}"


def told_by_jobs(work: Work) -> dict[str, Told]:
    """What the jobs of the files have told."""
    return {path: _result_or_error(job) for path, job in work.surveys.items()}


def _result_or_error(job: Invocation[Survey]) -> Told:
    try:
        return job.result(timeout=0)
    except InvocationFailed as failed:
        return f"{failed.kind}: {failed.message}"


def totals(told: dict[str, Told]) -> Totals:
    """The sums."""
    surveys = [one for one in told.values() if not isinstance(one, str)]
    return Totals(
        files=len(told),
        lines=sum(one["lines"] for one in surveys),
        functions=sum(one["functions"] for one in surveys),
        classes=sum(one["classes"] for one in surveys),
        unparsable=len(told) - len(surveys),
    )


def differences(expected: dict[str, Told], told: dict[str, Told]) -> Iterator[str]:
    """Where the jobs told something else than the plain loop."""
    if totals(expected) != totals(told):
        yield f"the plain loop counts {totals(expected)}, the jobs count {totals(told)}"
    for path, wanted in expected.items():
        if wanted != told.get(path):
            yield f"{path}: the plain loop says {wanted}, its job {told.get(path, 'nothing')}"


def other_faults(work: Work, broken: Told) -> Iterator[str]:
    """What is wrong with the compressed files, the job that fails twice and the broken file."""
    for copy in work.compressions:
        if (fault := _compression_fault(copy)) is not None:
            yield fault
    flaky = work.flaky.details
    if (flaky.status, flaky.attempts) != ("success", 3):
        yield f"job {flaky.id} was to succeed in attempt 3: it is {flaky.status} after {flaky.attempts} attempts"
    if not isinstance(broken, str) or not broken.startswith("SyntaxError: "):
        yield f"the broken file was to fail with a SyntaxError, and came to {broken}"
    yield from _unsuccessful([*work.compressions.values(), work.flaky])


def _compression_fault(copy: Path) -> str | None:
    compressed = copy.with_name(f"{copy.name}.gz")
    if not compressed.exists():
        return f"{compressed} was to be made, and is missing"
    if gzip.decompress(compressed.read_bytes()) != copy.read_bytes():
        return f"{compressed} does not hold what {copy} does"
    return None


def _unsuccessful(jobs: list[Invocation[Any]]) -> Iterator[str]:
    for job in jobs:
        if job.status != "success":
            yield f"{job} was to succeed, and is {job.status}"
