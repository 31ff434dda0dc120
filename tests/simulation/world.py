"""What is true outside of the database: the clock, who lives, what runs, what was promised to whom."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import apsw

from jobrunner.models import Claimed, InvocationId, RunnerId
from jobrunner.orchestrator import Ended
from jobrunner.policy import CRASH_BUDGET, Policy
from jobrunner.status import FINAL, Status
from jobrunner.times import Clocks

BEGINNING = 1_900_000_000_000
"""Milliseconds since 1970: far from any clock of a machine that runs this."""
QUEUES = ("mail", "video", "sound")
BATCHES = ("day", "night")
LIMITS = {"one": 1, "two": 2, "drops": 1}
"""Keys of concurrency limits, and how many of each may be started."""


class Torn(Exception):
    """A process was killed in the middle of a transaction."""


class Rates(NamedTuple):
    """How often what goes wrong, a step; each seed draws its own."""

    kill_runner: float
    kill_worker: float
    stop: float
    jump: float
    late: float
    torn: float

    @staticmethod
    def drawn(random: Random) -> "Rates":
        def up_to(most: float) -> float:
            return random.choice((0.0, random.uniform(0.0, most), most))

        return Rates(up_to(0.03), up_to(0.15), up_to(0.03), up_to(0.05), up_to(0.2), up_to(0.05))


@dataclass(eq=False)
class Execution:
    """A claim, from the commit that made it to the commit that ended it."""

    claimed: Claimed
    runner: RunnerId
    token: str
    policy: Policy
    paused: bool = False


@dataclass(eq=False)
class Spent:
    """What a job has used up since it was enqueued or, by an operator, retried."""

    failures: int = 0
    crashes: int = 0


@dataclass(eq=False)
class World:
    """Starts with a seed; all chance comes from it."""

    random: Random
    rates: Rates
    eyes: apsw.Connection
    path: Path
    now: int = BEGINNING
    latest: int = BEGINNING
    """The highest that the clock has shown."""
    passed: int = 0
    """Milliseconds of the clock that nobody can set."""
    trace: list[str] = field(default_factory=list)
    locked: dict[RunnerId, str] = field(default_factory=dict)
    """Which runner's byte is locked by the process with which token."""
    held: dict[InvocationId, Execution] = field(default_factory=dict)
    """What is claimed, by what was committed."""
    alive: dict[InvocationId, Execution] = field(default_factory=dict)
    """Which processes of jobs live."""
    claims: dict[InvocationId, int] = field(default_factory=dict)
    spent: dict[InvocationId, Spent] = field(default_factory=dict)
    policies: dict[InvocationId, Policy] = field(default_factory=dict)
    final: dict[InvocationId, Status] = field(default_factory=dict)
    due: dict[InvocationId, int] = field(default_factory=dict)
    """When a retry may be made, on the clock that nobody can set."""
    promised: list[InvocationId] = field(default_factory=list)
    """The numbers that somebody was told."""
    runs: Counter[str] = field(default_factory=Counter)
    """Runs that somebody asked of a schedule, beside its instants."""
    heed_retries: Callable[[list[InvocationId]], None] = lambda _: None
    not_before: dict[InvocationId, int] = field(default_factory=dict)
    """When those begin, at the earliest, that were put off."""
    past: list[Ended] = field(default_factory=list)
    """Attempts that are over: whatever comes of them now comes too late."""

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.now, lambda: self.passed)

    def goes_on(self, milliseconds: int) -> None:
        """Time passes, on every clock."""
        self.now += milliseconds
        self.passed += milliseconds
        self.latest = max(self.latest, self.now)

    def happens(self, rate: float) -> bool:
        return self.random.random() < rate

    @staticmethod
    def tear(torn: bool) -> None:
        """Inside a transaction: the process may be killed here."""
        if torn:
            raise Torn

    def tell(self, what: str) -> None:
        self.trace.append(f"{len(self.trace):4} {self.now - BEGINNING:+d} ms: {what}")

    def see(self, statement: str, *values: int | str) -> list[tuple[Any, ...]]:
        """The rows of a statement, on a connection of nobody's."""
        return self.eyes.execute(statement, values).fetchall()

    def status(self, job: InvocationId) -> Status:
        return Status(str(self.see("SELECT status FROM jr_invocation WHERE id = ?", job)[0][0]))

    # Attempts

    def was_claimed(self, execution: Execution) -> None:
        """After the commit: nobody else has it, and the number of the claim is new."""
        claimed = execution.claimed
        assert claimed.id not in self.held, (
            f"job {claimed.id} was claimed while runner {self.held[claimed.id].runner} has it"
        )
        assert claimed.claim == self.claims.get(claimed.id, 0) + 1, (
            f"claim {claimed.claim} of job {claimed.id} is not the next"
        )
        spent = self.spent.setdefault(claimed.id, Spent())
        counted = (claimed.attempt, claimed.crashes)
        assert counted == (spent.failures + 1, spent.crashes + 1), (
            f"job {claimed.id} is claimed with attempt and crashes {counted} after {spent}"
        )
        moment = self.not_before.pop(claimed.id, 0)
        assert moment <= self.latest, f"job {claimed.id} begins, and was put off until {moment - BEGINNING:+d} ms"
        self.claims[claimed.id] = claimed.claim
        self.held[claimed.id] = execution

    def starts(self, execution: Execution) -> None:
        """A process begins: it must be the only one of its job, and its claim must be committed."""
        job = execution.claimed.id
        assert job not in self.alive, f"job {job} is executed twice at once"
        assert self.held.get(job) is execution, f"job {job} was started without a claim that others can see"
        self.alive[job] = execution

    def stops(self, execution: Execution) -> None:
        if self.alive.get(execution.claimed.id) is execution:
            del self.alive[execution.claimed.id]

    def kill_carriers(self, token: str) -> list[int]:
        """Kill the processes of a dead runner that still live."""
        found = [execution for execution in self.alive.values() if execution.token == token]
        for execution in found:
            self.stops(execution)
        return [execution.claimed.id for execution in found]

    def was_recorded(self, ended: Ended, status: Status) -> None:
        """After the commit that recorded it as `status`: that is what had to come of it."""
        job = ended.claimed.id
        execution = self.held.pop(job)
        assert execution.claimed.claim == ended.claimed.claim, f"an outcome of another claim of job {job} was recorded"
        expected = self._expected(ended, execution.policy)
        assert status == expected, f"job {job} became {status}, and had to become {expected}"
        if expected in FINAL:
            self.final[job] = expected
        if expected is Status.SCHEDULED and execution.policy.retry is not None:
            self.due[job] = self.passed + execution.policy.retry.delay_ms(ended.claimed.attempt)
        self.past.append(ended)

    def was_rescued(self, execution: Execution) -> None:
        """After the commit that took it over from a dead runner: a crash, or what somebody had asked for before."""
        status = self.status(execution.claimed.id)
        ended = Ended(execution.claimed, execution.policy, None, None)
        self.was_recorded(ended, Status.PENDING if status is Status.CANCELLED else status)

    def _expected(self, ended: Ended, policy: Policy) -> Status:
        """What must come of it, by our own count."""
        spent = self.spent.setdefault(ended.claimed.id, Spent())
        if ended.outcome is not None and ended.outcome.failure is None:
            return Status.SUCCESS
        if ended.stopped == "cancel":
            return Status.CANCELLED
        if ended.stopped in {"shutdown", "not_started"}:
            return Status.PENDING
        if ended.outcome is None and ended.stopped is None:
            spent.crashes += 1
            bad = policy.on_crash == "fail" or spent.crashes >= CRASH_BUDGET
            return Status.FAILED if bad else Status.PENDING
        spent.failures += 1
        attempts = policy.retry.attempts if policy.retry else 1
        return Status.SCHEDULED if spent.failures < attempts else Status.FAILED

    def was_retried(self, jobs: list[InvocationId]) -> None:
        """An operator gave them all budgets anew."""
        for job in jobs:
            self.spent[job] = Spent()
            self.final.pop(job, None)
            self.not_before.pop(job, None)
        self.heed_retries(jobs)
