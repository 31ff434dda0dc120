"""Jobs of the tests about trouble with the file: they end when the test lets them, and write down that they did."""

import sys

from jobrunner import current
from tests.helpers.waiting import until
from tests.tasks import app, folder, mark, note


def _until_let(name: str) -> None:
    until((folder() / name).exists)


def say_when_let(name: str, kilobytes: int) -> int:
    mark("S")
    _until_let(name)
    sys.stdout.write("x" * 1024 * kilobytes)
    mark("E")
    return 1024 * kilobytes


def enqueue_and_count(name: str, children: int) -> list[int]:
    mark("S")
    _until_let(name)
    count = current().cache.add("calls")
    note("counted")
    jobs = [app.enqueue("tests.tasks:touch") for _ in range(children)]
    return [len(jobs), count]


def wait_when_let(name: str, job: int) -> int:
    mark("S")
    _until_let(name)
    result: int = app.invocation(job).result()
    return result
