"""What was claimed ahead in processes of threads: never more at work than there are slots, and none is held up."""

from pathlib import Path

from jobrunner import App
from tests.conftest import StartRunner


def test_what_has_to_go_behind_a_long_job_comes_back_each_time(app: App, runner: StartRunner, folder: Path) -> None:
    long = app.enqueue("tests.tasks:wait_for_file", {"name": "go"})
    short = [app.enqueue("tests.together:nothing") for _ in range(1000)]
    runner(mode="thread", jobs=2, threads=1, max_tasks_per_child=50)
    app.wait(short, timeout=60)
    (folder / "go").touch()
    app.wait([long], timeout=30)
