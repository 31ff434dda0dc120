"""What a runner starts is claimed on disk: others see it before anything begins."""

from pathlib import Path

from jobrunner import broker
from jobrunner.database import Database
from jobrunner.models import Outcome, Request
from jobrunner.runner.base_runner import BaseRunner
from jobrunner.runner.running import Running
from jobrunner.runner.settings import RunSettings
from tests.helpers.files import rows


class LookingRunner(BaseRunner):
    """Does nothing but look, from outside, at what it is to start."""

    mode = "looking"
    max_parallel_slots = 2

    def __init__(self, conf: RunSettings) -> None:
        super().__init__(conf)
        self.seen: list[str] = []

    def _on_start(self) -> None:
        pass

    def _on_stop(self) -> None:
        pass

    def _start(self, running: Running) -> None:
        statement = "SELECT status FROM jr_invocation WHERE id = ? AND claim = ?"
        self.seen += [row[0] for row in rows(self.conf.database, statement, running.claimed.id, running.claimed.claim)]
        running.outcome = Outcome(result="1")
        self._attempts.conclude(running)

    def _signal(self, running: Running, number: int) -> None:
        pass

    def _pause_waiting_process(self, running: Running) -> None:
        pass

    def _resume_waiting_process(self, running: Running) -> None:
        pass


def test_a_job_is_started_when_others_see_that_it_runs(database: Database, path: Path) -> None:
    broker.enqueue(database, [Request("a:b")] * 3)
    runner = LookingRunner(RunSettings(path, drain=True, relaxed=True))
    runner.run()
    assert runner.seen == ["running"] * 3
    assert rows(path, "SELECT DISTINCT status FROM jr_invocation") == [("success",)]
