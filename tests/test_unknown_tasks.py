"""Tasks that a runner's code does not have: at a deploy, an old runner meets new jobs. They stay, and are told of."""

from pathlib import Path

import pytest

from jobrunner import App, Status
from tests.cli_helpers import Cli
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import RunnerProcess
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.waiting import until

NEW = """
from jobrunner import App
app = App()

@app.task(aliases=["shop:send", "long_gone:send"])
def dispatch(user: int = 0) -> str:
    return f"new {user}"
"""


def release(folder: Path, text: str) -> None:
    (folder / "shop.py").write_text(text)


def until_put_off(app: App, job: int) -> None:
    until(lambda: app.invocation(job).status is Status.SCHEDULED)


@pytest.mark.parametrize("mode", RUNNERS)
@pytest.mark.parametrize("task", ["shop:dispatch", "no_such_module:send", "shop:Class.method"])
def test_it_stays_and_spends_nothing(
    app: App, runner: StartRunner, folder: Path, path: Path, mode: str, task: str
) -> None:
    release(folder, "def send(): ...")
    job = app.enqueue(task)
    running = runner(**slots(mode, 1), app_dir=str(folder))
    until_put_off(app, job.id)
    details = job.details
    assert (details.attempts, details.crashes) == (0, 0)
    assert details.reason is not None
    assert details.reason.startswith("no runner knows its task: ")
    assert app.enqueue("shop:send").result(timeout=30) is None, "others are done"
    assert rows(path, "SELECT outcome FROM jr_attempt WHERE invocation = 1") == [("unknown",)]
    assert running.is_running


@pytest.mark.parametrize("mode", RUNNERS)
def test_the_next_runner_does_it(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    release(folder, "def send(): ...")
    job = app.enqueue("shop:dispatch", {"user": 7})
    first = runner(**slots(mode, 1), app_dir=str(folder))
    until_put_off(app, job.id)
    first.stop()
    release(folder, NEW)
    runner(**slots(mode, 1), app_dir=str(folder))
    assert job.result(timeout=30) == "new 7"
    assert job.details.attempts == 1


@pytest.mark.parametrize("name", ["shop:send", "long_gone:send"])
def test_a_task_answers_to_the_names_that_it_had(app: App, runner: StartRunner, folder: Path, name: str) -> None:
    release(folder, NEW)
    job = app.enqueue(name, {"user": 3})
    runner(jobs=1, app_dir=str(folder), imports=("shop",))
    assert job.result(timeout=30) == "new 3"


def test_a_drain_does_not_wait_for_it_and_it_is_told_of(folder: Path) -> None:
    cli = Cli(folder)
    job = cli.enqueue("no_such_module:send")
    assert cli("run", "--drain", "-q").returncode == 0
    assert "no runner knows its task: there is no module 'no_such_module'" in cli.ok("show", str(job))
    assert "unknown tasks\tno_such_module:send\t1" in cli.ok("status")
    assert "1 jobs of no_such_module:send wait" in cli("doctor").stdout
    assert cli.json("status")["unknown_tasks"] == {"no_such_module:send": 1}
    assert "no runner knows no_such_module:send (1 jobs)" in cli.at_terminal("status")
    assert cli.ok("retry", str(job)) == f"{job}\n"
    assert cli("run", "--drain", "-q").returncode == 0
    cli.ok("cancel", str(job))
    assert "unknown tasks" not in cli.ok("status")


def test_it_is_tried_later_and_later(app: App, runner: StartRunner, path: Path) -> None:
    job = app.enqueue("no_such_module:send")
    running: RunnerProcess = runner(jobs=1)
    waits = []
    for _ in range(3):
        until(lambda: rows(path, "SELECT status FROM jr_invocation") == [("scheduled",)])
        waits.append(rows(path, "SELECT run_at - changed_at FROM jr_invocation")[0][0])
        rows(path, "UPDATE jr_invocation SET run_at = 1 WHERE status = 'scheduled'")
        until(lambda: job.details.claim > len(waits))
    assert waits == [5000, 10_000, 20_000]
    assert running.is_running
