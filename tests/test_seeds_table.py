"""The table of the seeds' names in docs/architecture.md is true, and what only a runner itself can tell is so."""

import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobrunner import App, UsageError
from jobrunner.runner.registry import load_runner
from jobrunner.runner.settings import RunSettings
from tests.helpers.processes import ROOT, run_python
from tests.helpers.runners import RUNNERS


class Line(NamedTuple):
    name: str
    place: str
    what: str
    test: str


def table() -> list[Line]:
    text = (ROOT / "docs/architecture.md").read_text().partition("## The names of the seeds")[2]
    rows = [line.strip("| \n").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [Line(*(cell.strip("`") if n != 2 else cell for n, cell in enumerate(row))) for row in rows]


def test_the_table_has_each_name_once() -> None:
    names = [line.name for line in table()]
    assert len(names) == len(set(names)) == 54
    assert all(line.what for line in table())


@pytest.mark.parametrize("line", table(), ids=lambda line: line.name)
def test_each_name_is_where_the_table_says(line: Line, path: Path) -> None:
    if line.place == "—":
        return
    module, _, names = line.place.partition(":")
    found: Any = importlib.import_module(module)
    first, *rest = names.split(".")
    found = getattr(found, first)
    for name in rest:
        # Some are made with the runner.
        assert hasattr(found, name) or name in vars(found(RunSettings(path))), line


@pytest.mark.parametrize("line", table(), ids=lambda line: line.name)
def test_each_test_of_the_table_is_there(line: Line) -> None:
    file, _, test = line.test.partition("::")
    assert f"def {test}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("mode", RUNNERS)
def test_no_runner_shares_memory_with_its_jobs(mode: str) -> None:
    runner: Any = load_runner(mode)
    assert runner.mem_compatible() is False


@pytest.mark.parametrize("mode", RUNNERS)
def test_settings_that_there_are_not_are_refused(path: Path, mode: str) -> None:
    assert load_runner(mode).parse_args({"database": path, "jobs": 3}).jobs == 3
    with pytest.raises(UsageError, match="a runner has no setting 'job'"):
        load_runner(mode).parse_args({"database": path, "job": 3})


TELL = """
import json, sys
from pathlib import Path
from jobrunner.runner.registry import load_runner
seen = {}

class Telling(load_runner(sys.argv[1])):
    def runner_loop_iteration(self):
        super().runner_loop_iteration()
        for name, value in facts(self):
            if value not in seen.setdefault(name, []):
                seen[name].append(value)

def facts(runner):
    exec(sys.argv[3], {"runner": runner, "out": (out := {})})
    return out.items()

settings = json.loads(sys.argv[2])
database, app_dir = Path(settings.pop("database")), Path(settings.pop("app_dir"))
Telling(Telling.parse_args({"database": database, "app_dir": app_dir, **settings})).run()
print(json.dumps(seen))
"""


def tell(path: Path, mode: str, settings: dict[str, Any], facts: str) -> dict[str, list[Any]]:
    """What a runner of the kind says of itself, turn by turn, while it does what is due."""
    words = {"database": str(path), "app_dir": str(ROOT), "drain": True, **settings}
    done = run_python(path.parent, TELL, mode, json.dumps(words), facts)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


def test_a_process_runner_tells_of_its_children_and_waiters(app: App, path: Path) -> None:
    waiter = app.enqueue("tests.together:wait_for", {"ids": [2]})
    app.enqueue_command("sleep", "0.5")  # for so long that a turn sees both
    seen = tell(
        path,
        "process",
        {"jobs": 1},
        "classified = runner.classify_waiting_invocations()\n"
        "out['final'], out['non_final'] = classified.final, classified.non_final\n"
        "out['waiting'] = runner.waiting_processes\n"
        "out['slots'] = runner.max_parallel_slots\n"
        "out['children'] = [one.invocation_id for one in runner.child_processes]\n"
        "pids = [one.process.pid for one in runner.child_processes if one.process.pid]\n"
        "out['ids'] = [runner.get_active_child_runner_ids(), pids]\n"
        "out['args'] = sorted(runner.runner_args)\n",
    )
    assert waiter.result() == [None]
    assert set(seen["waiting"]) == {0, 1}
    assert [2] in seen["non_final"]
    assert seen["slots"] == [1]
    assert [1, 2] in seen["children"]
    assert max(len(ids) for ids, _ in seen["ids"]) == 2
    assert all(ids == [f"1:{pid}" for pid in pids] for ids, pids in seen["ids"])
    assert seen["args"] == [["JOBRUNNER_DB", "JOBRUNNER_RUNNER"]]


def test_a_runner_of_threads_tells_of_its_processes_and_its_cache(app: App, path: Path) -> None:
    app.enqueue("tests.together:count_in_cache", {"times": 3})
    seen = tell(
        path,
        "thread",
        {"jobs": 2, "threads": 3},
        "out['processes'] = sorted(runner.processes) == sorted(runner.shared_status)\n"
        "out['active'] = [one.active_count for one in runner.shared_status.values()]\n"
        "out['states'] = [one.state.value for one in runner.shared_status.values()]\n"
        "out['most'] = [runner.max_processes, runner.conf.threads, runner.max_parallel_slots]\n"
        "out['count'] = [runner.cache.get('count'), runner.runner_cache.call('get', 'count')]\n"
        "out['manager'] = hasattr(runner, 'manager')\n",
    )
    assert True in seen["processes"]
    assert [1] in seen["active"]
    assert ["active"] in seen["states"]
    assert seen["most"] == [[2, 3, 6]]
    assert seen["count"][-1] == [3, 3]
    assert seen["manager"] == [False]
