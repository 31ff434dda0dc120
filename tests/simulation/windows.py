"""Clients that enqueue with debounce and throttle, and what must come of it by their own count."""

from random import Random
from typing import NamedTuple

from jobrunner import broker
from jobrunner.database import Database
from jobrunner.models import After, Enqueued, InvocationId, Request
from jobrunner.policy import Policy
from jobrunner.status import STARTED, Status
from tests.simulation.arrangements import Arrangements
from tests.simulation.world import Spent, World

KEYS = ("often", "seldom")
MINUTE = 60_000


class Holder(NamedTuple):
    """Who has a key, or had it last."""

    id: InvocationId
    status: Status
    created_at: int
    hold: int


class Windows:
    """Starts with a seed; its chance is another than that of the others, whose ways it leaves alone. Half have none."""

    def __init__(self, world: World, arranged: Arrangements, seed: int) -> None:
        self.world = world
        self.arranged = arranged
        self.random = Random(f"windows of {seed}")
        self.rate = self.random.choice((0.0, self.random.uniform(0.05, 0.3)))

    def step(self, database: Database) -> None:
        if self.random.random() < self.rate:
            self._enqueue(database)

    def _enqueue(self, database: Database) -> None:
        random = self.random
        request = Request(
            "a:b",
            args=f"[{random.randint(0, 9)}]",
            priority=random.randint(-1, 2),
            label=f"said at step {len(self.world.trace)}",
            policy=Policy(on_crash=random.choice((None, "fail"))).to_json(),
            unique_key=random.choice(KEYS),
            if_exists=random.choice(("debounce", "throttle")),
            window=random.randint(1, random.choice((MINUTE, 10 * MINUTE))),
            hold=random.random() < 0.05,
        )
        if request.if_exists == "debounce":
            request = request._replace(longest=random.choice((None, random.randint(1, 2 * MINUTE))))
        before = self._holder(request)
        (one,) = broker.put(database, [request])
        self.world.tell(f"a client enqueues {request.if_exists} {request.unique_key!r}: {one}, before: {before}")
        if one.is_new:
            assert one.id not in self.world.promised, f"the number {one.id} was given twice"
            self.world.promised.append(one.id)
            self.world.policies[one.id] = Policy.from_json(request.policy)
        if request.if_exists == "throttle":
            self._check_throttle(request, before, one)
        else:
            self._check_debounce(request, before, one)

    def _holder(self, request: Request) -> Holder | None:
        """The unfinished one with the key, or the newest that had it."""
        rows = self.world.see(
            "SELECT id, status, created_at, hold FROM jr_invocation WHERE unique_key = ?"
            " ORDER BY finished_at IS NULL DESC, id DESC LIMIT 1",
            str(request.unique_key),
        )
        return Holder(rows[0][0], Status(rows[0][1]), *rows[0][2:]) if rows else None

    def _check_throttle(self, request: Request, before: Holder | None, one: Enqueued) -> None:
        stands = before is not None and (
            not before.status.is_final or before.created_at + (request.window or 0) > self.world.now
        )
        assert one.is_new != stands, f"{one} came of a throttle, and there was {before}"
        assert before is None or one.is_new or one.id == before.id, f"{one} stands for it, and not {before}"

    def _check_debounce(self, request: Request, before: Holder | None, one: Enqueued) -> None:
        waits = before is not None and not before.status.is_final and before.status not in STARTED
        assert one.is_new != waits, f"{one} came of a debounce, and there was {before}"
        run_at, *said = self.world.see("SELECT run_at, args, priority, label FROM jr_invocation WHERE id = ?", one.id)[
            0
        ]
        assert tuple(said) == (request.args, request.priority, request.label), f"{one} is not what was said last"
        moment = self.world.now + (request.window or 0)
        if before is not None and waits:
            assert one.id == before.id, f"{one} was put off, and not {before}"
            moment = min(moment, before.created_at + (request.longest or moment))
            self.world.spent[one.id] = Spent()
            self.world.due.pop(one.id, None)
            self.world.policies[one.id] = Policy.from_json(request.policy)
        elif before is not None and before.status in STARTED:
            assert self.world.status(before.id) is before.status, f"{before} was touched by what came after it"
            self.arranged.will_wait(one.id, [After(before.id, "any")])
        assert run_at == moment, f"{one} is to begin at {run_at}, and not at {moment}"
        self.world.not_before[one.id] = moment
