"""The Python surface: what users import, call and get."""

import asyncio
import functools
import inspect
import itertools
import json
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jobrunner
from jobrunner import (
    App,
    Invocation,
    InvocationCancelled,
    InvocationFailed,
    InvocationNotFound,
    JobRunnerError,
    Retry,
    Status,
    UsageError,
    WaitTimeout,
    current,
)
from jobrunner.arguments import Parameters
from jobrunner.models import InvocationId
from tests import tasks
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import ROOT, RunnerProcess, environment, run_python
from tests.helpers.trace import marks
from tests.helpers.waiting import SECONDS, until

Drain = Callable[..., RunnerProcess]


# Tasks -----------------------------------------------------------------------------------------------


def test_calling_a_task_runs_it_here(path: Path) -> None:
    assert tasks.add(2, b=3) == 5
    assert asyncio.run(tasks.send_later(7)) == "later 7"
    assert not path.exists(), "nothing was queued"


def test_a_task_looks_like_its_function() -> None:
    assert (tasks.add.__doc__, tasks.add.name) == ("Add two numbers.", "tests.tasks:add")
    assert list(inspect.signature(tasks.add).parameters) == ["a", "b"]


def test_what_the_decorator_says_goes_with_each_job(app: App) -> None:
    job = tasks.send.enqueue(7, account="a")
    facts = job.details
    assert (facts.task, facts.args) == ("tests.tasks:send", '{"user":7,"account":"a"}')
    assert (facts.queue, facts.priority, facts.unique_key, facts.label) == ("mail", 7, "send:7", "a letter")
    assert json.loads(facts.policy or "{}") == {"timeout": 300_000}


def test_options_change_the_call_and_not_the_task(app: App) -> None:
    changed = tasks.send.options(queue="slow", delay="10m", label=None).enqueue(8)
    plain = tasks.send.enqueue(9)
    assert (changed.details.queue, changed.status, changed.details.label) == ("slow", Status.SCHEDULED, None)
    assert (changed.details.priority, changed.details.unique_key) == (7, "send:8"), "what was not changed stays"
    assert (plain.details.queue, plain.status, plain.details.label) == ("mail", Status.PENDING, "a letter")


def test_a_job_by_name_without_options_is_one_whose_options_are_the_defaults(app: App) -> None:
    plain = app.enqueue("tests.tasks:add", {"a": 1}).details
    said = app.enqueue("tests.tasks:add", {"a": 1}, queue="default", retry=None).details
    assert plain == said._replace(id=plain.id, created_at=plain.created_at)


def test_a_job_can_be_remembered_for_as_long_as_somebody_has_it(app: App) -> None:
    progress = weakref.WeakKeyDictionary({(job := tasks.add.enqueue(1, 2)): 0.5})
    assert progress[app.invocation(job.id)] == 0.5


def test_options_never_share_names_with_arguments(app: App, drain: Drain) -> None:
    job = tasks.shapes.enqueue(1, 2, priority=5, queue=6)
    assert (job.details.priority, job.details.queue) == (0, "default")
    drain()
    assert job.result() == [1, 2, [], 0, {"priority": 5, "queue": 6}]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((1, 2), {}),
        ((1,), {"b": 2}),
        ((1, 2, 3, 4), {}),
        ((1, 2, 3), {"c": 4}),
        ((1,), {"b": 2, "c": 3, "d": 4}),
        ((1, 2, 3), {"c": 4, "d": 5, "a": 6}),
    ],
)
def test_arguments_arrive_as_in_a_call(app: App, args: Any, named: Any) -> None:
    job = tasks.shapes.enqueue(*args, **named)
    app.drain()
    assert job.result() == tasks.shapes(*args, **named)


def test_positional_only_arguments_arrive_as_in_a_call(app: App) -> None:
    jobs = [tasks.positional.enqueue(5), tasks.positional.enqueue(5, 6)]
    app.drain()
    assert [job.result() for job in jobs] == [[5, 2], [5, 6]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: tasks.add.enqueue(b=1),  # type: ignore[call-arg]
        lambda: tasks.add.enqueue(1, 2, 3),  # type: ignore[call-arg]
        lambda: tasks.add.enqueue(1, c=2),  # type: ignore[call-arg]
        lambda: tasks.add.enqueue(1, a=2),  # type: ignore[misc]
        tasks.add.enqueue,
        lambda: tasks.send.enqueue(1, "account"),  # type: ignore[call-arg]
        lambda: tasks.add.enqueue_many([{"a": 1}, {"b": 1}]),
    ],
)
def test_arguments_that_do_not_fit_are_a_type_error_at_the_enqueue(app: App, call: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        call()
    assert app.counts()[Status.PENDING] == 0


def no_arguments() -> None: ...
def two(a: int, b: int) -> None: ...
def with_a_default(a: int, b: int = 2) -> None: ...
def by_name(*, a: int, b: int = 2) -> None: ...
def of_each_kind(a: int, b: int = 2, *, c: int, d: int = 4) -> None: ...
async def asynchronous(a: int = 1, *, b: int) -> None: ...


CALLS: list[tuple[tuple[int, ...], dict[str, int]]] = [
    (args, dict(named))
    for args in ((), (1,), (1, 2), (1, 2, 3))
    for size in range(4)
    for named in itertools.combinations([("a", 5), ("b", 6), ("c", 7), ("d", 8)], size)
]


@pytest.mark.parametrize("function", [no_arguments, two, with_a_default, by_name, of_each_kind, asynchronous])
def test_what_a_function_takes_is_read_from_its_code_as_from_its_signature(function: Callable[..., Any]) -> None:
    by_code, by_signature = Parameters(function), Parameters(functools.partial(function))
    for args, named in CALLS:
        for ask in (Parameters.as_json, Parameters.named):
            try:
                expected = ask(by_signature, args, named)
            except TypeError as error:
                with pytest.raises(TypeError, match=re.escape(str(error))):
                    ask(by_code, args, named)
            else:
                assert list(ask(by_code, args, named).items()) == list(expected.items())


def test_arguments_are_kept_by_name_in_the_order_of_the_function(app: App) -> None:
    jobs: list[Invocation[Any]] = [
        tasks.add.enqueue(1),
        tasks.add.enqueue(1, 2),
        tasks.add.enqueue(1, b=2),
        tasks.add.enqueue(b=2, a=1),
        tasks.send.enqueue(1, account="x"),
    ]
    named = ['{"a":1}', *['{"a":1,"b":2}'] * 3, '{"user":1,"account":"x"}']
    assert [job.details.args for job in jobs] == named


def welcome(name: str = "you") -> str:
    """Can be called without arguments."""
    return f"hello {name}"


def test_calls_without_arguments_are_alike_whatever_came_between_them(app: App) -> None:
    task = app.task(welcome)
    jobs = [task.enqueue(), task.enqueue("me"), task.enqueue(), task.options(delay="1h").enqueue(), task.enqueue()]
    assert [job.details.args for job in jobs] == ["{}", '{"name":"me"}', "{}", "{}", "{}"]
    assert [job.status for job in jobs] == [*[Status.PENDING] * 3, Status.SCHEDULED, Status.PENDING]
    with app.batch("greetings"):
        assert task.enqueue().details.batch == "greetings"
    assert task.enqueue().details.batch is None


def test_what_no_worker_could_import_cannot_be_a_task(app: App) -> None:
    def local() -> None: ...

    with pytest.raises(UsageError, match="a worker must be able to import it by its name"):
        app.task(local)
    with pytest.raises(UsageError, match="a worker must be able to import it by its name"):
        app.task(lambda: None)


def test_many_go_in_at_once_and_in_order(app: App) -> None:
    jobs = tasks.add.enqueue_many({"a": n} for n in range(1000))
    assert [job.id for job in jobs] == list(range(1, 1001))
    assert jobs[999].details.args == '{"a":999}'
    with pytest.raises(UsageError):
        tasks.add.enqueue_many({"a": n} for n in (1, 2, float("nan")))
    assert app.counts()[Status.PENDING] == 1000, "all or nothing"
    assert tasks.add.enqueue_many([]) == []


SCRIPT = """
import sys
from jobrunner import App

app = App("jobs.db")

@app.task
def triple(n: int) -> int:
    return 3 * n

if __name__ == "__main__":
    print(triple.enqueue(int(sys.argv[1])).id)
"""


def test_tasks_of_a_script_that_was_started_are_found_by_a_runner(folder: Path, app: App, drain: Drain) -> None:
    (folder / "my_script.py").write_text(SCRIPT)
    for words in (["my_script.py"], ["-m", "my_script"]):
        done = subprocess.run(
            [sys.executable, *words, "7"],
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            check=True,
        )
        job = app.invocation(int(done.stdout))
        assert job.details.task == "my_script:triple"
        drain(app_dir=str(folder))
        assert job.result() == 21


# Results ---------------------------------------------------------------------------------------------


def test_a_result_is_kept_and_reading_it_deletes_nothing(app: App, runner: StartRunner) -> None:
    runner(jobs=1)
    job = tasks.add.enqueue(2, b=3)
    assert [job.result(timeout=SECONDS), job.result(), app.invocation(job.id).result()] == [5, 5, 5]


def test_none_is_a_result(app: App, drain: Drain) -> None:
    job = tasks.nothing.enqueue()
    drain()
    assert app.invocation(job.id).result(timeout=0) is None
    assert job.status is Status.SUCCESS
    assert rows(app.path, "SELECT result FROM jobs") == [("null",)]


def test_an_async_task_gives_what_it_returns(app: App, drain: Drain) -> None:
    job = tasks.send_later.enqueue(7)
    drain()
    assert job.result() == "later 7"


def test_a_job_that_failed_raises_what_happened(app: App, drain: Drain) -> None:
    job = tasks.broken.enqueue("<b>\n")
    drain()
    with pytest.raises(InvocationFailed, match=f"job {job.id} failed in attempt 2: LookupError") as caught:
        job.result()
    assert (caught.value.kind, caught.value.message, caught.value.attempt) == ("LookupError", "<b>\n", 2)
    assert caught.value.traceback
    lines = caught.value.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "tests/tasks.py" in lines[1], "it begins in the user's code"
    assert "raise LookupError(text)" in lines[2]


def test_a_job_that_was_called_off_raises_that(app: App) -> None:
    job = tasks.add.enqueue(1)
    job.cancel()
    with pytest.raises(InvocationCancelled, match=f"job {job.id} is cancelled: cancelled on request") as caught:
        job.result()
    assert caught.value.status is Status.CANCELLED


def test_a_job_that_does_not_come_to_its_end_times_out(app: App) -> None:
    jobs = [tasks.add.enqueue(n) for n in range(7)]
    with pytest.raises(WaitTimeout, match=r"not finished within 0.01 s: job 1$"):
        jobs[0].result(timeout=0.01)
    with pytest.raises(TimeoutError, match=r"job 1, 2, 3, 4, 5, \.\.\.") as caught:
        app.wait(jobs, timeout=0)
    assert isinstance(caught.value, WaitTimeout)
    assert caught.value.unfinished == (1, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    "ask",
    [
        lambda app: app.invocation(99),
        lambda app: Invocation(lambda: app.client, InvocationId(99)).status,
        lambda app: Invocation(lambda: app.client, InvocationId(99)).result(),
        lambda app: Invocation(lambda: app.client, InvocationId(99)).details,
        lambda app: Invocation(lambda: app.client, InvocationId(99)).log(),
        lambda app: Invocation(lambda: app.client, InvocationId(99)).progress,
        lambda app: Invocation(lambda: app.client, InvocationId(99)).cancel(),
        lambda app: Invocation(lambda: app.client, InvocationId(99)).retry(),
        lambda app: app.wait([99]),
        lambda app: asyncio.run(Invocation(lambda: app.client, InvocationId(99)).aresult()),
        lambda app: app.invocation(2**70),
        lambda app: app.invocation(-1),
    ],
)
def test_an_unknown_id_is_not_found_wherever_one_asks(app: App, ask: Callable[[App], object]) -> None:
    with pytest.raises(InvocationNotFound, match="there is no job"):
        ask(app)


def test_waiting_gives_all_in_order_and_raises_nothing_of_theirs(app: App, drain: Drain) -> None:
    jobs: list[Invocation[Any]] = [tasks.broken.enqueue("x"), tasks.add.enqueue(1), tasks.nothing.enqueue()]
    drain()
    assert app.wait([*jobs[::-1], jobs[0].id]) == [*jobs[::-1], jobs[0]]
    assert app.wait([]) == []


def test_a_result_is_waited_for_beside_other_work_of_asyncio(app: App, runner: StartRunner) -> None:
    runner(jobs=2)

    async def both() -> list[Any]:
        jobs = [tasks.add.enqueue(n) for n in range(5)]
        return await asyncio.gather(*(job.aresult(timeout=SECONDS) for job in jobs), asyncio.sleep(0, "other work"))

    assert asyncio.run(both()) == [1, 2, 3, 4, 5, "other work"]


def test_an_async_wait_times_out_and_raises_like_the_other(app: App, drain: Drain) -> None:
    waiting = tasks.add.options(hold=True).enqueue(1)
    failed = tasks.broken.enqueue("x")
    drain()
    with pytest.raises(WaitTimeout):
        asyncio.run(waiting.aresult(timeout=0.01))
    with pytest.raises(InvocationFailed):
        asyncio.run(failed.aresult())


# What one can do with a job --------------------------------------------------------------------------


def test_a_job_can_be_called_off_retried_and_looked_at(app: App, drain: Drain) -> None:
    job = app.enqueue("tests.tasks:say", {"text": "hello\n"})
    assert (repr(job), job == app.invocation(job.id), len({job, app.invocation(job.id)})) == ("Invocation(1)", True, 1)
    assert (job.cancel(), job.cancel(), job.status) == (True, False, Status.CANCELLED)
    assert (job.retry(), job.retry(), job.status) == (True, False, Status.PENDING)
    drain()
    assert (job.log(), job.status, job.progress) == ("hello\n", Status.SUCCESS, None)
    assert job.retry()
    drain()
    assert job.log() == "hello\nhello\n", "the output of each attempt is kept"


def test_counts_tell_of_each_status(app: App, drain: Drain) -> None:
    tasks.add.enqueue(1)
    tasks.broken.enqueue("x")
    drain()
    tasks.add.options(delay="1h").enqueue(1)
    tasks.add.options(hold=True).enqueue(1)
    tasks.add.enqueue(1).cancel()
    tasks.add.enqueue(1)
    told = {status: count for status, count in app.counts().items() if count}
    assert told == {
        Status.SUCCESS: 1,
        Status.FAILED: 1,
        Status.SCHEDULED: 1,
        Status.BLOCKED: 1,
        Status.CANCELLED: 1,
        Status.PENDING: 1,
    }
    assert set(app.counts()) == set(Status) - {Status.KILLED}, "nobody ever sees a killed one"


def test_progress_is_seen_while_a_job_runs(app: App, runner: StartRunner, folder: Path) -> None:
    job = tasks.report_and_wait.enqueue()
    runner(jobs=1)
    said = until(lambda: job.progress)
    assert said
    assert (said.fraction, said.message) == (0.4, "12/30")
    assert job.status is Status.RUNNING
    (folder / "go").touch()
    job.result(timeout=SECONDS)


def test_the_last_word_of_progress_counts(app: App, drain: Drain) -> None:
    job = tasks.report.enqueue()
    drain()
    assert job.result() == [job.id, 1, 1]
    said = job.progress
    assert said
    assert (said.fraction, said.message) == (None, "half")


def test_a_polite_job_hears_that_it_is_to_stop(app: App, runner: StartRunner, folder: Path) -> None:
    job = tasks.look_at_cancellation.enqueue()
    runner(jobs=1, kill_grace=600.0)
    until(lambda: marks(folder))
    assert job.cancel()
    assert job.result(timeout=SECONDS) == "stopped politely"


# From inside a job -----------------------------------------------------------------------------------


def test_a_job_enqueues_others_which_know_their_parent(app: App, drain: Drain) -> None:
    job = tasks.parent.enqueue(50)
    drain()
    children = job.result()
    assert len(children) == 50
    assert rows(app.path, "SELECT id, parent FROM jobs WHERE parent IS NOT NULL") == [(one, job.id) for one in children]
    assert [app.invocation(one).result() for one in children] == list(range(1, 51))


def test_a_job_asks_about_others(app: App, drain: Drain) -> None:
    said = app.enqueue("tests.tasks:say", {"text": "é\0\x1b"})
    drain()
    job = tasks.ask_about.enqueue(said.id)
    drain()
    assert job.result() == {
        "status": "success",
        "result": "é\0\x1b",
        "log": "é\0\x1b",
        "attempts": 1,
        "counts": {"running": 1, "success": 1},
        "progress": None,
    }


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("result", "InvocationNotFound: there is no job 99"),
        ("surrogate", "NotSerializable: a text contains a lone surrogate"),
        ("too much", "UsageError: "),
        ("key", "UniqueKeyTaken: job 1 with the key 'k' is not finished"),
    ],
)
def test_what_a_job_asks_in_vain_is_raised_in_it(app: App, drain: Drain, what: str, error: str) -> None:
    app.enqueue("a:b", unique="k", hold=True)
    job = tasks.ask_in_vain.enqueue(99, what)
    drain()
    assert job.result().startswith(error)
    assert app.counts()[Status.PENDING] == 0


def test_a_job_waits_for_its_child_with_one_slot(app: App, drain: Drain) -> None:
    jobs = [tasks.await_child.enqueue(5), tasks.await_child_later.enqueue(6)]
    drain(jobs=1)
    assert [job.result() for job in jobs] == [7, 8]


def test_a_job_calls_off_another(app: App, drain: Drain) -> None:
    other = tasks.add.options(hold=True).enqueue(1)
    job = tasks.cancel_other.enqueue(other.id)
    drain()
    assert job.result() is True
    assert (other.status, other.details.reason) == (Status.CANCELLED, f"cancelled by job {job.id}")


def test_outside_of_a_job_there_is_no_current_one() -> None:
    with pytest.raises(JobRunnerError, match="for code that runs as a job"):
        current()


# For tests of users ----------------------------------------------------------------------------------


def test_inline_runs_at_the_enqueue_and_lets_errors_through(app: App, path: Path) -> None:
    with app.inline():
        assert tasks.add.enqueue(1, b=2).result() == 3
        assert tasks.send_later.enqueue(1).result() == "later 1"
        assert tasks.report.enqueue().result() == [3, 1, 1]
        assert [job.result() for job in tasks.add.enqueue_many({"a": n} for n in range(3))] == [1, 2, 3]
        with pytest.raises(LookupError, match="loud"):
            tasks.broken.enqueue("loud")
        with pytest.raises(UsageError, match="not plain JSON"):
            tasks.add.enqueue({1, 2})  # type: ignore[arg-type]
        assert app.counts()[Status.SUCCESS] == 6
    assert not path.exists(), "no database was made"


def test_a_drain_in_this_process_does_all_that_is_due(app: App) -> None:
    jobs: list[Invocation[Any]] = [
        tasks.parent.enqueue(3),
        tasks.broken.options(retry=Retry(base="1h")).enqueue("x"),
        tasks.report.enqueue(),
    ]
    program = app.enqueue_command("sh", "-c", "echo out; exit 3")
    line = app.enqueue_shell("echo $((1 + 1)) | tr 2 3")
    later = tasks.add.options(delay="1h").enqueue(1)
    bad = app.enqueue("tests.tasks:add", {"a": 1})
    rows(app.path, """UPDATE jr_invocation SET policy = '{"retry": {}}' WHERE id = ?""", bad.id)
    assert app.drain() >= 9
    assert [job.status for job in (*jobs, program, line, later, bad)] == [
        Status.SUCCESS,
        Status.SCHEDULED,
        Status.SUCCESS,
        Status.FAILED,
        Status.SUCCESS,
        Status.SCHEDULED,
        Status.FAILED,
    ]
    assert (program.log(), line.log()) == ("out\n", "3\n")
    assert jobs[2].progress
    assert rows(app.path, "SELECT mode, state FROM runners") == [("inline", "stopped")]


# The database that is meant --------------------------------------------------------------------------


def test_an_app_names_its_file_or_finds_it(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert App("other.db").path == folder / "other.db"
    assert App().path == path, "JOBRUNNER_DB"
    monkeypatch.delenv("JOBRUNNER_DB")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    assert App().path == folder / "state" / "jobrunner" / "jobs.db"
    (folder / "pyproject.toml").write_text('[tool.jobrunner]\ndb = "here/jobs.db"\n')
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    assert App().path == folder / "here" / "jobs.db"


def test_an_app_opens_anew_after_it_was_closed(app: App) -> None:
    job = tasks.add.enqueue(1)
    app.close()
    app.close()
    assert job.status is Status.PENDING


def test_all_that_users_need_is_there_to_be_imported() -> None:
    assert {"App", "Invocation", "Retry", "Status", "current", "InvocationFailed", "WaitTimeout"} <= set(
        jobrunner.__all__
    )
    for name in jobrunner.__all__:
        assert getattr(jobrunner, name)


def test_importing_jobrunner_opens_and_loads_little(folder: Path) -> None:
    code = "import sys, jobrunner; print([m for m in ('apsw', 'psutil', 'typer', 'asyncio') if m in sys.modules])"
    assert run_python(folder, code).stdout == "[]\n"


# Types -----------------------------------------------------------------------------------------------

TYPED = """
from typing import assert_type
from jobrunner import App, Invocation

app = App("jobs.db")

@app.task
def plain(n: int) -> bytes:
    return b""

@app.task(queue="mail", retry=3)
def send(user: int, *, account: str = "") -> str:
    return ""

@app.task(timeout="5m")
async def later(user: int) -> float:
    return 1.0

assert_type(plain(1), bytes)
assert_type(plain.enqueue(1).result(), bytes)
assert_type(send.enqueue(7), Invocation[str])
assert_type(send.enqueue(7, account="a").result(), str)
assert_type(send.options(delay="10m", priority=5).enqueue(8).result(timeout=3), str)
assert_type(send.enqueue_many([{"user": 1}])[0].result(), str)
assert_type(later.enqueue(1).result(), float)

async def use() -> None:
    assert_type(await later(1), float)
    assert_type(await later.enqueue(1).aresult(), float)
    assert_type(await send.enqueue(1).aresult(), str)
"""

MISTYPED = """
from jobrunner import App

app = App("jobs.db")

@app.task
def send(user: int, *, account: str = "") -> str:
    return ""

send("seven")
send.enqueue("seven")
send.enqueue(7, acount="a")
send.enqueue()
send.options(colour="red")
send.options(priority="high")
app.task(timeout=[])
number: int = send.enqueue(7).result()
"""


def mypy(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    (folder / "typed.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(folder), "typed.py"],
        cwd=folder,
        env=environment(folder, MYPYPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named mypy" in done.stderr:
        pytest.skip("mypy is not installed here (pip install sqlite-jobrunner[lint])")
    return done


@pytest.mark.heavy
def test_a_type_checker_knows_what_tasks_take_and_give(folder: Path) -> None:
    done = mypy(folder, TYPED)
    assert (done.returncode, done.stdout) == (0, "")
    wrong = mypy(folder, MISTYPED)
    lines = [int(line.split(":")[1]) for line in wrong.stdout.splitlines() if ": error:" in line]
    assert sorted(set(lines)) == list(range(10, 18)), wrong.stdout


def test_a_key_sees_the_defaults_of_arguments(app: App) -> None:
    task = app.task(unique="greet:{name}", concurrency=1, concurrency_key="{name}")(greet)
    job = task.enqueue()
    assert (job.details.unique_key, job.details.args) == ("greet:world", "{}")


def greet(name: str = "world") -> str:
    return name
