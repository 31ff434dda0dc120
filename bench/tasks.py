"""The tasks that are measured: they do nothing, or tell when they began."""

import time

from jobrunner import App

app = App()  # the database that JOBRUNNER_DB names
relaxed_app = App(relaxed=True)


@app.task
def noop() -> None:
    """Nothing."""


@relaxed_app.task
def relaxed_noop() -> None:
    """Nothing, enqueued without waiting for the disk."""


@app.task
def now() -> float:
    """When this line was reached, on the clock that all processes of a machine share."""
    return time.monotonic()


@app.task
def wake_ms() -> float:
    """Milliseconds from the last line of the awaited to the next line of its waiter."""
    ended = now.enqueue().result(timeout=60)
    return (time.monotonic() - ended) * 1000


@app.task
def burn() -> int:
    """Some tens of milliseconds of a processor."""
    return sum(number * number % 7 for number in range(600_000))
