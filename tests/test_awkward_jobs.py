"""Jobs that do what they should not: each has an outcome with a name, its neighbours succeed and the runner goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Invocation, InvocationFailed, Status
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import RunnerProcess, peak_kb
from tests.helpers.waiting import until

Drain = Callable[..., RunnerProcess]


@pytest.fixture
def neighbours(app: App) -> Any:
    """Jobs before, beside and after an awkward one."""
    jobs = [app.enqueue("tests.tasks:square", {"n": n}, priority=5 - n) for n in range(10)]
    yield jobs
    assert [job.result() for job in jobs] == [n * n for n in range(10)]


def do(app: App, drain: Drain, task: str, args: Any = None, **options: Any) -> Invocation[Any]:
    job = app.enqueue(task, args, **options)
    drain(jobs=2)
    return job


def error_of(job: Invocation[Any]) -> InvocationFailed:
    assert job.status is Status.FAILED
    with pytest.raises(InvocationFailed) as caught:
        job.result()
    return caught.value


@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize(
    ("task", "args", "result"),
    [
        ("tests.tasks:use_multiprocessing", {"method": "fork"}, [0, 2, 4, 6, 8, 42]),
        ("tests.tasks:use_multiprocessing", {"method": "spawn"}, [0, 2, 4, 6, 8, 42]),
        ("tests.tasks:square_later", {"n": 3}, 9),
        ("tests.tasks:break_streams", {}, 1),
        ("tests.tasks:use_threads", {}, 4),
        ("tests.tasks:leave_thread", {}, 1),
        ("tests.tasks:many_descriptors", {}, 2000),
        ("tests.tasks:change_folder_and_environment", {}, 1),
        ("tests.awkward.starts_threads:thread_is_alive", {}, True),
        ("tests.awkward.prints:what_was_typed", {}, ""),
    ],
)
def test_what_is_unusual_but_allowed_succeeds(app: App, drain: Drain, task: str, args: Any, result: Any) -> None:
    job = do(app, drain, task, args)
    assert job.result() == result


@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize(
    ("task", "args", "kind", "message"),
    [
        ("exit_at_once", {"code": 3}, "WorkerExited", "the process exited with code 3 before the function returned"),
        ("exit_at_once", {"code": 0}, "WorkerExited", "the process exited with code 0 before the function returned"),
        ("exit_politely", {"code": 3}, "SystemExit", "3"),
        ("close_everything", {}, "OutcomeLost", "the job closed the channel"),
        ("recurse", {}, "RecursionError", "maximum recursion depth exceeded"),
        ("give", {"what": "a set"}, "jobrunner.errors.NotSerializable", "the function was done, but the result"),
        ("give", {"what": "an object"}, "jobrunner.errors.NotSerializable", "type Odd is not JSON serializable"),
        ("give", {"what": "5 MB"}, "jobrunner.errors.NotSerializable", "5,000,002 bytes of JSON, and the limit is"),
        ("give", {"what": "NaN"}, "jobrunner.errors.NotSerializable", "are not plain JSON data"),
        ("give", {"what": "a lone surrogate"}, "jobrunner.errors.NotSerializable", "lone surrogate"),
        ("give", {"what": "too deep"}, "jobrunner.errors.NotSerializable", "nested deeper than 100 levels"),
        ("give", {"what": "a key that is no text"}, "jobrunner.errors.NotSerializable", "keys must be"),
        ("give", {"what": "itself"}, "jobrunner.errors.NotSerializable", "the function was done, but"),
        ("throw", {"what": "odd"}, "tests.tasks.OddError", "its text cannot be had: ZeroDivisionError"),
        ("throw", {"what": "SystemExit"}, "SystemExit", "3"),
        ("throw", {"what": "KeyboardInterrupt"}, "KeyboardInterrupt", ""),
        ("throw", {"what": "surrogate"}, "ValueError", "\\ud800 <b> \x1b[31m"),
        ("throw", {"what": "large"}, "ValueError", "xxxx"),
        ("throw", {"what": "group"}, "ExceptionGroup", "several (2 sub-exceptions)"),
        ("throw", {"what": "generator"}, "GeneratorExit", ""),
        ("fail_later", {}, "ValueError", "later"),
        ("no_such_function", {}, "jobrunner.errors.TaskNotFound", "tests.tasks has no 'no_such_function'"),
        ("square", {"m": 1}, "TypeError", "unexpected keyword argument 'm'"),
        ("square", {}, "TypeError", "missing 1 required positional argument: 'n'"),
        ("AWKWARD", {}, "jobrunner.errors.TaskNotFound", "AWKWARD is a dict, not a function"),
    ],
)
def test_what_goes_wrong_in_a_function_is_told(
    app: App, drain: Drain, task: str, args: Any, kind: str, message: str
) -> None:
    error = error_of(do(app, drain, f"tests.tasks:{task}", args))
    assert error.kind == kind
    assert message in error.message
    assert len(error.message) <= 10_000


@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        ("tests.awkward.raises:x", "ZeroDivisionError", "at import"),
        ("tests.awkward.exits:x", "SystemExit", "at import"),
        ("tests.awkward.needs_more:x", "ModuleNotFoundError", "No module named 'no_such_package'"),
        ("tests.awkward.missing:x", "jobrunner.errors.TaskNotFound", "there is no module 'tests.awkward.missing'"),
        ("no_such_module:x", "jobrunner.errors.TaskNotFound", "there is no module 'no_such_module'"),
    ],
)
def test_what_goes_wrong_in_an_import_is_told(app: App, drain: Drain, task: str, kind: str, message: str) -> None:
    error = error_of(do(app, drain, task))
    assert error.kind == kind
    assert message in error.message


@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize(
    ("task", "signal"), [("segfault", "11 (SIGSEGV)"), ("abort", "6 (SIGABRT)"), ("kill_itself", "9 (SIGKILL)")]
)
def test_the_signal_that_a_job_dies_of_is_told(app: App, drain: Drain, task: str, signal: str) -> None:
    error = error_of(do(app, drain, f"tests.tasks:{task}", on_crash="fail"))
    assert (error.kind, error.message) == ("WorkerDied", f"the process died of signal {signal}")


@pytest.mark.usefixtures("neighbours")
def test_a_job_that_stops_itself_is_ended_by_its_timeout(app: App, drain: Drain) -> None:
    assert error_of(do(app, drain, "tests.tasks:stop_itself", timeout="200ms")).kind == "TimedOut"


@pytest.mark.usefixtures("neighbours")
def test_a_job_that_kills_the_template_is_ended_by_its_crash_budget(app: App, drain: Drain) -> None:
    job = app.enqueue("tests.tasks:kill_template", priority=-1)
    drain(jobs=1)
    assert error_of(job).kind == "WorkerDied"


@pytest.mark.usefixtures("neighbours")
def test_where_a_child_returns_into_the_worker_the_first_outcome_counts(app: App, drain: Drain) -> None:
    job = do(app, drain, "tests.tasks:forked_child_returns")
    assert isinstance(job.result(), int)


WRONG = [
    '["ask"]',
    '["outcome"]',
    '["outcome", "nonsense", null]',
    '["outcome", null, null]',
    '["progress", 7, null]',
    '["progress", NaN, null]',
    '["progress", 0.5, {"a": 1}]',
    '["declared", "[]"]',
    '["ask", "wait", [[1e400], null]]',
    "[" * 100_000,
]


def message(text: str) -> str:
    return len(text).to_bytes(4, "big").decode("latin-1") + text


@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize(
    "text", ["garbage", "\xff" * 100, "\0\0\0\x02[]", "\0\0\0\x02{}", *map(message, WRONG)], ids=range(4 + len(WRONG))
)
def test_a_job_that_writes_into_its_channel_is_killed_alone(app: App, drain: Drain, text: str) -> None:
    job = do(app, drain, "tests.tasks:write_into_channel", {"text": text}, on_crash="fail")
    assert error_of(job).message == "the process died of signal 9 (SIGKILL)"


@pytest.mark.usefixtures("neighbours")
@pytest.mark.parametrize(("what", "kept"), [("surrogate", "\\ud800"), ("large", "x" * 1000)])
def test_odd_progress_is_kept_as_far_as_it_can_be(app: App, drain: Drain, what: str, kept: str) -> None:
    job = do(app, drain, "tests.tasks:say_odd_progress", {"what": what})
    assert job.status is Status.SUCCESS
    assert job.progress
    assert (job.progress.fraction, job.progress.message) == (0.5, kept)


@pytest.mark.parametrize("what", ["number", "object"])
def test_progress_that_is_no_text_is_an_error_of_the_job(app: App, drain: Drain, what: str) -> None:
    job = do(app, drain, "tests.tasks:say_odd_progress", {"what": what})
    assert error_of(job).kind == "TypeError"


# Output ----------------------------------------------------------------------------------------------


def test_a_flood_of_output_is_bounded_and_the_runner_does_not_grow(app: App, runner: StartRunner, path: Path) -> None:
    running = runner(jobs=2)
    assert app.enqueue("tests.tasks:square", {"n": 2}).result(timeout=60) == 4
    before = peak_kb(running.pid)
    job = app.enqueue("tests.tasks:print_much", {"megabytes": 200})
    neighbour = app.enqueue("tests.tasks:square", {"n": 3})
    app.wait([job, neighbour])
    assert (job.status, neighbour.result()) == (Status.SUCCESS, 9)
    assert peak_kb(running.pid) - before < 30_000
    kept, cut = rows(path, "SELECT sum(length(data)), sum(cut) FROM jr_output WHERE invocation = ?", job.id)[0]
    assert (kept, kept + cut) == (1 << 20, 200_000_000)
    assert f"[{cut} bytes cut here]" in job.log()


@pytest.mark.usefixtures("neighbours")
def test_output_without_end_or_newline_is_bounded(app: App, drain: Drain) -> None:
    job = do(app, drain, "tests.tasks:print_for_ever", timeout="700ms")
    assert error_of(job).kind == "TimedOut"
    assert job.log().startswith("no newline no newline ")
    assert len(job.log()) <= (1 << 20) + 100


@pytest.mark.parametrize(
    ("task", "args", "log"),
    [
        ("print_bytes", {"numbers": [255, 254, 104, 105]}, "\\xff\\xfehi"),
        ("print_bytes", {"numbers": [0, 27, 91, 109]}, "\0\x1b[m"),
        ("print_surrogate", {}, "\\ud800|"),
        ("say", {"text": "🐟\r\n\t\u2028"}, "🐟\r\n\t\u2028"),
    ],
)
def test_whatever_is_printed_can_be_read(app: App, drain: Drain, task: str, args: Any, log: str) -> None:
    job = do(app, drain, f"tests.tasks:{task}", args)
    assert (job.status, job.log()) == (Status.SUCCESS, log)


def test_what_an_import_prints_belongs_to_the_job_that_imported(app: App, drain: Drain) -> None:
    job = do(app, drain, "tests.awkward.prints:what_was_typed")
    assert job.log() == "hello from the import\n"


# Arguments -------------------------------------------------------------------------------------------


def test_the_largest_arguments_and_results_that_are_allowed_pass(app: App, drain: Drain) -> None:
    text = '"\\\n\0é🐟' * 58_000
    job = do(app, drain, "tests.tasks:echo", {"value": text})
    assert job.result() == text


def test_a_runner_that_is_told_to_import_what_cannot_be_imported_says_so(runner: StartRunner) -> None:
    running = runner(imports=["tests.awkward.raises"])
    running.may_fail = True
    until(lambda: not running.is_running)
    assert running.wait() != 0
    assert "--import tests.awkward.raises failed: ZeroDivisionError: at import" in running.stderr
