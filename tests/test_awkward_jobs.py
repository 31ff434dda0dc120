"""Jobs that do what they should not: each has an outcome with a name, its neighbours succeed and the runner goes on."""

import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App, Invocation, InvocationFailed, Status
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import RunnerProcess, peak_kb

Drain = Callable[..., RunnerProcess]


@pytest.fixture
def neighbours(app: App) -> Iterator[None]:
    """Jobs before, beside and after awkward ones."""
    jobs = [app.enqueue("tests.tasks:square", {"n": n}, priority=5 - n) for n in range(10)]
    yield
    assert [job.result() for job in jobs] == [n * n for n in range(10)]


pytestmark = pytest.mark.usefixtures("neighbours")


def do_all(app: App, drain: Drain, calls: Iterable[tuple[str, Any]], **options: Any) -> list[Invocation[Any]]:
    """All of these jobs, done by one runner; each task is a function of tests.tasks, or of the module that it names."""
    names = [(task if ":" in task else f"tests.tasks:{task}", args) for task, args in calls]
    jobs = [app.enqueue(task, args, **options) for task, args in names]
    drain(jobs=2)
    return jobs


def do(app: App, drain: Drain, task: str, args: Any = None, **options: Any) -> Invocation[Any]:
    return do_all(app, drain, [(task, args)], **options)[0]


def error_of(job: Invocation[Any]) -> InvocationFailed:
    assert job.status is Status.FAILED, job.details
    with pytest.raises(InvocationFailed) as caught:
        job.result()
    return caught.value


UNUSUAL: list[tuple[str, Any, Any]] = [
    ("use_multiprocessing", {"method": "fork"}, [0, 2, 4, 6, 8, 42]),
    ("use_multiprocessing", {"method": "spawn"}, [0, 2, 4, 6, 8, 42]),
    ("square_later", {"n": 3}, 9),
    ("break_streams", {}, 1),
    ("use_threads", {}, 4),
    ("leave_thread", {}, 1),
    ("many_descriptors", {}, 2000),
    ("change_folder_and_environment", {}, 1),
    ("tests.awkward.starts_threads:thread_is_alive", {}, True),
    ("tests.awkward.starts_threads:thread_is_alive", {}, True),
    ("tests.awkward.prints:what_was_typed", {}, ""),
]


def test_what_is_unusual_but_allowed_succeeds(app: App, drain: Drain) -> None:
    jobs = do_all(app, drain, [(task, args) for task, args, _ in UNUSUAL])
    assert [job.result() for job in jobs] == [result for _, _, result in UNUSUAL]


NOT_SERIALIZABLE = "jobrunner.errors.NotSerializable"
NOT_FOUND = "jobrunner.errors.TaskNotFound"
WRONG: list[tuple[str, Any, str, str]] = [
    ("exit_at_once", {"code": 3}, "WorkerExited", "the process exited with code 3 before the function returned"),
    ("exit_at_once", {"code": 0}, "WorkerExited", "the process exited with code 0 before the function returned"),
    ("exit_politely", {"code": 3}, "SystemExit", "3"),
    ("close_everything", {}, "OutcomeLost", "the job closed the channel"),
    ("recurse", {}, "RecursionError", "maximum recursion depth exceeded"),
    ("give", {"what": "a set"}, NOT_SERIALIZABLE, "the function was done, but the result"),
    ("give", {"what": "an object"}, NOT_SERIALIZABLE, "type Odd is not JSON serializable"),
    ("give", {"what": "5 MB"}, NOT_SERIALIZABLE, "5,000,002 bytes of JSON, and the limit is"),
    ("give", {"what": "NaN"}, NOT_SERIALIZABLE, "are not plain JSON data"),
    ("give", {"what": "a lone surrogate"}, NOT_SERIALIZABLE, "lone surrogate"),
    ("give", {"what": "too deep"}, NOT_SERIALIZABLE, "nested deeper than 100 levels"),
    ("give", {"what": "a key that is no text"}, NOT_SERIALIZABLE, "keys must be"),
    ("give", {"what": "itself"}, NOT_SERIALIZABLE, "the function was done, but"),
    ("throw", {"what": "odd"}, "tests.tasks.OddError", "its text cannot be had: ZeroDivisionError"),
    ("throw", {"what": "SystemExit"}, "SystemExit", "3"),
    ("throw", {"what": "KeyboardInterrupt"}, "KeyboardInterrupt", ""),
    ("throw", {"what": "surrogate"}, "ValueError", "\\ud800 <b> \x1b[31m"),
    ("throw", {"what": "large"}, "ValueError", "xxxx"),
    ("throw", {"what": "group"}, "ExceptionGroup", "several (2 sub-exceptions)"),
    ("throw", {"what": "generator"}, "GeneratorExit", ""),
    ("fail_later", {}, "ValueError", "later"),
    ("square", {"m": 1}, "TypeError", "unexpected keyword argument 'm'"),
    ("square", {}, "TypeError", "missing 1 required positional argument: 'n'"),
    ("say_odd_progress", {"what": "number"}, "TypeError", "the message of a progress is a text"),
    ("say_odd_progress", {"what": "object"}, "TypeError", "the message of a progress is a text"),
    ("AWKWARD", {}, NOT_FOUND, "AWKWARD is a dict, not a function"),
    ("tests.awkward.raises:x", {}, "ZeroDivisionError", "at import"),
    ("tests.awkward.exits:x", {}, "SystemExit", "at import"),
    ("tests.awkward.needs_more:x", {}, "ModuleNotFoundError", "No module named 'no_such_package'"),
]


def test_what_goes_wrong_in_a_function_or_its_import_is_told(app: App, drain: Drain) -> None:
    jobs = do_all(app, drain, [(task, args) for task, args, _, _ in WRONG])
    errors = [error_of(job) for job in jobs]
    assert [error.kind for error in errors] == [kind for _, _, kind, _ in WRONG]
    for error, (task, args, _, message) in zip(errors, WRONG, strict=True):
        assert message in error.message, (task, args)
        assert len(error.message) <= 10_000


def test_what_a_job_has_opened_in_the_place_of_its_channel_gets_none_of_our_words(
    app: App, drain: Drain, folder: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.settimeout(60)
        listening.bind(str(folder / "socket"))
        listening.listen(20)
        task = "tests.together:connect_in_the_place_of_everything"
        assert error_of(do(app, drain, task, {"path": str(folder / "socket"), "count": 20})).kind == "OutcomeLost"
        for _ in range(20):
            connected, _address = listening.accept()
            with connected:
                assert connected.recv(1000) == b""


def test_the_signal_that_a_job_dies_of_is_told(app: App, drain: Drain) -> None:
    deaths = {"segfault": "11 (SIGSEGV)", "abort": "6 (SIGABRT)", "kill_itself": "9 (SIGKILL)"}
    jobs = do_all(app, drain, [(task, {}) for task in deaths], on_crash="fail")
    told = [(error_of(job).kind, error_of(job).message) for job in jobs]
    assert told == [("WorkerDied", f"the process died of signal {signal}") for signal in deaths.values()]


def test_a_job_that_stops_itself_is_ended_by_its_timeout(app: App, drain: Drain) -> None:
    assert error_of(do(app, drain, "stop_itself", timeout="200ms")).kind == "TimedOut"


def test_a_job_that_kills_the_template_is_ended_by_its_crash_budget(app: App, drain: Drain) -> None:
    job = app.enqueue("tests.tasks:kill_template", priority=-100)
    drain(jobs=1)
    assert error_of(job).kind == "WorkerDied"


def test_where_a_child_returns_into_the_worker_the_first_outcome_counts(app: App, drain: Drain) -> None:
    job = do(app, drain, "forked_child_returns")
    assert isinstance(job.result(), int)


GARBAGE = ["garbage", "\xff" * 100]
NO_MESSAGES = [
    "[]",
    "{}",
    "7",
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


def test_jobs_that_write_into_their_channels_are_killed_alone(app: App, drain: Drain) -> None:
    framed = [len(text).to_bytes(4, "big").decode("latin-1") + text for text in NO_MESSAGES]
    jobs = do_all(app, drain, [("write_into_channel", {"text": text}) for text in GARBAGE + framed], on_crash="fail")
    assert {error_of(job).message for job in jobs} == {"the process died of signal 9 (SIGKILL)"}


def test_odd_progress_is_kept_as_far_as_it_can_be(app: App, drain: Drain) -> None:
    kept = {"surrogate": "\\ud800", "large": "x" * 1000}
    jobs = do_all(app, drain, [("say_odd_progress", {"what": what}) for what in kept])
    said = [job.progress for job in jobs]
    assert [(one.fraction, one.message) for one in said if one] == [(0.5, text) for text in kept.values()]


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


def test_output_without_end_or_newline_is_bounded(app: App, drain: Drain) -> None:
    job = do(app, drain, "print_for_ever", timeout="700ms")
    assert error_of(job).kind == "TimedOut"
    assert job.log().startswith("no newline no newline ")
    assert len(job.log()) <= (1 << 20) + 100


PRINTED: list[tuple[str, Any, str]] = [
    ("print_bytes", {"numbers": [255, 254, 104, 105]}, "\\xff\\xfehi"),
    ("print_bytes", {"numbers": [0, 27, 91, 109]}, "\0\x1b[m"),
    ("print_surrogate", {}, "\\ud800|"),
    ("say", {"text": "🐟\r\n\t\u2028"}, "🐟\r\n\t\u2028"),
    ("tests.awkward.prints:what_was_typed", {}, "hello from the import\n"),
]


def test_whatever_is_printed_can_be_read(app: App, drain: Drain) -> None:
    jobs = do_all(app, drain, [(task, args) for task, args, _ in PRINTED])
    assert [job.log() for job in jobs] == [log for _, _, log in PRINTED]


# Arguments -------------------------------------------------------------------------------------------


def test_the_largest_arguments_and_results_that_are_allowed_pass(app: App, drain: Drain) -> None:
    text = '"\\\n\0é🐟' * 58_000
    job = do(app, drain, "echo", {"value": text})
    assert job.result() == text
