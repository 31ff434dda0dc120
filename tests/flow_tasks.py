"""Tasks that hand their results on."""

from typing import Any

from jobrunner import chain, chord, group
from tests.tasks import app, mark


@app.task
def one_more(n: int) -> int:
    return n + 1


@app.task
def times(n: int, factor: int = 2) -> int:
    return n * factor


@app.task
def total(parts: list[int]) -> int:
    return sum(parts)


@app.task
def tell(value: Any, also: Any = None) -> list[Any]:
    return [value, also]


@app.task
def fail(value: Any = None) -> None:
    raise ValueError(f"no {value}")


@app.task
def much(kilobytes: int) -> str:
    return "x" * (kilobytes * 1000)


@app.task
def touch_with(value: Any) -> Any:
    mark("S")
    return value


@app.task
def nothing_at_all() -> None:
    return None


@app.task
def hand_on(n: int) -> list[Any]:
    """A job that enqueues others, each of which gets results of those before it."""
    first = one_more.enqueue(n)
    second = tell.enqueue([first.output, {"n": first.output}], also=n)
    by_name = app.enqueue("tests.flow_tasks:tell", [second.output])
    flow = chord([times.step(one) for one in range(3)], total.step()).enqueue()
    return [by_name.result(), chain(one_more.step(n), times.step()).enqueue().result(), flow.result()]


@app.task
def hand_on_group(n: int) -> list[int]:
    return group(one_more.step(one) for one in range(n)).enqueue().results()
