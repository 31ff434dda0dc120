"""What people arrange, as the world knows it: who begins after whom, batches and what follows them, schedules."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jobrunner.models import After, Claimed, DependencyKind, InvocationId
from jobrunner.policy import Policy
from jobrunner.status import Status
from jobrunner.timing import Timing
from tests.simulation.world import World

_ENDS = {"failed": "failed", "cancelled": "was cancelled", "expired": "expired", "success": "succeeded"}
_CALLED_OFF = "after job "


class Seen(NamedTuple):
    """A job at a look."""

    id: InvocationId
    status: Status
    reason: str | None
    task: str
    label: str | None
    schedule: str | None
    policy: str | None
    batch: int | None
    counted: int


@dataclass(eq=False)
class Arrangements:
    """Starts with a world; `look` is called after each step of anybody."""

    world: World
    edges: dict[InvocationId, dict[InvocationId, DependencyKind]] = field(default_factory=dict)
    """Whom a job was told to wait for when it was enqueued."""
    needs: dict[InvocationId, dict[InvocationId, DependencyKind]] = field(default_factory=dict)
    """Of these, whose ends are still to come before it may begin."""
    complete: set[int] = field(default_factory=set)
    """The batches that were so at the last look."""
    seen: dict[InvocationId, Seen] = field(default_factory=dict)
    """All jobs at the last look."""
    stay: dict[InvocationId, bool] = field(default_factory=dict)
    """Members that were retried when their batch could not be opened again: whether they had succeeded before."""

    def look(self) -> None:
        """Whatever there is now has a cause, and one alone."""
        jobs = self._jobs()
        self._settle({job: one.status for job, one in jobs.items()})
        self._check_cancelled(jobs)
        self._check_new(jobs, self._followers(jobs))
        self.seen = jobs

    def _jobs(self) -> dict[InvocationId, Seen]:
        rows = self.world.see(
            "SELECT id, status, reason, task, label, schedule, policy, batch, counted FROM jr_invocation"
        )
        return {row[0]: Seen(row[0], Status(row[1]), *row[2:]) for row in rows}

    def _check_new(self, jobs: dict[InvocationId, Seen], followers: Counter[tuple[str, str | None]]) -> None:
        """Nobody but clients, schedules and batches enqueues."""
        promised = set(self.world.promised)
        for job in sorted(jobs.keys() - promised):
            one = jobs[job]
            follows = (one.task, one.label)
            assert one.schedule is not None or followers[follows], f"nobody asked for job {job}: {follows}"
            followers[follows] -= one.schedule is None
            self.world.promised.append(job)
            self.world.policies[job] = Policy.from_json(one.policy)
        assert not +followers, f"these were to follow their batches: {+followers}"

    # Who begins after whom

    def will_wait(self, job: InvocationId, after: Sequence[After]) -> None:
        """It was enqueued so."""
        self.edges[job] = {InvocationId(edge.id): edge.kind for edge in after}
        self.needs[job] = dict(self.edges[job])

    def was_retried(self, jobs: Sequence[InvocationId]) -> None:
        """After the commit: they wait anew for those that are not final now, save for those that wait for them."""
        for job in jobs:
            unfinished = [one for one in self.edges.get(job, {}) if not self.world.status(one).is_final]
            waived = {
                row[0]
                for row in self.world.see("SELECT on_id FROM jr_dependency WHERE invocation = ? AND settled", job)
            }
            for one in waived.intersection(unfinished):
                assert job in self._needed_by(one), f"job {job} was retried, and does not wait anew for job {one}"
            self.needs[job] = {one: self.edges[job][one] for one in unfinished if one not in waived}

    def _needed_by(self, job: InvocationId) -> set[InvocationId]:
        """All that must end before it can, or may have to, since they have places of its limit."""
        found: set[InvocationId] = set()
        to_see = [job]
        while to_see:
            one = to_see.pop()
            rows = self.world.see(
                "SELECT awaited FROM jr_edge WHERE waiter = ?1"
                " UNION SELECT on_id FROM jr_dependency WHERE invocation = ?1 AND settled = 0"
                " UNION SELECT holder.id FROM jr_invocation AS holder JOIN jr_invocation AS needy USING (limit_key)"
                " WHERE needy.id = ?1 AND holder.status IN ('running', 'paused', 'resumed')",
                one,
            )
            to_see += [row[0] for row in rows if row[0] not in found]
            found |= {row[0] for row in rows}
        return found

    def were_claimed(self, claimed: Sequence[Claimed]) -> None:
        """After the commit: none of them had anybody to wait for."""
        waited = [one.id for one in claimed if self.needs.get(one.id)]
        self._settle({one: self.world.status(one) for job in waited for one in self.needs[job]})
        for job in waited:
            assert not self.needs[job], f"job {job} begins, and should wait for {self.needs[job]}"

    def _settle(self, known: Mapping[InvocationId, Status]) -> None:
        for needs in self.needs.values():
            for one, kind in [*needs.items()]:
                status = known.get(one)
                if status is not None and status.is_final and is_met(kind, status):
                    del needs[one]

    def _check_cancelled(self, jobs: dict[InvocationId, Seen]) -> None:
        """Who was called off for another's sake was so for the first one's, and that other was to be waited for."""
        for job, one in jobs.items():
            is_new = job not in self.seen or self.seen[job].status != one.status
            if is_new and one.status is Status.CANCELLED and (one.reason or "").startswith(_CALLED_OFF):
                edges = self.edges.get(job, {})
                good = [other for other in edges if _is_reason(jobs[other], one.reason)]
                assert good, f"job {job} was cancelled {one.reason!r}, and waited for {edges}"

    # Batches

    def _followers(self, jobs: dict[InvocationId, Seen]) -> Counter[tuple[str, str | None]]:
        """What is to follow the batches that are complete since the last look; and the counts are those of the rows."""
        followers: Counter[tuple[str, str | None]] = Counter()
        for number, finished_at, *counts, success, failure, complete in self.world.see(
            "SELECT id, finished_at, total, done, failed, on_success, on_failure, on_complete FROM jr_batch"
        ):
            members = [one for one in jobs.values() if one.batch == number]
            counted = Counter(self._has_succeeded(one) for one in members if one.counted)
            assert counts == [len(members), counted[True], counted[False]], f"batch {number}: {counts} of {members}"
            if finished_at is None:
                self.complete.discard(number)
            elif number not in self.complete:
                self.complete.add(number)
                unfinished = [one.id for one in members if one.counted != 2 and not one.status.is_final]
                assert not unfinished, f"batch {number} is complete, and has {unfinished}"
                followers["complete", str(number)] += complete is not None
                followers["failure", str(number)] += failure is not None and counted[False] > 0
                followers["success", str(number)] += success is not None and counted[False] == 0
        return followers

    def _has_succeeded(self, member: Seen) -> bool:
        if member.counted == 2:
            return self.stay.setdefault(member.id, self.seen[member.id].status is Status.SUCCESS)
        return member.status is Status.SUCCESS


# Schedules


def check_fires(world: World) -> None:
    """Each instant is decided once, and has at most one job; between the first and the next none is left out."""
    for name, spec, zone, created_at, next_at in world.see(
        "SELECT name, spec, zone, created_at, next_at FROM jr_schedule"
    ):
        fires = world.see("SELECT instant, invocation, more FROM jr_fire WHERE schedule = ? ORDER BY instant", name)
        jobs = [job for _, job, _ in fires if job is not None]
        assert len(set(jobs)) == len(jobs), f"a job of {name} is of two instants"
        enqueued = world.see("SELECT count(*) FROM jr_invocation WHERE schedule = ?", name)[0][0]
        assert enqueued == len(jobs) + world.runs[name], f"{enqueued} jobs of {name} came of {fires}"
        if next_at is not None:
            due = _instants(Timing(spec, zone), created_at, next_at)
            told: list[int] = []
            for instant, _, more in fires:
                place = due.index(instant)
                told += due[place - more : place + 1]
            assert sorted(told) == due, f"of {name} {sorted(set(due) ^ set(told))} were not told of, or twice"


def check_nothing_is_due(world: World) -> None:
    """At the end: what had to fire has fired, or was told of."""
    due = world.see("SELECT name, next_at FROM jr_schedule WHERE next_at <= ?", world.now)
    assert not due, f"these have not fired: {due}"


def _instants(timing: Timing, created_at: int, end: int) -> list[int]:
    instants = []
    for instant in timing.after(created_at, created_at):
        if instant >= end:
            break
        instants.append(instant)
    return instants


def is_met(kind: DependencyKind, status: Status) -> bool:
    """By our own count."""
    return kind == "any" or (kind == "success") == (status is Status.SUCCESS)


def _is_reason(other: Seen, reason: str | None) -> bool:
    if other.status is Status.CANCELLED and (other.reason or "").startswith(_CALLED_OFF):
        return reason == other.reason
    return other.status.is_final and reason == f"{_CALLED_OFF}{other.id}, which {_ENDS[other.status]}"
