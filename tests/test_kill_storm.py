"""Nothing is lost, done twice at a time or recorded twice, whatever is killed."""

from pathlib import Path

import pytest

from jobrunner import App
from jobrunner.policy import CRASH_BUDGET
from tests.batteries.storm import BATCH, Storm, finish
from tests.batteries.storm_tasks import OVERLAP
from tests.conftest import Say, StartRunner
from tests.helpers.files import rows
from tests.helpers.trace import marks, starts

UNHAPPY = "SELECT id, status, crashes FROM jr_invocation WHERE status <> 'success'"
TWICE = "SELECT invocation FROM jr_attempt WHERE outcome = 'success' GROUP BY invocation HAVING count(*) > 1"
TOO_MANY = "SELECT id FROM jr_invocation AS i WHERE claim <> (SELECT count(*) FROM jr_attempt WHERE invocation = i.id)"


@pytest.mark.parametrize(
    ("jobs", "seconds", "seed"),
    [
        pytest.param(120, 6.0, 7, id="short"),
        pytest.param(1000, 60.0, 11, id="long", marks=[pytest.mark.long, pytest.mark.timeout(400)]),
        pytest.param(1000, 60.0, 12, id="long again", marks=[pytest.mark.long, pytest.mark.timeout(400)]),
    ],
)
def test_in_a_storm_of_kills_nothing_is_lost_and_nothing_is_done_twice_at_a_time(
    app: App, runner: StartRunner, folder: Path, path: Path, say: Say, jobs: int, seconds: float, seed: int
) -> None:
    with Storm(folder, path, runner, seed) as storm:
        storm.rage(jobs, seconds)
    told = storm.told()
    finish(app, told)
    finish(
        app, [one for (one,) in rows(path, "SELECT id FROM jr_invocation")]
    )  # of those who died before they were told
    started = starts(folder)
    again = sum(started.values()) - len(started)
    unhappy = rows(path, UNHAPPY)
    say(
        f"{len(told)} jobs told, seed {seed}; {storm.figures()}; {again} done again, {len(unhappy)} out of crash budget"
    )
    assert marks(folder, OVERLAP) == [], "two executions of one job lived at a time"
    assert {(status, crashes) for _, status, crashes in unhappy} <= {("failed", CRASH_BUDGET)}
    assert rows(path, TWICE) == []
    assert rows(path, TOO_MANY) == [], "each claim has one attempt, and is recorded once"
    assert len(told) == len(set(told))
    assert rows(path, "SELECT count(*) % ? FROM jr_invocation", BATCH) == [(0,)], "a part of a batch is there"
    assert set(told) <= set(started) | {one for one, _, _ in unhappy}, "what succeeded was done"
    assert again <= sum(kill.executions for kill in storm.kills)
