"""The dictionary that all jobs of a runner share."""

import pytest

from jobrunner import App
from tests.conftest import StartRunner
from tests.helpers.runners import RUNNERS, slots


@pytest.fixture(params=RUNNERS)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_verb_does_what_it_says(app: App, runner: StartRunner, mode: str) -> None:
    job = app.enqueue("tests.together:use_cache")
    runner(**slots(mode, 1))
    kept = [1, "é", None, {"a": True}]
    assert job.result(timeout=60) == [kept, None, 3, "mine", "mine", 2, 2.5, True, False]


def test_no_two_jobs_get_the_same_sum(app: App, runner: StartRunner, mode: str) -> None:
    jobs = [app.enqueue("tests.together:count_in_cache", {"times": 50}) for _ in range(8)]
    runner(**slots(mode, 4))
    app.wait(jobs, timeout=60)
    assert len({job.result() for job in jobs}) == 8
    assert max(job.result() for job in jobs) == 400


def test_a_cache_ends_with_its_runner(app: App, runner: StartRunner, mode: str) -> None:
    first = app.enqueue("tests.together:count_in_cache", {"times": 5})
    assert runner(**slots(mode, 1, drain=True)).wait() == 0
    again = app.enqueue("tests.together:count_in_cache", {"times": 5})
    assert runner(**slots(mode, 1, drain=True)).wait() == 0
    assert (first.result(), again.result()) == (5, 5)


ERRORS = {
    "missing": "KeyError: 'missing'",
    "object": "TypeError: Object of type set is not JSON serializable",
    "text": "UsageError: 'text' in the cache is no number: 'x'",
    "amount": "UsageError",
    "name": "UsageError",
    "large": "NotSerializable",
    "many": "JobRunnerError: the cache has 10,000 entries, and takes no more",
}
"""What comes of each misuse; the last one leaves no room in the cache."""


def test_misuse_is_an_error_in_the_job_alone(app: App, runner: StartRunner, mode: str) -> None:
    running = runner(**slots(mode, 1))
    for what, error in ERRORS.items():
        job = app.enqueue("tests.together:misuse_cache", {"what": what})
        assert str(job.result(timeout=60)).startswith(error), what
        assert app.enqueue("tests.tasks:square", {"n": 2}).result(timeout=60) == 4, what
    assert running.is_running
