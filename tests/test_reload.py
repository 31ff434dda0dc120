"""New code for a running runner: HUP, or a file that is saved, has it loaded beside the old, which ends its jobs."""

import os
import pty
import py_compile
import signal
import sys
import time
from pathlib import Path

import pytest

from jobrunner import App, Status
from tests.conftest import StartRunner
from tests.helpers.files import rows
from tests.helpers.processes import RunnerProcess, carriers, is_alive
from tests.helpers.runners import RUNNERS, slots
from tests.helpers.waiting import until, until_gone

SHOP = """
import os, time
from pathlib import Path

def word():
    return "old"

def hold():
    # Until a file says that it may end.
    Path("holds").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return "old"

def pid():
    return os.getpid()
"""
NEW = SHOP.replace('"old"', '"new"')
TAKEN = "the new code is taken"
REFUSED = "the old code goes on"

IGNORING = ("/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh")
TAKE_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(os.open(sys.argv[1], os.O_RDWR), termios.TIOCSCTTY, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""
AT_TERMINAL = (sys.executable, "-c", TAKE_TERMINAL)


def release(folder: Path, text: str, module: str = "shop") -> None:
    (folder / f"{module}.py").write_text(text)


def let_go(folder: Path) -> None:
    (folder / "go").touch()


def start(runner: StartRunner, folder: Path, mode: str = "process", count: int = 2, **more: object) -> RunnerProcess:
    started = runner(**slots(mode, count), app_dir=str(folder), shutdown_timeout=30, **more)
    started.until_ready()
    return started


def until_said(running: RunnerProcess, words: str, times: int = 1) -> None:
    until(lambda: running.stderr.count(words) >= times or not running.is_running)
    assert running.is_running, running.stderr


def reload(running: RunnerProcess, words: str = TAKEN) -> None:
    """HUP, and return when the runner has said what came of it."""
    before = running.stderr.count(words)
    running.hang_up()
    until_said(running, words, before + 1)


def hold(app: App, folder: Path) -> int:
    """A job that runs until it is let go."""
    job = app.enqueue("shop:hold")
    until((folder / "holds").exists)
    (folder / "holds").unlink()
    return job.id


# HUP -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("imports", [(), ("shop",)])
@pytest.mark.parametrize("mode", RUNNERS)
def test_new_jobs_have_the_new_code_and_running_ones_finish_with_the_old(
    app: App, runner: StartRunner, folder: Path, mode: str, imports: tuple[str, ...]
) -> None:
    release(folder, SHOP)
    running = start(runner, folder, mode, imports=imports)
    held = app.invocation(hold(app, folder))
    release(folder, NEW)  # of the same size, and often in the same second
    reload(running)
    assert app.enqueue("shop:word").result(timeout=30) == "new"
    assert held.status is Status.RUNNING
    let_go(folder)
    assert held.result(timeout=30) == "old"
    assert held.details.attempts == 1
    until(lambda: len(running.templates) == 1)


def test_code_that_was_compiled_in_the_second_of_its_change_is_not_believed(
    app: App, runner: StartRunner, folder: Path
) -> None:
    second = int(time.time()) - 100
    release(folder, SHOP)
    os.utime(folder / "shop.py", (second, second + 0.2))
    compiled = Path(py_compile.compile(str(folder / "shop.py"), doraise=True) or "")
    os.utime(compiled, (second, second + 0.4))  # by the program that enqueues, say
    release(folder, NEW)
    os.utime(folder / "shop.py", (second, second + 0.6))
    start(runner, folder, imports=("shop",))
    assert app.enqueue("shop:word").result(timeout=30) == "new"


@pytest.mark.parametrize("mode", RUNNERS)
def test_in_a_storm_of_hangups_nothing_is_lost_and_nothing_is_done_twice(
    app: App, runner: StartRunner, folder: Path, path: Path, mode: str
) -> None:
    release(folder, "import time\ndef work():\n    time.sleep(0.01)\n    return 0\n")
    running = start(runner, folder, mode, count=4)
    jobs = []
    for number in range(300):
        jobs.append(app.enqueue("shop:work"))
        if number % 3 == 0:
            release(folder, f"import time\ndef work():\n    time.sleep(0.01)\n    return {number}\n")
            running.hang_up()
    app.wait(jobs, timeout=60)
    assert rows(path, "SELECT status, count(*) FROM jr_invocation GROUP BY 1") == [("success", 300)]
    assert rows(path, "SELECT max(attempts), max(crashes) FROM jr_invocation, jobs USING (id)") == [(1, 0)]
    assert 0 < running.stderr.count(TAKEN) <= 100
    until(lambda: app.enqueue("shop:work").result(timeout=30) == 297)
    until(lambda: len(running.templates) == 1)


@pytest.mark.parametrize(
    "broken", ["def word( return", "import not_there", "raise SystemExit", "import os; os._exit(0)"]
)
@pytest.mark.parametrize("mode", RUNNERS)
def test_what_cannot_be_imported_is_told_and_not_taken(
    app: App, runner: StartRunner, folder: Path, mode: str, broken: str
) -> None:
    release(folder, SHOP)
    running = start(runner, folder, mode)
    running.may_fail = True  # it tells a traceback
    for _ in range(2):  # by the second one the template has imported it, too
        assert app.enqueue("shop:word").result(timeout=30) == "old"
    release(folder, broken)
    reload(running, REFUSED)
    assert TAKEN not in running.stderr
    assert app.enqueue("shop:word").result(timeout=30) == "old"
    release(folder, NEW)
    reload(running)
    assert app.enqueue("shop:word").result(timeout=30) == "new"


def test_an_import_that_was_asked_for_may_fail_as_well(app: App, runner: StartRunner, folder: Path) -> None:
    release(folder, SHOP)
    running = start(runner, folder, imports=("shop",))
    running.may_fail = True
    release(folder, "1 / 0")
    reload(running, REFUSED)
    assert "shop cannot be imported: ZeroDivisionError: division by zero" in running.stderr
    assert app.enqueue("shop:word").result(timeout=30) == "old"


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_module_that_is_gone_keeps_no_new_code_away(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    release(folder, SHOP)
    release(folder, SHOP, "other")
    running = start(runner, folder, mode)
    for task in ("shop:word", "other:word"):
        assert app.enqueue(task).result(timeout=30) == "old"
    (folder / "other.py").unlink()
    release(folder, NEW)
    reload(running)
    assert app.enqueue("shop:word").result(timeout=30) == "new"


def test_what_a_module_starts_when_it_is_imported_is_not_shared(app: App, runner: StartRunner, folder: Path) -> None:
    release(folder, "import threading, subprocess\nthreading.Event()\ndef word(): return 1")
    running = start(runner, folder)
    assert app.enqueue("shop:word").result(timeout=30) == 1
    opens = "import os, subprocess\nfile = open(__file__)\nsubprocess.Popen(['sleep', '1000'])\n"
    release(folder, opens + "def word(): return [os.getpid() == os.getpgid(0), os.lseek(file.fileno(), 1, 1)]")
    reload(running)
    assert [app.enqueue("shop:word").result(timeout=30) for _ in range(2)] == [[True, 1]] * 2
    until(lambda: not any(command.startswith("sleep") for command in carriers(folder, set()).values()))


def test_a_module_that_waits_for_no_child_keeps_no_new_code_away(app: App, runner: StartRunner, folder: Path) -> None:
    release(folder, "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n", "careless")
    release(folder, SHOP)
    running = start(runner, folder, imports=["careless"])
    assert app.enqueue("shop:word").result(timeout=60) == "old"
    release(folder, NEW)
    running.hang_up()
    until(lambda: TAKEN in running.stderr or REFUSED in running.stderr)
    assert app.enqueue("shop:word").result(timeout=60) == "new"


@pytest.mark.parametrize("mode", RUNNERS)
def test_jobs_of_tasks_that_come_with_the_new_code_are_done(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    release(folder, SHOP)
    running = start(runner, folder, mode, imports=("shop",))
    renamed = "from jobrunner import App\n@App().task(aliases=['shop:word'])\ndef said(): return 'renamed'\n"
    early = app.enqueue("shop:said")
    until(lambda: early.status is Status.SCHEDULED)
    release(folder, renamed)
    reload(running)
    assert early.result(timeout=4) == "renamed", "it need not wait until it would be tried again"
    assert app.enqueue("shop:word").result(timeout=30) == "renamed"


def test_schedules_of_the_new_code_are_written_down(app: App, runner: StartRunner, folder: Path, path: Path) -> None:
    declares = "from jobrunner import App, every\n@App().schedule(every('1h'), name='{}')\ndef word(): ...\n"
    release(folder, declares.format("first"))
    running = start(runner, folder, imports=("shop",))
    release(folder, declares.format("second"))
    reload(running)
    assert rows(path, "SELECT name, vanished_at IS NULL FROM jr_schedule ORDER BY 1") == [("first", 0), ("second", 1)]
    twice = declares.format("third") + declares.format("third").replace("word", "other")
    release(folder, twice)
    reload(running, REFUSED)
    assert "two functions declare a schedule 'third'" in running.stderr
    assert rows(path, "SELECT count(*) FROM jr_schedule") == [(2,)]


# Templates side by side ----------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [0, 1], ids=["the old one", "the new one"])
@pytest.mark.parametrize("mode", RUNNERS)
def test_a_template_that_dies_takes_only_its_own_jobs_along(
    app: App, runner: StartRunner, folder: Path, mode: str, victim: int
) -> None:
    release(folder, SHOP)
    running = start(runner, folder, mode, count=4)
    held = [hold(app, folder)]
    reload(running)
    held.append(hold(app, folder))
    templates = running.templates
    assert len(templates) == 2
    os.kill(templates[victim], signal.SIGKILL)
    until((folder / "holds").exists)  # it is done again
    let_go(folder)
    app.wait(held, timeout=30)
    found = [app.invocation(one).details for one in held]
    assert [one.crashes for one in found] == [int(victim == 0), int(victim == 1)]
    assert [one.claim for one in found] == [1 + int(victim == 0), 1 + int(victim == 1)]
    assert all(one.status is Status.SUCCESS for one in found)
    until(lambda: len(running.templates) == 1)


@pytest.mark.parametrize("mode", RUNNERS)
def test_one_that_dies_while_it_loads_the_new_code_harms_nobody(
    app: App, runner: StartRunner, folder: Path, mode: str
) -> None:
    release(folder, SHOP)
    running = start(runner, folder, mode)
    held = app.invocation(hold(app, folder))
    release(folder, NEW + "\nhold()\n")
    running.hang_up()
    until((folder / "holds").exists)
    os.kill(running.templates[1], signal.SIGKILL)
    until_said(running, REFUSED)
    release(folder, NEW)
    reload(running)
    assert app.enqueue("shop:word").result(timeout=30) == "new"
    let_go(folder)
    assert held.result(timeout=30) == "old"
    assert held.details.claim == 1


def test_a_hangup_right_after_the_death_of_the_template(app: App, runner: StartRunner, folder: Path) -> None:
    release(folder, SHOP)
    running = start(runner, folder)
    held = app.invocation(hold(app, folder))
    os.kill(running.template, signal.SIGKILL)
    running.hang_up()
    let_go(folder)
    assert held.result(timeout=30) == "old"
    until_said(running, TAKEN)
    assert app.enqueue("shop:word").result(timeout=30) == "old"


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_killed_runner_leaves_no_template_behind(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    release(folder, SHOP)
    running = start(runner, folder, mode)
    held = app.invocation(hold(app, folder))
    reload(running)
    everybody = running.templates
    assert len(everybody) == 2
    running.kill()
    until_gone(everybody)
    let_go(folder)
    start(runner, folder, mode)
    assert held.result(timeout=30) == "old"


# When it does not fit -----------------------------------------------------------------------------------


def test_a_hangup_while_the_runner_starts(app: App, runner: StartRunner, folder: Path) -> None:
    release(folder, SHOP + "\nhold()\n")
    running = runner(jobs=1, app_dir=str(folder), imports=("shop",))
    until((folder / "holds").exists)
    running.hang_up()
    let_go(folder)
    until_said(running, TAKEN)
    assert app.enqueue("shop:word").result(timeout=30) == "old"


@pytest.mark.parametrize("mode", RUNNERS)
def test_a_hangup_while_the_runner_stops(app: App, runner: StartRunner, folder: Path, mode: str) -> None:
    release(folder, SHOP)
    running = start(runner, folder, mode)
    held = app.invocation(hold(app, folder))
    running.terminate()
    until_said(running, "stopping: ")
    running.hang_up()
    let_go(folder)
    assert running.wait() == 0
    assert held.result(timeout=30) == "old"
    assert TAKEN not in running.stderr


def test_a_hangup_during_a_drain(app: App, runner: StartRunner, folder: Path) -> None:
    release(folder, SHOP)
    job = app.enqueue("shop:hold")
    running = runner(jobs=1, app_dir=str(folder), drain=True)
    until((folder / "holds").exists)
    release(folder, NEW)
    after = app.enqueue("shop:word")
    reload(running)
    let_go(folder)
    assert running.wait() == 0
    assert (job.result(), after.result()) == ("old", "new")


def test_where_hangups_are_ignored_they_stay_so(app: App, runner: StartRunner, folder: Path) -> None:
    release(folder, SHOP)
    running = start(runner, folder, imports=("shop",), through=IGNORING)
    assert app.enqueue("shop:word").result(timeout=30) == "old"
    release(folder, NEW)
    running.hang_up()
    assert app.enqueue("shop:word").result(timeout=30) == "old"
    running.terminate()
    assert running.wait() == 0
    assert "HUP" not in running.stderr


def test_a_terminal_that_is_closed_ends_its_runner(app: App, runner: StartRunner, folder: Path) -> None:
    release(folder, SHOP)
    ours, theirs = pty.openpty()
    running = start(runner, folder, through=(*AT_TERMINAL, os.ttyname(theirs)))
    held = app.invocation(hold(app, folder))
    reload(running)  # there is a terminal still: HUP comes from an operator
    os.close(theirs)
    os.close(ours)
    until_said(running, "stopping: ")
    let_go(folder)
    assert running.wait() == 0
    assert held.result() == "old"


# Files that are saved ------------------------------------------------------------------------------------


@pytest.mark.parametrize("imports", [(), ("shop",)])
@pytest.mark.parametrize("mode", RUNNERS)
def test_a_file_that_is_saved_is_loaded_by_itself(
    app: App, runner: StartRunner, folder: Path, mode: str, imports: tuple[str, ...]
) -> None:
    release(folder, "word = 'old'", "words")
    release(folder, "import words\ndef word(): return words.word")
    running = start(runner, folder, mode, imports=imports, reload=True)
    running.may_fail = True  # it tells a traceback
    assert app.enqueue("shop:word").result(timeout=30) == "old"
    release(folder, "word = 'new'", "words")
    until_said(running, TAKEN)
    assert f"{folder}/words.py has changed: the code is loaded anew" in running.stderr
    assert app.enqueue("shop:word").result(timeout=30) == "new"
    release(folder, "word = = 'bad'", "words")
    until_said(running, REFUSED)
    assert app.enqueue("shop:word").result(timeout=30) == "new"
    release(folder, "import more\nword = more.word", "words")
    until_said(running, "No module named 'more'")
    release(folder, "word = 'more'", "more")
    until_said(running, TAKEN, 2)
    assert app.enqueue("shop:word").result(timeout=30) == "more"
    assert running.stderr.count("is loaded anew") == 4, "nothing is loaded that has not changed"


def test_a_file_that_is_saved_between_a_jobs_import_and_the_templates_is_loaded_by_itself(
    app: App, runner: StartRunner, folder: Path
) -> None:
    release(folder, "word = 'old'", "words")
    saving = """
import words
from pathlib import Path
if words.word == "old":
    Path(words.__file__).write_text("word = 'newer'")
def word(): return words.word
"""
    release(folder, saving)
    running = start(runner, folder, reload=True)
    assert app.enqueue("shop:word").result(timeout=30) == "old"
    until_said(running, TAKEN)
    assert f"{folder}/words.py has changed: the code is loaded anew" in running.stderr
    assert app.enqueue("shop:word").result(timeout=30) == "newer"


def test_without_reload_a_file_that_is_saved_waits_for_hup(app: App, runner: StartRunner, folder: Path) -> None:
    release(folder, SHOP)
    running = start(runner, folder, imports=("shop",))
    release(folder, NEW)
    assert app.enqueue("shop:word").result(timeout=30) == "old"
    assert is_alive(running.template)
    assert "loaded anew" not in running.stderr
