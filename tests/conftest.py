"""Each test has a folder of its own, with one database, and leaves no process and no unlawful change behind."""

import itertools
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobrunner import App
from jobrunner.database import Database
from tests import tasks
from tests.helpers.files import is_ours, rows
from tests.helpers.processes import RunnerProcess, carriers
from tests.helpers.trace import FOLDER_VARIABLE
from tests.helpers.waiting import SECONDS, until

SAID = "said"
"""The name under which what a test wants to tell people travels to the summary."""

# A shell that starts the tests in the background has them ignore INT, and so all that they start; Ctrl-C is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the same under nohup

Say = Callable[[str], None]
StartRunner = Callable[..., RunnerProcess]
Ask = Callable[[Path, str], list[tuple[Any, ...]]]
"""The rows of a statement in a database."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, action="append", default=[], help="simulate this seed, and no other")
    parser.addoption(
        "--strict-skips", action="store_true", help="fail where a test is skipped that is not allowed to be"
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not session.config.getoption("--strict-skips"):
        return
    lines = (Path(__file__).parent / "allowed_skips.txt").read_text().splitlines()
    allowed = {line.partition("#")[0].strip() for line in lines}
    refused = [one.nodeid for one in reporter.stats.get("skipped", ()) if one.nodeid.partition("[")[0] not in allowed]
    if refused:
        reporter.write_line(f"\nskipped, and not in tests/allowed_skips.txt: {', '.join(refused)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())):
        for name, value in report.user_properties:
            if name == SAID:
                terminalreporter.write_line(f"{report.nodeid}: {value}")


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """Tells something in the summary, in whichever process the test runs."""
    return lambda text: record_property(SAID, text)


@pytest.fixture
def seeds_asked_for(request: pytest.FixtureRequest) -> list[int]:
    """Those of --seed."""
    return list(request.config.getoption("--seed"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def path(folder: Path) -> Path:
    """Of the test's database; the file is not there yet."""
    return folder / "jobs.db"


@pytest.fixture(autouse=True)
def order_is_kept(folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("JOBRUNNER_DB", str(path))
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    yield
    tasks.app.close()
    databases = [file for file in folder.rglob("*.db") if file.is_file() and is_ours(file)]
    tokens = {str(token) for file in databases for (token,) in rows(file, "SELECT token FROM jr_runner")}
    until(lambda: carriers(folder, tokens) == {}, seconds=10)
    for file in databases:
        check_history(file)
        check_waits(file)


def check_history(path: Path, ask: Ask = rows) -> None:
    """Every change of status is lawful, starts where the one before ended, and the last one led to where the job is."""
    law = set(ask(path, "SELECT from_status, to_status FROM jr_status_law"))
    at: dict[int, str] = {}
    for job, before, after in ask(path, "SELECT job, from_status, to_status FROM history"):
        assert before == at.get(job), f"job {job}: {before} -> {after} follows {at.get(job)}"
        assert before is None or (before, after) in law, f"job {job}: {before} -> {after} is not in the law"
        at[job] = after
    assert at == dict(ask(path, "SELECT id, status FROM jr_invocation"))


def check_waits(path: Path, ask: Ask = rows) -> None:
    """Only who is paused waits for somebody, and who is not finished knows how many wait for it."""
    told: dict[int, int] = dict(
        ask(path, "SELECT id, waiters FROM jr_invocation WHERE finished_at IS NULL AND waiters > 0")
    )
    edges = ask(path, "SELECT awaited, status FROM jr_edge JOIN jr_invocation ON id = waiter")
    assert {status for _, status in edges} <= {"paused"}
    awaited = Counter(one for one, _ in edges)
    unfinished = {one for (one,) in ask(path, "SELECT id FROM jr_invocation WHERE finished_at IS NULL")}
    assert told == {one: count for one, count in awaited.items() if one in unfinished}


@pytest.fixture
def app() -> App:
    """The application that the tasks of the tests belong to, on the test's database."""
    return tasks.app


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database(path, create=True, relaxed=True) as opened:
        yield opened


@pytest.fixture
def runner(folder: Path) -> Iterator[StartRunner]:
    """Starts a runner: `runner(jobs=2, drain=True)`."""
    started: list[RunnerProcess] = []
    numbers = itertools.count(1)

    def start(through: Sequence[str] = (), **settings: Any) -> RunnerProcess:
        # What still runs when a test is over need not be waited for.
        started.append(RunnerProcess(folder, next(numbers), {"shutdown_timeout": 0.5, **settings}, through))
        return started[-1]

    yield start
    for one in started:
        one.stop()
        assert one.may_fail or (one.wait() in {0, -signal.SIGKILL} and "Traceback" not in one.stderr), one.stderr
        assert "is locked" not in one.stderr, one.stderr


@pytest.fixture
def drain(runner: StartRunner) -> Callable[..., RunnerProcess]:
    """Runs a runner until everything is done."""

    def run(seconds: float = SECONDS, **settings: Any) -> RunnerProcess:
        started = runner(**{"jobs": 2, "drain": True, **settings})
        assert started.wait(seconds) == 0, started.stderr
        return started

    return run
