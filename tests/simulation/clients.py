"""Those outside: programs that enqueue, cancel and retry, people with SQL, and messages that come too late."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from jobrunner import broker, orchestrator, outputs, state_backend
from jobrunner.database import Database
from jobrunner.errors import JobRunnerError, UniqueKeyTaken, UsageError
from jobrunner.models import After, Claimed, DependencyKind, Exit, InvocationId, Outcome, Request, RunnerId
from jobrunner.outputs import Output
from jobrunner.policy import Policy, Retry
from jobrunner.runner import requests
from tests.simulation.arrangements import Arrangements
from tests.simulation.runner import FAILURE, RECENT, SUCCESS
from tests.simulation.world import BATCHES, LIMITS, QUEUES, Torn, World

MINUTE = 60_000
KINDS: tuple[DependencyKind, ...] = ("success", "any", "failure")


class Client:
    """A process with a connection of its own."""

    def __init__(self, world: World, arranged: Arrangements) -> None:
        self.world = world
        self.arranged = arranged
        self.database = Database(world.path, relaxed=True)

    def step(self) -> None:
        steps: dict[Callable[[], None], int] = {
            self.enqueue: 8,
            self.cancel: 2,
            self.retry: 2,
            self.insert_by_hand: 1,
            self.update_by_hand: 2,
            self.break_the_law: 1,
        }
        self.world.random.choices(list(steps), list(steps.values()))[0]()

    def enqueue(self) -> None:
        world = self.world
        wanted = [self._request(place) for place in range(world.random.randint(1, 4))]
        before = world.see("SELECT count(*) FROM jr_invocation")
        try:
            with self.database.transaction():
                put = broker.put(self.database, wanted)
                world.tear(world.happens(world.rates.torn))
        except (Torn, UniqueKeyTaken, UsageError) as error:
            assert world.see("SELECT count(*) FROM jr_invocation") == before, "a part of a refused batch is there"
            world.tell(f"a client enqueues nothing: {type(error).__name__}")
            return
        for request, one in zip(wanted, put, strict=True):
            if one.is_new:
                assert one.id not in world.promised, f"the number {one.id} was given twice"
                world.promised.append(one.id)
                world.policies[one.id] = Policy.from_json(request.policy)
                after = outputs.placed(request, [other.id for other in put]).after
                self.arranged.will_wait(one.id, [After(*edge) for edge in json.loads(after or "[]")])
        world.tell(f"a client enqueues {[one.id for one in put]}")

    def _request(self, place: int) -> Request:
        return self._after(self._alone(), place)

    def _after(self, request: Request, place: int) -> Request:
        """Behind some of those that are there, and of those that are enqueued before it by the same call."""
        random = self.world.random
        others = [*self.world.promised[-RECENT:], *range(-place, 0)]
        chosen = (
            sorted(set(random.choices(others, k=random.randint(1, 3)))) if others and self.world.happens(0.4) else []
        )
        edges = [After(one, random.choice(KINDS)) for one in chosen]
        args, jobs = outputs.keep(
            [Output(edge.id) for edge in edges if edge.kind == "success" and random.random() < 0.7]
        )
        request = request._replace(after=json.dumps(edges) if edges else None, args=args)
        return outputs.given(request, jobs)

    def _alone(self) -> Request:
        random, now = self.world.random, self.world.now
        limit = random.choice([None, None, *LIMITS])
        policy = Policy(
            retry=Retry(attempts=random.randint(1, 3), base=random.randint(1, 30), jitter=0),
            on_crash=random.choice((None, None, "retry", "fail")),
        )
        return Request(
            "a:b",
            queue=random.choice(QUEUES),
            priority=random.randint(-1, 2),
            run_at=random.choice((None, None, now + random.randint(0, MINUTE))),
            expires_at=random.choice((None, None, None, now + random.randint(0, MINUTE))),
            unique_key=random.choice((None, None, None, "a", "b")),
            if_exists=random.choice(("skip", "replace", "error")),
            policy=policy.to_json(),
            hold=random.random() < 0.05,
            parent=random.choice([None, *self.world.promised[-3:]]),
            limit_key=limit,
            limit_size=LIMITS[limit] if limit else None,
            limit_drop=limit == "drops",
            batch=random.choice((None, None, *BATCHES)),
        )

    def _some(self) -> Sequence[InvocationId]:
        return sorted({self.world.random.choice(self.world.promised) for _ in range(2)}) if self.world.promised else []

    def cancel(self) -> None:
        children = self.world.happens(0.3)
        called_off = broker.cancel(self.database, self._some(), reason="cancelled", children=children)
        self.world.tell(f"a client cancels {called_off}")

    def retry(self) -> None:
        try:
            again = broker.retry(self.database, self._some(), reason="retried")
        except UniqueKeyTaken:
            return
        self.world.was_retried(again)
        self.world.tell(f"a client retries {again}")

    def insert_by_hand(self) -> None:
        self.database.script("INSERT INTO jobs(task, queue) VALUES ('a:b', 'mail')")
        self.world.promised.append(InvocationId(len(self.world.promised) + 1))
        self.world.tell(f"somebody inserts job {self.world.promised[-1]}")

    def update_by_hand(self) -> None:
        status = self.world.random.choice(("cancelled", "pending"))
        for job in self._some()[:1]:
            try:
                self.database.script(f"UPDATE jobs SET status = '{status}' WHERE id = {job}")
            except UsageError:
                return
            if status == "pending":
                self.world.was_retried([job])
            self.world.tell(f"somebody sets job {job} to {status}")

    def break_the_law(self) -> None:
        """What the file itself must refuse, whoever writes it."""
        refused = "UPDATE jr_invocation SET status = 'resumed' WHERE status = 'pending'"
        if self.world.happens(0.5):
            refused = (
                "INSERT INTO jr_invocation(task, unique_key) SELECT 'a:b', unique_key FROM jr_invocation"
                " WHERE unique_key IS NOT NULL AND finished_at IS NULL"
            )
        before = self.world.eyes.pragma("data_version")
        try:
            self.database.script(refused)
        except UsageError:
            return
        assert self.world.eyes.pragma("data_version") == before, f"the file did not refuse: {refused}"

    def deliver_late(self) -> None:
        """Whatever is told of an attempt that is over changes nothing."""
        random = self.world.random
        if not self.world.past:
            return
        # Where somebody else has the job by now, a late word could do harm.
        harmful = [one for one in self.world.past if one.claimed.id in self.world.held]
        ended = random.choice(harmful or self.world.past)
        claimed = ended.claimed
        before = self._all_of(claimed.id)
        outcome: Outcome | None = random.choice((SUCCESS, FAILURE, None))
        late = ended._replace(
            outcome=outcome, exit=random.choice((None, Exit(1, 0))), stopped=random.choice((None, "shutdown", "cancel"))
        )
        assert orchestrator.record(self.database, late, RunnerId(1)) is None, f"a late outcome of {claimed} counted"
        assert orchestrator.record_all(self.database, [late], RunnerId(1)) == [None], f"a late {late} counted"
        assert not orchestrator.resume(self.database, claimed), f"job {claimed.id} went on for a claim that is over"
        self._ask_late(claimed)
        assert self._all_of(claimed.id) == before, (
            f"a message of claim {claimed.claim} of job {claimed.id} changed something"
        )
        self.world.tell(f"a late word of job {claimed.id}, claim {claimed.claim}")

    def _ask_late(self, claimed: Claimed) -> None:
        """To wait for somebody, to have a job done, to show how far it is; and what its task says of itself."""
        others = self.world.see("SELECT id FROM jr_invocation WHERE finished_at IS NULL AND id <> ?", claimed.id)
        try:
            with self.database.transaction():
                orchestrator.pause(self.database, claimed, [row[0] for row in others[:1]] or [claimed.id])
        except JobRunnerError:
            pass
        kind, _ = requests.answer(self.database, claimed, "enqueue", [[list(Request("a:b"))]])
        assert kind == "error", f"a job was enqueued for claim {claimed.claim} of job {claimed.id}, which is over"
        state_backend.put_progress(self.database, claimed.id, claimed.claim, 0.5, "late")
        if claimed.claim < self.world.claims[claimed.id]:  # what its task says of itself stays true between two claims
            orchestrator.keep_policy(self.database, claimed, Policy(on_crash="fail", timeout_ms=7))

    def _all_of(self, job: InvocationId) -> list[list[tuple[Any, ...]]]:
        tables = (
            ("jr_invocation", "id"),
            ("jr_attempt", "invocation"),
            ("jr_result", "invocation"),
            ("jr_progress", "invocation"),
            ("jr_edge", "waiter"),
        )
        return [self.world.see(f"SELECT * FROM {table} WHERE {column} = ?", job) for table, column in tables]
