"""Results of jobs as arguments of others: put in when the job starts, and never taken for data, nor data for them."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner import App, InvocationFailed, InvocationNotFound, Status, UsageError, outputs, prune
from jobrunner.database import Database
from jobrunner.errors import OutputMissing
from jobrunner.outputs import Output
from jobrunner.payload import VARIABLE
from jobrunner.plans import plan_of
from jobrunner.timing import every
from tests import flow_tasks, tasks
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.turns import BAD, finish

Drain = Callable[..., Any]
ODD = {"$output": 7, "deep": [{"$output": {"$$output": [1]}}, '{"$output":7}', '"$output":'], 'a"$output': 1}
"""Data of a user's that looks like what stands for a result."""


def kept(path: Path, job: int) -> Any:
    return json.loads(rows(path, "SELECT args FROM jobs WHERE id = ?", job)[0][0])


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_job_gets_the_results_of_others_wherever_they_stand(app: App, runner: StartRunner, mode: str) -> None:
    one = flow_tasks.one_more.enqueue(1)
    odd = flow_tasks.tell.enqueue("🎉", also=None)
    both = flow_tasks.tell.enqueue([one.output, {"n": one.output, **ODD}], also=odd.output)
    third = app.enqueue("tests.flow_tasks:tell", {"value": {"a": [both.output]}})
    fourth = app.enqueue("tests.flow_tasks:total", [[one.output, one.output]])
    many = flow_tasks.times.enqueue_many({"n": one.output, "factor": n} for n in range(3))
    assert both.status is Status.BLOCKED
    runner(**slots(mode, 2), drain=True).wait()
    found = [[2, {"n": 2, **ODD}], ["🎉", None]]
    assert both.result() == found
    assert third.result() == [{"a": [found]}, None]
    assert fourth.result() == 4
    assert [job.result() for job in many] == [0, 2, 4]


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_job_hands_results_from_one_of_its_jobs_to_others(app: App, runner: StartRunner, mode: str) -> None:
    job = flow_tasks.hand_on.enqueue(5)
    runner(**slots(mode, 2), drain=True).wait()
    assert job.result() == [[[[6, {"n": 6}], 5], None], 12, 6]


def test_null_is_a_result_and_so_is_much(app: App, drain: Drain) -> None:
    none, much = flow_tasks.nothing_at_all.enqueue(), flow_tasks.much.enqueue(300)
    told = flow_tasks.tell.enqueue(none.output, [none.output, much.output])
    drain()
    assert told.result() == [None, [None, "x" * 300_000]]


@pytest.mark.parametrize("limit", [None, "4000000"])
def test_arguments_with_results_have_the_limit_that_all_have(
    app: App, drain: Drain, monkeypatch: pytest.MonkeyPatch, limit: str | None
) -> None:
    if limit is not None:
        monkeypatch.setenv(VARIABLE, limit)
    much = flow_tasks.much.enqueue(600)
    length = flow_tasks.tell.enqueue([much.output, much.output])
    behind = flow_tasks.tell.enqueue(length.output)
    drain()
    if limit is not None:
        assert length.status is Status.SUCCESS
        return
    with pytest.raises(InvocationFailed, match=r"1,200,\d+ bytes of JSON, and the limit is 1,048,576"):
        length.result()
    assert (behind.status, behind.details.reason) == (Status.CANCELLED, f"after job {length.id}, which failed")


def test_a_job_whose_argument_failed_is_not_done(app: App, database: Database, path: Path) -> None:
    first = app.enqueue("a:b")
    second = app.enqueue("a:b", [first.output])
    finish(database, BAD)
    assert (second.status, second.details.reason) == (Status.CANCELLED, "after job 1, which failed")


def test_what_has_ended_already_gives_its_result(app: App) -> None:
    first = flow_tasks.one_more.enqueue(1)
    assert app.drain() == 1
    second = flow_tasks.one_more.enqueue(first.output)
    assert second.status is Status.PENDING
    assert app.drain() == 1
    assert second.result() == 3


def test_a_result_that_is_needed_is_not_forgotten_and_one_that_is_gone_is_told(app: App, database: Database) -> None:
    first = flow_tasks.one_more.enqueue(1)
    app.drain()
    second = flow_tasks.tell.enqueue(first.output)
    assert prune.prune(database, prune.Rule()).jobs == 0
    app.drain()
    assert second.result() == [2, None]
    assert prune.prune(database, prune.Rule()).jobs == 1, "the first: its result is not needed any more"
    second.retry()
    app.drain()
    with pytest.raises(InvocationFailed, match="an argument is the result of job 1, which was forgotten") as caught:
        second.result()
    assert caught.value.kind == "OutputMissing"


def test_one_that_is_done_again_waits_for_its_argument_again(app: App, database: Database) -> None:
    first = flow_tasks.one_more.enqueue(1)
    second = flow_tasks.tell.enqueue(first.output)
    app.drain()
    database.script("DELETE FROM jr_result")
    assert first.retry()
    assert second.retry()
    assert second.status is Status.BLOCKED
    app.drain()
    assert second.result() == [2, None]


def test_inline_takes_them_too(app: App) -> None:
    with app.inline():
        first = flow_tasks.one_more.enqueue(1)
        assert flow_tasks.tell.enqueue([first.output], also=ODD).result() == [[2], ODD]
        with pytest.raises(InvocationNotFound):
            flow_tasks.tell.enqueue(Output(99))
        with pytest.raises(ValueError, match="no None"):
            flow_tasks.fail.enqueue()
        with pytest.raises(OutputMissing, match="the result of job 3, which is failed"):
            flow_tasks.tell.enqueue(Output(3))


def test_in_a_transaction_of_the_callers_it_is_there_or_not(app: App, path: Path) -> None:
    first = flow_tasks.one_more.enqueue(1)
    app.close()
    connection = sqlite3.connect(path)
    with connection, app.using(connection):
        second = flow_tasks.tell.enqueue(first.output)
    connection.close()
    app.drain()
    assert second.result() == [2, None]


def test_what_cannot_be_meant_is_refused(app: App) -> None:
    job = tasks.add.enqueue(1)
    program = app.enqueue_command("true")
    for wrong, why in (
        (lambda: tasks.send.enqueue(job.output), "names 'user', which is the result of a job"),
        (lambda: tasks.add.options(unique="k", debounce="1s").enqueue(job.output), "debounce says when it begins"),
        (lambda: tasks.add.options(after_any=job).enqueue(job.output), "in one way"),
        (lambda: tasks.add.options(after_failure=[job]).enqueue(job.output), "in one way"),
        (lambda: tasks.add.enqueue(program.output), "job 2 is a command, and has no result"),
        (lambda: plan_of("x", every("1h"), tasks.add.later({"a": job.output})), "waits for no other job"),
        (lambda: app.enqueue("a:b", [object(), job.output]), "not plain JSON data"),
    ):
        with pytest.raises(UsageError, match=why):
            wrong()
    with pytest.raises(InvocationNotFound):
        flow_tasks.tell.enqueue(Output(99))
    tasks.add.options(after=job).enqueue(job.output)
    assert app.counts()[Status.BLOCKED] == 1


def test_a_dict_that_contains_itself_is_refused_beside_them_too(app: App) -> None:
    around: dict[str, Any] = {"job": Output(1)}
    around["self"] = around
    with pytest.raises(UsageError, match="not plain JSON"):
        app.enqueue("a:b", around)


def test_data_that_looks_like_it_is_data(app: App, path: Path) -> None:
    plain = flow_tasks.tell.enqueue(ODD)
    rows(path, "INSERT INTO jobs(task, args) VALUES ('tests.flow_tasks:tell', '{\"value\": {\"$output\": 1}}')")
    by_hand = app.invocation(2)
    app.drain()
    assert (plain.result(), by_hand.result()) == ([ODD, None], [{"$output": 1}, None])
    assert kept(path, plain.id) == {"value": ODD}


NAMES = st.sampled_from(("$output", "$$output", "$$$output", "x", '"$output', '\\"$output', "$output:", "")) | st.text()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NAMES | st.builds(Output, st.integers(1, 9)),
    lambda inside: st.lists(inside) | st.dictionaries(NAMES, inside),
    max_leaves=30,
)


@given(VALUES)
def test_whatever_stands_beside_them_comes_out_as_it_went_in(value: Any) -> None:
    kept_text, jobs = outputs.keep(value)
    results: dict[int, Any] = {one: {"$output": one, "$$output": '{"$output":1}'} for one in range(1, 10)}
    texts = {one: json.dumps(result) for one, result in results.items()}
    text = (
        outputs.filled(kept_text, texts) if jobs else kept_text
    )  # as their row says, whose arguments have none are data
    assert json.loads(text) == _by_hand(value, results)
    assert set(jobs) == set(outputs.wanted(kept_text) if jobs else ())


def _by_hand(value: Any, results: dict[int, Any]) -> Any:
    if isinstance(value, Output):
        return results[value.id]
    if isinstance(value, dict):
        return {name: _by_hand(one, results) for name, one in value.items()}
    return [_by_hand(one, results) for one in value] if isinstance(value, list) else value


def test_people_see_whose_result_it_is(app: App, folder: Path, path: Path) -> None:
    first = flow_tasks.one_more.enqueue(1)
    second = flow_tasks.tell.enqueue([first.output], also={"$output": 3})
    assert kept(path, second.id)["value"] == [{"$output": first.id}]
    cli = Cli(folder)
    shown = cli("show", str(second.id)).stdout
    assert 'tests.flow_tasks:tell value=[@1.output] also={"$output": 3}' in shown
    assert "1 pending: must succeed" in shown
    assert cli("show", str(app.enqueue("a:b", [first.output]).id)).stdout.count("a:b [@1.output]") == 1


def test_the_command_line_takes_them(app: App, folder: Path) -> None:
    cli = Cli(folder)
    assert cli("enqueue", "shop:add", "a:=2").stdout == "1\n"
    assert cli("enqueue", "shop:echo", "x:=@1.output", "y=at 1.output", "z:=1").stdout == "2\n"
    assert cli("enqueue", "shop:echo", 'parts:=[@1.output, {"a": @2.output}, "@1.output"]').stdout == "3\n"
    line = {"task": "shop:echo", "args": {"x": 1}, "outputs": {"y": 1, "z": [1, 2]}}
    assert cli("enqueue", "--jsonl", "-", stdin=json.dumps(line)).stdout == "4\n"
    assert cli("enqueue", "--each", "shop:echo", "x:=@{}.output", stdin="1\n3\n").stdout == "5\n6\n"
    assert cli("run", "--drain").returncode == 0
    second = [[], {"x": 3, "y": "at 1.output", "z": 1}]
    third = [[], {"parts": [3, {"a": second}, "@1.output"]}]
    assert [app.invocation(one).result() for one in range(1, 7)] == [
        3,
        second,
        third,
        [[], {"x": 1, "y": 3, "z": [3, second]}],
        [[], {"x": 3}],
        [[], {"x": third}],
    ]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("shop:echo", "x:=@7.output"), "there is no job 7"),
        (("shop:echo", "x:=@.output"), "not valid JSON"),
        (("shop:echo", "x:=@7"), "not valid JSON"),
        (("--after-any", "1", "shop:echo", "x:=@1.output"), "in one way"),
    ],
)
def test_the_command_line_says_what_is_wrong_with_them(folder: Path, words: tuple[str, ...], why: str) -> None:
    cli = Cli(folder)
    cli("enqueue", "shop:add", "a:=2")
    done = cli("enqueue", *words)
    assert done.returncode in (2, 4)
    assert why in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        '{"task": "a:b", "outputs": [7]}',
        '{"task": "a:b", "args": [1], "outputs": {"x": 7}}',
        '{"task": "a:b", "args": {"x": 1}, "outputs": {"x": 7}}',
        '{"task": "a:b", "outputs": {"x": "7"}}',
        '{"task": "a:b", "outputs": {"x": [true]}}',
        '{"command": ["true"], "outputs": {"x": 7}}',
    ],
)
def test_a_line_with_outputs_that_cannot_be_meant_is_refused(folder: Path, line: str) -> None:
    done = Cli(folder)("enqueue", "--jsonl", "-", stdin=line)
    assert done.returncode == 2
    assert "line 1" in done.stderr
