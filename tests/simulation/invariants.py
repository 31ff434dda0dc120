"""What must hold between any two transactions, asked from outside, and compared with what the world knows."""

import json
from collections import Counter
from collections.abc import Sequence

from jobrunner.models import Claimed
from jobrunner.wall_clock import TOLERANCE_MS
from tests.conftest import check_history, check_waits
from tests.simulation.arrangements import check_fires
from tests.simulation.world import LIMITS, World


def check(world: World) -> None:
    """Everything."""
    check_history(world.path, lambda _, statement: world.see(statement))
    check_waits(world.path, lambda _, statement: world.see(statement))
    check_cycles(world)
    check_owners(world)
    check_limits(world)
    check_keys(world)
    check_promises(world)
    check_fires(world)


def check_owners(world: World) -> None:
    """Who has what is as it was committed, and what is final stays so."""
    held = {job: (one.claimed.claim, one.runner) for job, one in world.held.items()}
    rows = world.see(
        "SELECT id, claim, runner FROM jr_invocation WHERE status IN ('running', 'paused', 'resumed', 'killed')"
    )
    assert {job: (claim, runner) for job, claim, runner in rows} == held
    for job, execution in world.alive.items():
        assert world.held.get(job) is execution, f"job {job} is executed by who does not have it"
    final = dict(world.see("SELECT id, status FROM jr_invocation WHERE finished_at IS NOT NULL"))
    for one, status in world.final.items():
        assert final.get(one) == status, f"job {one} was {status}, and is {final.get(one)}"
    claims = dict(world.see("SELECT id, claim FROM jr_invocation WHERE claim > 0"))
    assert claims == world.claims


def check_limits(world: World) -> None:
    started = Counter(one.claimed.limit_key for one in world.held.values())
    alive = Counter(one.claimed.limit_key for one in world.alive.values())
    for key, size in LIMITS.items():
        assert started[key] <= size, f"{started[key]} jobs have a place of the limit {key!r}"
        assert alive[key] <= size, f"{alive[key]} jobs are executed above the limit {key!r}"


def check_keys(world: World) -> None:
    doubled = world.see(
        "SELECT unique_key, count(*) FROM jr_invocation WHERE unique_key IS NOT NULL AND finished_at IS NULL"
        " GROUP BY unique_key HAVING count(*) > 1"
    )
    assert not doubled, f"several unfinished jobs of a key: {doubled}"


def check_promises(world: World) -> None:
    there = {row[0] for row in world.see("SELECT id FROM jr_invocation")}
    assert there == set(world.promised), "the jobs that are there are not those that somebody was told of"


def check_cycles(world: World) -> None:
    edges: dict[int, set[int]] = {}
    for waiter, awaited in world.see("SELECT waiter, awaited FROM jr_edge"):
        edges.setdefault(waiter, set()).add(awaited)
    for waiter, on in world.see("SELECT invocation, on_id FROM jr_dependency WHERE settled = 0"):
        edges.setdefault(waiter, set()).add(on)
    while free := {one for one, on in edges.items() if not on & edges.keys()}:
        for one in free:
            del edges[one]
    assert not edges, f"these wait for each other: {edges}"


def check_retries(world: World) -> None:
    """After a turn, those that wait for a retry come when they had to come by the clock that nobody can set."""
    for job, run_at in world.see("SELECT id, run_at FROM jr_invocation WHERE status = 'scheduled' AND attempt > 0"):
        off = (run_at - world.now) - (world.due[job] - world.passed)
        assert abs(off) < 2 * TOLERANCE_MS, f"the retry of job {job} comes {off} ms too late"


def check_choice(world: World, queues: Sequence[str], claimed: Sequence[Claimed], free: int) -> None:
    """A claim took the best there was, left nothing beside free slots, and took nothing that had expired."""
    left = world.see(
        "SELECT -waiters, -priority, id FROM jr_invocation WHERE status = 'pending'"
        " AND (?1 = '[]' OR queue IN (SELECT value FROM json_each(?1)))",
        json.dumps(list(queues)),
    )
    assert len(claimed) == free or not left, f"{left} were left pending beside free slots"
    worst = max(((-one.waiters, -one.priority, one.id) for one in claimed), default=None)
    if worst is not None:
        better = [row for row in left if tuple(row) < worst]
        assert not better, f"{worst} was claimed before {better}"
    expired = world.see(
        "SELECT id FROM jr_invocation WHERE expires_at <= ? AND claim = 1 AND id IN (SELECT value FROM json_each(?))",
        world.now,
        json.dumps([one.id for one in claimed]),
    )
    assert not expired, f"{expired} were claimed after they had expired"
