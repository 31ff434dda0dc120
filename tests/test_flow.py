"""Chains, groups and chords: enqueued whole, done in order, and called off as far as a failure reaches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobrunner import (
    App,
    InvocationCancelled,
    InvocationFailed,
    NotSerializable,
    Status,
    UsageError,
    chain,
    chord,
    group,
)
from jobrunner.errors import WaitTimeout
from tests.conftest import StartRunner
from tests.flow_tasks import fail, hand_on_group, one_more, tell, times, total, touch_with
from tests.helpers.files import rows
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.trace import marks

Drain = Callable[..., Any]


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_chain_hands_each_result_to_the_next(runner: StartRunner, folder: Path, mode: str) -> None:
    jobs = chain(
        one_more.step(1), times.step(factor=10), touch_with.step(), tell.just("alone"), one_more.just(7)
    ).enqueue()
    beside = tell.options(after=jobs).enqueue(jobs.output)
    runner(**slots(mode, 3), drain=True).wait()
    assert jobs.result() == 8
    assert [job.result() for job in jobs.jobs] == [2, 20, 20, ["alone", None], 8]
    assert beside.result() == [8, None]
    assert [mark.id for mark in marks(folder)] == [jobs.ids[2]]


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_chain_of_200(runner: StartRunner, mode: str) -> None:
    jobs = chain(one_more.step(0), *[one_more.step() for _ in range(199)]).enqueue()
    runner(**slots(mode, 2), drain=True).wait()
    assert (jobs.result(), len(jobs.ids)) == (200, 200)


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_group_of_1000_and_what_comes_of_it(runner: StartRunner, path: Path, mode: str) -> None:
    jobs = chord([times.step(n) for n in range(1000)], total.step()).enqueue()
    runner(**slots(mode, 4), drain=True).wait()
    assert jobs.result() == 999_000
    last = jobs.ids[-1]
    late = rows(
        path,
        "SELECT count(*) FROM jobs WHERE id < ?1 AND finished_at > (SELECT started_at FROM jobs WHERE id = ?1)",
        last,
    )
    assert late == [(0,)]


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_failure_in_the_middle_reaches_all_behind_it_and_nothing_beside_it(
    app: App, runner: StartRunner, mode: str
) -> None:
    jobs = chain(
        one_more.step(1),
        group([times.step(), chain(fail.step(), one_more.step()), times.step(factor=3)]),
        total.step(),
        tell.just("never"),
    ).enqueue()
    comfort = one_more.options(after_failure=jobs.jobs[2]).enqueue(1)
    runner(**slots(mode, 2), drain=True).wait()
    assert [job.status.value for job in jobs.wait(timeout=1)] == [
        "success",
        "success",
        "failed",
        "cancelled",
        "success",
        "cancelled",
        "cancelled",
    ]
    why = f"after job {jobs.ids[2]}, which failed"
    assert {job.details.reason for job in jobs.jobs if job.status is Status.CANCELLED} == {why}
    with pytest.raises(InvocationCancelled, match=why):
        jobs.result()
    assert comfort.result() == 2


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_job_enqueues_them_too(runner: StartRunner, mode: str) -> None:
    job = hand_on_group.enqueue(20)
    runner(**slots(mode, 2), drain=True).wait()
    assert job.result() == list(range(1, 21))


def test_a_chain_in_a_group_in_a_chain_in_a_group(app: App) -> None:
    inner = chain(
        one_more.step(), group([times.step(), one_more.step(), chain(times.step(), group([one_more.step()]))])
    )
    jobs = group([chain(one_more.step(0), inner), one_more.step(9), group([])]).enqueue()
    assert app.drain() == 8 - 1
    assert jobs.results() == [[4, 3, [5]], 10, []]


def test_a_group_gives_its_results_in_order_and_waits_no_longer_than_it_is_told(app: App) -> None:
    jobs = group(one_more.step(n) for n in range(3)).enqueue()
    with pytest.raises(WaitTimeout):
        jobs.results(timeout=0)
    with pytest.raises(WaitTimeout):
        jobs.wait(timeout=0)
    behind = total.enqueue(jobs.output)
    app.drain()
    assert (jobs.results(), behind.result(), len(jobs.wait())) == ([1, 2, 3], 6, 3)


def test_a_chord_of_nothing_begins_at_once(app: App) -> None:
    jobs = chord([], total.step()).enqueue()
    assert jobs.jobs[0].status is Status.PENDING
    app.drain()
    assert jobs.result() == 0


def test_groups_behind_one_another_get_all_that_those_before_give(app: App) -> None:
    jobs = chain(group([one_more.step(1), one_more.step(2)]), group([total.step(), tell.step()])).enqueue()
    app.drain()
    assert jobs.result() == [5, [[2, 3], None]]


def test_the_first_failure_of_a_group_is_raised(app: App) -> None:
    jobs = group([one_more.step(1), fail.step("a"), fail.step("b")]).enqueue()
    app.drain()
    with pytest.raises(InvocationFailed, match="no a"):
        jobs.results()


def test_all_of_it_is_enqueued_or_nothing(app: App) -> None:
    for steps, why in (
        ((one_more.step(1), one_more.step(2, 3)), TypeError),
        ((one_more.step(1), tell.step(also={1, 2})), NotSerializable),
        ((one_more.step(1), tell.options(after=[99]).step()), LookupError),
        ((one_more.step(1), "x"), UsageError),
        ((), UsageError),
    ):
        with pytest.raises(why):
            chain(*steps).enqueue()
    with pytest.raises(UsageError, match="nothing"):
        group([]).enqueue()
    other = App().task(one_more.function)
    with pytest.raises(UsageError, match="one app"):
        chain(one_more.step(1), other.step()).enqueue()
    assert set(app.counts().values()) == {0}


def test_steps_have_options_keys_and_batches_as_other_jobs(app: App) -> None:
    held = one_more.options(unique="k").enqueue(4)
    with app.batch("b") as batch:
        jobs = chain(one_more.options(unique="k").step(5), times.options(queue="q", priority=3).step()).enqueue()
    assert jobs.ids == [held.id, held.id + 1], "the key is held: its holder's result is what the next one gets"
    assert (jobs.jobs[1].details.queue, jobs.jobs[1].details.priority) == ("q", 3)
    assert batch.facts.total == 1
    app.drain()
    assert jobs.result() == 10


def test_members_of_one_key_are_waited_for_once(app: App) -> None:
    jobs = chord([one_more.options(unique="k").step(1), one_more.options(unique="k").step(2)], total.step()).enqueue()
    app.drain()
    assert jobs.result() == 4


def test_inline_runs_them_at_once(app: App) -> None:
    with app.inline():
        assert chain(one_more.step(1), group([times.step(), one_more.step()]), total.step()).enqueue().result() == 7


def test_all_of_it_can_be_called_off(app: App) -> None:
    jobs = chain(one_more.step(1), group([times.step(), one_more.step()]), total.step()).enqueue()
    assert sorted(jobs.cancel()) == jobs.ids
    assert {job.status for job in jobs.wait()} == {Status.CANCELLED}
