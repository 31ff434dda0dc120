"""Limits on how many are done at a time: by task, by arguments, by a shared key; across retries, kills and runners."""

import itertools
import os
import random
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from jobrunner import App, Invocation, Retry, Status, state_backend
from jobrunner.database import Database
from tests import together
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.trace import marks, starts, whole_lines
from tests.helpers.waiting import until

Job = Invocation[Any]


@pytest.fixture(params=RUNNERS)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Stay(NamedTuple):
    """A job kept a place of this key from one moment to another (monotonic seconds)."""

    key: str
    began: float
    ended: float


def stays(folder: Path) -> list[Stay]:
    """As the jobs wrote them down, by their beginning."""
    lines = (line.split() for line in whole_lines(folder / "places"))
    return sorted((Stay(key, float(began), float(ended)) for key, began, ended in lines), key=lambda one: one.began)


def check_apart(kept: list[Stay]) -> None:
    """No two of them at the same time."""
    for before, after in itertools.pairwise(kept):
        assert before.ended <= after.began, (before, after)


def until_has(job: Job, status: Status) -> None:
    until(lambda: job.status is status)


def changes(app: App, job: Job) -> list[str]:
    with Database(app.path) as database:
        return [one.to_status for one in state_backend.history(database, job.id)]


def go(folder: Path, name: str = "go") -> None:
    (folder / name).touch()


# What is counted -------------------------------------------------------------------------------------


def test_by_task_one_at_a_time(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    jobs = together.alone.enqueue_many({"n": n} for n in range(30))
    runner(**slots(mode, 4))
    assert [job.result(timeout=60) for job in jobs] == list(range(30))
    assert len(stays(folder)) == 30
    check_apart(stays(folder))


def test_so_many_at_a_time(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    jobs = [together.two.enqueue("go") for _ in range(3)]
    runner(**slots(mode, 4))
    until_has(jobs[2], Status.BLOCKED)
    until(lambda: len(marks(folder)) == 2)
    assert [job.status for job in jobs] == [Status.RUNNING, Status.RUNNING, Status.BLOCKED]
    assert jobs[2].details.reason == "concurrency"
    go(folder)
    app.wait(jobs, timeout=60)
    assert changes(app, jobs[2]) == ["pending", "blocked", "pending", "running", "success"]


def test_by_an_argument(app: App, runner: StartRunner, folder: Path) -> None:
    a, b, again = (together.by_account.enqueue(account, n, "go") for n, account in enumerate(["a", "b", "a"]))
    runner(jobs=4)
    until_has(again, Status.BLOCKED)
    until(lambda: len(marks(folder)) == 2)
    assert (a.status, b.status) == (Status.RUNNING, Status.RUNNING)
    go(folder)
    app.wait([a, b, again], timeout=60)
    check_apart([one for one in stays(folder) if one.key == "a"])


def test_by_all_arguments(app: App, runner: StartRunner, folder: Path) -> None:
    first, other, same = (together.by_everything.enqueue(*args, "go") for args in [("a", 1), ("a", 2), ("a", 1)])
    runner(jobs=4)
    until_has(same, Status.BLOCKED)
    until(lambda: len(marks(folder)) == 2)
    assert (first.status, other.status) == (Status.RUNNING, Status.RUNNING)
    go(folder)
    app.wait([first, other, same], timeout=60)


def test_by_a_key_that_tasks_share(app: App, runner: StartRunner, folder: Path) -> None:
    jobs = [task.enqueue() for _ in range(5) for task in (together.on_the_press, together.on_the_press_too)]
    runner(jobs=4)
    app.wait(jobs, timeout=60)
    assert len(stays(folder)) == 10
    check_apart(stays(folder))


def test_a_limit_said_at_the_call_holds_for_programs_too(app: App, runner: StartRunner, folder: Path) -> None:
    line = "while [ ! -e go ]; do sleep 0.02; done"
    jobs = [app.enqueue_shell(line, cwd=str(folder), concurrency=1, concurrency_key="tape") for _ in range(2)]
    runner(jobs=2)
    until_has(jobs[1], Status.BLOCKED)
    assert jobs[0].status is Status.RUNNING
    go(folder)
    app.wait(jobs, timeout=60)
    assert [job.status for job in jobs] == [Status.SUCCESS] * 2


def test_others_pass_those_that_are_blocked(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    blocked = [together.alone.enqueue(n, "go") for n in range(20)]
    other = app.enqueue("tests.tasks:square", {"n": 4}, priority=-1)
    runner(**slots(mode, 2))
    assert other.result(timeout=60) == 16
    assert [job.status for job in blocked] == [Status.RUNNING] + [Status.BLOCKED] * 19
    go(folder)
    app.wait(blocked, timeout=60)


def test_a_place_goes_to_the_best_by_priority_then_age(app: App, runner: StartRunner, folder: Path) -> None:
    first = together.alone.enqueue(0, "go")
    runner(jobs=2)
    until_has(first, Status.RUNNING)
    others = [together.alone.options(priority=priority).enqueue(n) for n, priority in enumerate([0, 2, 1, 2])]
    for job in others:
        until_has(job, Status.BLOCKED)
    go(folder)
    app.wait([first, *others], timeout=60)
    assert [mark.id for mark in marks(folder)] == [first.id, *(others[n].id for n in (1, 3, 2, 0))]


# Across runners, kills and retries -------------------------------------------------------------------


def test_with_two_runners_and_random_kills_two_are_never_at_it_together(
    app: App, runner: StartRunner, folder: Path
) -> None:
    dice = random.Random(7)
    jobs = together.alone.enqueue_many({"n": n} for n in range(60))
    runners = [runner(jobs=4) for _ in range(2)]
    for n in range(12):
        until(lambda n=n: len(marks(folder)) >= 4 * n or app.counts()[Status.SUCCESS] == 60)  # type: ignore[misc]
        if n % 4 == 3:
            victim = dice.randrange(2)
            runners[victim].kill()
            runners[victim] = runner(jobs=4)
        elif marks(folder):
            try:
                os.kill(marks(folder)[-1].pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it was faster
    app.wait(jobs, timeout=100)
    for job in jobs:
        if job.status is not Status.SUCCESS:
            assert job.details.crashes == 3
    check_apart(stays(folder))
    # Who was killed wrote no line; that nobody was beside it shows in the order of the marks.
    attempts = rows(app.path, "SELECT started_at, finished_at FROM jr_attempt ORDER BY started_at")
    for (_, ended), (began, _) in itertools.pairwise(attempts):
        assert ended <= began + 1, "milliseconds of the runners' records"
    assert len(starts(folder)) == 60


def test_a_retry_that_waits_for_its_time_keeps_no_place(app: App, runner: StartRunner, folder: Path) -> None:
    failing = together.fail_alone.options(retry=Retry(attempts=2, base="1h")).enqueue(2)
    other = together.fail_alone.enqueue(1)
    runner(jobs=2)
    assert other.result(timeout=60) == 1
    assert failing.status is Status.SCHEDULED
    assert failing.retry(), "it need not wait for its time"
    until(lambda: len(marks(folder)) == 3)
    check_apart(stays(folder))


def test_retries_keep_to_the_limit(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    jobs = [together.fail_alone.options(retry=Retry(attempts=3, base="10ms")).enqueue(3) for _ in range(6)]
    runner(**slots(mode, 4))
    assert [job.result(timeout=60) for job in jobs] == [3] * 6
    assert len(stays(folder)) == 18
    check_apart(stays(folder))


def test_the_death_of_who_keeps_the_place_frees_it(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    keeper = together.alone.options(on_crash="fail").enqueue(0, "never")
    blocked = together.alone.enqueue(1)
    runner(**slots(mode, 2))
    until_has(blocked, Status.BLOCKED)
    until(lambda: marks(folder))
    os.kill(marks(folder)[0].pid, signal.SIGKILL)
    assert blocked.result(timeout=60) == 1
    assert keeper.status is Status.FAILED


def test_the_death_of_the_runner_frees_its_places(app: App, runner: StartRunner, folder: Path) -> None:
    keeper = together.alone.options(on_crash="fail").enqueue(0, "never")
    blocked = together.alone.enqueue(1)
    first = runner(jobs=2)
    until_has(blocked, Status.BLOCKED)
    until(lambda: marks(folder))
    first.kill()
    first.wait()
    runner(jobs=1)
    assert blocked.result(timeout=60) == 1
    assert keeper.status is Status.FAILED


def test_a_paused_job_keeps_its_place(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    awaited = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    keeper = together.press_and_wait.enqueue([awaited.id])
    other = together.on_the_press.enqueue()
    runner(**slots(mode, 3))
    until_has(keeper, Status.PAUSED)
    until_has(other, Status.BLOCKED)
    go(folder)
    assert keeper.result(timeout=60) == "no error: ['go']"
    assert other.result(timeout=60) is None


# Writing nothing -------------------------------------------------------------------------------------


def test_200_blocked_jobs_cause_no_writes(app: App, runner: StartRunner, folder: Path, path: Path) -> None:
    jobs = [together.alone.enqueue(0, "go"), *together.alone.enqueue_many({"n": n} for n in range(1, 201))]
    running = [runner(jobs=4), runner(jobs=4)]
    until(lambda: app.counts()[Status.BLOCKED] == 200)
    until(lambda: len(marks(folder)) == 1)
    for one in running:
        one.until_ready()
    watcher = apsw.Connection(str(path))
    try:
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 1.0)  # what was on its way is written
        before = watcher.pragma("data_version")
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 2.5)
        assert watcher.pragma("data_version") == before
    finally:
        watcher.close()
    go(folder)
    assert [job.result(timeout=60) for job in jobs] == list(range(201))
    check_apart(stays(folder))


# Dropping --------------------------------------------------------------------------------------------


def test_what_is_over_the_limit_may_be_dropped(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    keeper = together.alone.enqueue(0, "go")
    runner(**slots(mode, 2))
    until(lambda: marks(folder))
    dropped = together.alone.options(over_limit="drop").enqueue(1)
    until_has(dropped, Status.CANCELLED)
    assert dropped.details.reason == "concurrency"
    go(folder)
    assert keeper.result(timeout=60) == 0
    assert together.alone.options(over_limit="drop").enqueue(2).result(timeout=60) == 2
    assert changes(app, dropped) == ["pending", "cancelled"]


# What else happens to the blocked --------------------------------------------------------------------


def test_blocked_ones_can_be_cancelled_and_expire(app: App, runner: StartRunner, folder: Path) -> None:
    keeper = together.alone.enqueue(0, "go")
    cancelled, expired, last = (together.alone.enqueue(n) for n in (1, 2, 3))
    runner(jobs=2)
    for job in (cancelled, expired, last):
        until_has(job, Status.BLOCKED)
    assert cancelled.cancel()
    rows(app.path, "UPDATE jr_invocation SET expires_at = 1 WHERE id = ?", expired.id)
    until_has(expired, Status.EXPIRED)
    go(folder)
    assert (keeper.result(timeout=60), last.result(timeout=60)) == (0, 3)
    assert (cancelled.status, len(marks(folder))) == (Status.CANCELLED, 2)


def test_a_running_keeper_that_is_cancelled_frees_its_place(app: App, runner: StartRunner, mode: str) -> None:
    keeper = together.alone.enqueue(0, "never")
    blocked = together.alone.enqueue(1)
    runner(**slots(mode, 2, kill_grace=0.2))
    until_has(blocked, Status.BLOCKED)
    keeper.cancel()
    assert blocked.result(timeout=60) == 1
    assert keeper.status is Status.CANCELLED


def test_a_held_job_is_not_let_go_by_a_place_that_is_free(app: App, runner: StartRunner, folder: Path) -> None:
    keeper = together.alone.enqueue(0, "go")
    held = together.alone.options(hold=True, priority=9).enqueue(1)
    blocked = together.alone.enqueue(2)
    running = runner(jobs=2)
    until_has(blocked, Status.BLOCKED)
    go(folder)
    assert (keeper.result(timeout=60), blocked.result(timeout=60)) == (0, 2)
    assert (held.status, held.details.reason) == (Status.BLOCKED, "held")
    assert held.retry()
    assert held.result(timeout=60) == 1
    assert running.is_running


def let_in_but_not_claimed(app: App, runner: StartRunner, folder: Path) -> tuple[Job, Job, Job]:
    """A keeper has gone, the next has got its turn, but no slot; behind it one more is blocked."""
    keeper = together.alone.enqueue(0, "go")
    following, last = together.alone.enqueue(1), together.alone.enqueue(2)
    runner(jobs=2)
    until_has(following, Status.BLOCKED)
    until_has(last, Status.BLOCKED)
    others = [app.enqueue("tests.tasks:wait_for_file", {"name": "on"}, priority=9) for _ in range(2)]
    until_has(others[0], Status.RUNNING)
    go(folder)
    assert keeper.result(timeout=60) == 0
    until_has(others[1], Status.RUNNING)
    assert (following.status, last.status) == (Status.PENDING, Status.BLOCKED)
    return following, last, others[0]


@pytest.mark.parametrize("how", ["cancelled", "cancelled by hand", "expired"])
def test_who_loses_its_turn_passes_it_on(app: App, runner: StartRunner, folder: Path, how: str) -> None:
    following, last, _ = let_in_but_not_claimed(app, runner, folder)
    if how == "cancelled":
        assert following.cancel()
    elif how == "cancelled by hand":
        rows(app.path, "UPDATE jobs SET status = 'cancelled' WHERE id = ?", following.id)
    else:
        rows(app.path, "UPDATE jr_invocation SET expires_at = 1 WHERE id = ?", following.id)
        until_has(following, Status.EXPIRED)
    go(folder, "on")
    assert last.result(timeout=60) == 2
    assert starts(folder)[following.id] == 0


def test_a_turn_in_a_queue_without_a_runner_keeps_nobody_else_out(app: App, runner: StartRunner, folder: Path) -> None:
    keeper = together.alone.enqueue(0, "go")
    elsewhere = together.alone.options(queue="elsewhere", priority=9).enqueue(1)
    here = together.alone.enqueue(2)
    runner(jobs=2, queues=["default"])
    until_has(here, Status.BLOCKED)
    other = runner(jobs=2, queues=["elsewhere"])
    until_has(elsewhere, Status.BLOCKED)
    other.stop()
    go(folder)
    assert (keeper.result(timeout=60), here.result(timeout=60)) == (0, 2)
    assert elsewhere.status is Status.PENDING
    runner(jobs=1, queues=["elsewhere"])
    assert elsewhere.result(timeout=60) == 1
    check_apart(stays(folder))


def test_where_sizes_differ_for_a_key_each_job_keeps_to_its_own(app: App, runner: StartRunner, folder: Path) -> None:
    def place(size: int, name: str | None) -> Job:
        args = {"key": f"size-{size}", "name": name}
        return app.enqueue("tests.together:keep_place", args, concurrency=size, concurrency_key="sizes")

    first = [place(3, "go"), place(3, "go")]
    runner(jobs=4)
    until(lambda: len(marks(folder)) == 2)
    alone = place(1, None)
    until_has(alone, Status.BLOCKED)
    third, fourth = place(3, "go"), place(3, "go")
    until_has(fourth, Status.BLOCKED)
    assert (third.status, alone.status) == (Status.RUNNING, Status.BLOCKED)
    go(folder)
    app.wait([*first, alone, third, fourth], timeout=60)
    for one in stays(folder):
        beside = [other for other in stays(folder) if other.began <= one.began < other.ended]
        assert len(beside) <= int(one.key.removeprefix("size-"))


def test_who_needs_all_places_keeps_nobody_waiting_that_needs_one(app: App, runner: StartRunner, folder: Path) -> None:
    def place(size: int, name: str | None) -> Job:
        args = {"key": f"size-{size}", "name": name}
        return app.enqueue("tests.together:keep_place", args, concurrency=size, concurrency_key="sizes")

    stays_long, ends_first = place(2, "last"), place(2, "go")
    runner(jobs=3)
    until(lambda: len(marks(folder)) == 2)
    alone, beside = place(1, None), place(2, None)
    until_has(alone, Status.BLOCKED)
    until_has(beside, Status.BLOCKED)
    go(folder)
    app.wait([ends_first, beside], timeout=30)
    assert (stays_long.status, alone.status) == (Status.RUNNING, Status.BLOCKED)
    (folder / "last").touch()
    app.wait([stays_long, alone], timeout=30)


# Waiting for a place that one keeps oneself ----------------------------------------------------------


def test_who_keeps_the_only_place_cannot_wait_for_another_that_needs_it(
    app: App, runner: StartRunner, mode: str
) -> None:
    keeper = together.press_and_wait.enqueue([2])
    needs = together.on_the_press.enqueue()
    runner(**slots(mode, 1))
    assert keeper.result(timeout=60) == (
        "WaitCycle: waiting would never end: job 1 waits for 2, 2 needs a place of 'press' that 1 has"
    )
    assert needs.result(timeout=60) is None


def test_nor_can_who_is_waited_for_by_who_keeps_it(app: App, runner: StartRunner, mode: str) -> None:
    keeper = together.press_and_wait.enqueue([2])
    between = app.enqueue("tests.together:wait_for_in_vain", {"ids": [3]})
    needs = together.on_the_press.enqueue()
    runner(**slots(mode, 1))
    assert between.result(timeout=60) == (
        "WaitCycle: waiting would never end: job 2 waits for 3, 3 needs a place of 'press' that 1 has, 1 waits for 2"
    )
    app.wait([keeper, needs], timeout=60)
    assert (keeper.status, needs.status) == (Status.SUCCESS, Status.SUCCESS)


def test_nor_can_two_wait_for_places_that_they_keep_from_one_another(app: App, runner: StartRunner, mode: str) -> None:
    press = together.press_and_wait.enqueue([3])
    ink = together.ink_and_wait.enqueue([4])
    needs_ink = together.use_ink.enqueue()
    needs_press = together.on_the_press.enqueue()
    runner(**slots(mode, 4))
    app.wait([press, ink, needs_ink, needs_press], timeout=60)
    told = [press.result(), ink.result()]
    assert [text.startswith("WaitCycle") for text in told].count(True) == 1
    if told[1].startswith("WaitCycle"):
        assert told[1] == (
            "WaitCycle: waiting would never end: job 2 waits for 4, 4 needs a place of 'press' that 1 has, "
            "1 waits for 3, 3 needs a place of 'ink' that 2 has"
        )
    assert {job.status for job in (press, ink, needs_ink, needs_press)} == {Status.SUCCESS}


def test_nor_can_all_who_keep_a_place_wait_for_one_that_needs_one(app: App, runner: StartRunner, mode: str) -> None:
    place = {"concurrency": 2, "concurrency_key": "pair"}
    args = {"ids": [3]}
    keepers = [app.enqueue("tests.together:wait_for_in_vain", args, **place) for _ in range(2)]  # type: ignore[arg-type]
    needs = app.enqueue("tests.tasks:square", {"n": 7}, hold=True, **place)  # type: ignore[arg-type]
    runner(**slots(mode, 2))
    until(lambda: {Status.PAUSED, Status.SUCCESS} == {job.status for job in keepers})
    assert needs.retry()
    app.wait([*keepers, needs], timeout=60)
    told = sorted(str(job.result()) for job in keepers)
    assert told[1] == "no error: [49]"
    assert told[0].startswith("WaitCycle: waiting would never end: job ")
    assert " waits for 3, 3 needs a place of 'pair' that " in told[0]


def test_who_keeps_one_of_two_places_can_wait_for_another(app: App, runner: StartRunner, mode: str) -> None:
    place = {"concurrency": 2, "concurrency_key": "pair"}
    keeper = app.enqueue("tests.together:wait_for_in_vain", {"ids": [2]}, **place)  # type: ignore[arg-type]
    app.enqueue("tests.tasks:square", {"n": 7}, **place)  # type: ignore[arg-type]
    runner(**slots(mode, 1))
    assert keeper.result(timeout=60) == "no error: [49]"


def test_who_keeps_the_place_may_wait_for_one_that_would_be_dropped(app: App, runner: StartRunner, mode: str) -> None:
    keeper = together.press_and_wait.enqueue([2])
    together.on_the_press.options(over_limit="drop").enqueue()
    runner(**slots(mode, 1))
    assert keeper.result(timeout=60) == "InvocationCancelled: job 2 is cancelled: concurrency"
