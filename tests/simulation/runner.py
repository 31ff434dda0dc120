"""A runner as an actor: the real registration, claims, records, waits and rescues; its processes are the world's."""

import json
from collections.abc import Sequence

from jobrunner import batches, broker, claims, dependencies, orchestrator, schedules, state_backend
from jobrunner.database import Database
from jobrunner.errors import OutputMissing, WaitCycle
from jobrunner.models import Claimed, Exit, Failure, InvocationId, Outcome, RunnerId, StopReason
from jobrunner.orchestrator import Ended
from jobrunner.ownership import RunnerLocks
from jobrunner.policy import Policy
from jobrunner.runner.registration import Introduction, Registration
from jobrunner.runner.settings import RunSettings
from jobrunner.status import Status
from jobrunner.wall_clock import WallClock
from tests.simulation import invariants
from tests.simulation.arrangements import Arrangements
from tests.simulation.world import Execution, Torn, World

RECENT = 12
"""Jobs wait for one of so many newest: older ones are final, mostly."""
SUCCESS = Outcome(result="1")
FAILURE = Outcome(failure=Failure("ValueError", "no"))


class SimulatedLocks(RunnerLocks):
    """The locks of one runner's process, in the simulated kernel."""

    def __init__(self, world: World, token: str) -> None:
        self._world = world
        self._token = token

    def take(self, runner: RunnerId) -> bool:
        return self._world.locked.setdefault(runner, self._token) == self._token

    def holder(self, runner: RunnerId) -> int | None:
        return None  # the processes of this world have no pids: nobody is found to hang

    def free(self, runner: RunnerId) -> None:
        self._world.locked.pop(runner, None)

    def close(self) -> None:
        for runner in [one for one, token in self._world.locked.items() if token == self._token]:
            del self._world.locked[runner]


class SimulatedRunner:
    """Starts with its registration and ends when it has stopped or was killed."""

    def __init__(self, world: World, arranged: Arrangements, number: int, slots: int, queues: Sequence[str]) -> None:
        self.world = world
        self.arranged = arranged
        self.slots = slots
        self.queues = queues
        self.token = f"token {number}"
        self.is_stopped_until = 0
        """SIGSTOP: it does nothing before this step."""
        self.is_stopping = False
        self.is_gone = False
        self.database = Database(world.path, relaxed=True)
        self._locks = SimulatedLocks(world, self.token)
        self._registration = Registration(
            self.database,
            self._locks,
            RunSettings(world.path, queues=tuple(queues)),
            Introduction("process", slots, self.token),
            world.kill_carriers,
        )
        self.id = self._registration.id
        self._wall_clock = WallClock(self.database)
        self._to_place: list[Execution] = []
        self._executions: dict[InvocationId, Execution] = {}
        self._ended: list[Ended] = []
        self._asking: list[tuple[Execution, list[InvocationId]]] = []
        self._waiting: dict[InvocationId, list[InvocationId]] = {}
        world.tell(f"runner {self.id} starts: {slots} slots, queues {list(queues)}")

    def step(self, *, healed: bool = False) -> None:
        """One thing that a runner does between two others of somebody else."""
        if self._to_place:
            self._place(healed=healed)
        elif self._executions and self.world.happens(0.5):
            self._work(healed=healed)
        elif self.world.happens(0.15):
            self.rescue()
        else:
            self.turn(may_be_torn=not healed)

    def settle(self) -> None:
        """Without faults: place what was claimed, and have what runs succeed."""
        self._place(healed=True)
        for execution in [one for one in self._executions.values() if not one.paused]:
            self._end(execution, SUCCESS)

    # What its jobs do

    def _place(self, *, healed: bool) -> None:
        to_place, self._to_place = self._to_place, []
        for execution in to_place:
            if not healed and self.world.happens(0.02):
                self._ended.append(self._over(execution, None, stopped="not_started"))
                self.world.tell(f"runner {self.id} cannot start job {execution.claimed.id}")
                continue
            self.world.starts(execution)
            self._executions[execution.claimed.id] = execution

    def _work(self, *, healed: bool) -> None:
        world = self.world
        execution = world.random.choice(list(self._executions.values()))
        if not healed and world.happens(world.rates.kill_worker):
            self._end(execution, None, exit_signal=9)
        elif execution.paused:
            if world.happens(0.1):
                self._waiting[execution.claimed.id] = []
                world.tell(f"job {execution.claimed.id} has waited long enough")
        elif self.is_stopping and world.happens(0.3):
            self._end(execution, None, stopped="shutdown")
        else:
            self._go_on(execution)

    def _go_on(self, execution: Execution) -> None:
        chance = self.world.random.random()
        if chance < 0.4:
            self._end(execution, SUCCESS)
        elif chance < 0.6:
            self._end(execution, FAILURE)
        elif chance < 0.65:
            self._end(execution, None, stopped="timeout")
        elif chance < 0.9 and self.world.promised:
            count = self.world.random.randint(1, 3)
            awaited = sorted({self.world.random.choice(self.world.promised[-RECENT:]) for _ in range(count)})
            self._asking = [one for one in self._asking if one[0] is not execution]
            self._asking.append((execution, awaited))
            self.world.tell(f"job {execution.claimed.id} asks to wait for {awaited}")

    def _end(
        self,
        execution: Execution,
        outcome: Outcome | None,
        *,
        exit_signal: int | None = None,
        stopped: StopReason | None = None,
    ) -> None:
        job = execution.claimed.id
        self.world.stops(execution)
        del self._executions[job]
        self._waiting.pop(job, None)
        self._asking = [one for one in self._asking if one[0] is not execution]
        self._ended.append(self._over(execution, outcome, exit_signal=exit_signal, stopped=stopped))
        word = stopped or (f"signal {exit_signal}" if exit_signal else "failed" if outcome is FAILURE else "success")
        self.world.tell(f"job {job}, claim {execution.claimed.claim}, ends: {word}")

    @staticmethod
    def _over(
        execution: Execution,
        outcome: Outcome | None,
        *,
        exit_signal: int | None = None,
        stopped: StopReason | None = None,
    ) -> Ended:
        exit = Exit(1, None if exit_signal else 0, exit_signal)
        return Ended(execution.claimed, execution.policy, outcome, exit, stopped)

    # Its transactions

    def turn(self, *, may_be_torn: bool) -> None:
        """What a runner's turn does in one transaction; the world learns of it after the commit."""
        self._heed_cancels()
        torn = may_be_torn and self.world.happens(self.world.rates.torn)
        try:
            with self.database.transaction():
                self._wall_clock.heed()
                verdicts = orchestrator.record_all(self.database, self._ended, self.id)
                self._settle()
                paused = [ask for ask in self._asking if self._pause(*ask)]
                resumed = self._resume()
                broker.promote_and_expire(self.database)
                schedules.fire_due(self.database)
                free = self._free(len(paused) - len(resumed))
                claimed = claims.claim(self.database, self.id, self.queues, free)
                self._fill(claimed)
                self.world.tear(torn)
        except Torn:
            self.world.tell(f"runner {self.id} is killed in the middle of its transaction")
            self.die()
            return
        self._wall_clock.written()
        for ended, verdict in zip(self._ended, verdicts, strict=True):
            assert verdict is not None, f"runner {self.id} was told that its own outcome is stale"
            self.world.was_recorded(ended, verdict.status)
        self._ended = []
        self._went_to_wait(paused)
        for job in resumed:
            del self._waiting[job]
            self._executions[job].paused = False
        invariants.check_choice(self.world, self.queues, claimed, free)
        invariants.check_retries(self.world)
        self.arranged.were_claimed(claimed)
        self._took(claimed)
        self.world.tell(
            f"runner {self.id} turns: records {len(verdicts)}, pauses {[one.claimed.id for one, _ in paused]}, "
            f"resumes {resumed}, claims {[one.id for one in claimed]}"
        )

    def _settle(self) -> None:
        """After that nobody waits for who has ended, and all that have ended are counted."""
        dependencies.settle(self.database)
        batches.count(self.database)
        assert not self.database.query("settling", limit=1), "something is not settled"
        assert not self.database.query("uncounted", limit=1), "something is not counted"

    def _fill(self, claimed: Sequence[Claimed]) -> None:
        """Results of others are in the place of each: what they returned is 1."""
        for one in claimed:
            missing = None
            if one.args is None:
                try:
                    args = claims.argument(self.database, one.id)
                except OutputMissing as error:
                    missing = error.invocation_id
                else:
                    assert set(json.loads(args)) == {1}, f"the arguments of job {one.id} became {args}"
            if missing is not None:  # it was retried in the meantime
                state = state_backend.states(self.database, [missing])[0]
                assert state.status is not Status.SUCCESS, f"job {one.id} did not get the result of job {missing}"

    def _heed_cancels(self) -> None:
        for job, claim in self.database.query("cancel_requests", runner=self.id):
            execution = self._executions.get(job)
            if execution is not None and execution.claimed.claim == claim:
                self._end(execution, None, stopped="cancel", exit_signal=15)

    def _pause(self, execution: Execution, ids: list[InvocationId]) -> bool:
        unfinished = orchestrator.unfinished(self.database, ids)
        if not unfinished:
            return False
        try:
            with self.database.transaction():
                orchestrator.pause(self.database, execution.claimed, unfinished)
        except WaitCycle:
            return False
        return True

    def _went_to_wait(self, paused: list[tuple[Execution, list[InvocationId]]]) -> None:
        self._asking = []
        for execution, ids in paused:
            execution.paused = True
            self._waiting[execution.claimed.id] = ids

    def _resume(self) -> list[InvocationId]:
        # Who was final once is not waited for again, whatever becomes of it.
        self._waiting = {job: orchestrator.unfinished(self.database, ids) for job, ids in self._waiting.items()}
        ready = [job for job, ids in self._waiting.items() if not ids]
        for job in ready:
            assert orchestrator.resume(self.database, self._executions[job].claimed), f"job {job} cannot go on"
        return ready

    def _free(self, given_back: int) -> int:
        busy = sum(not one.paused for one in self._executions.values()) + len(self._to_place)
        return 0 if self.is_stopping else max(0, self.slots - busy + given_back)

    def _took(self, claimed: list[Claimed]) -> None:
        for one in claimed:
            execution = Execution(one, self.id, self.token, self.world.policies.get(one.id, Policy()))
            self.world.was_claimed(execution)
            self._to_place.append(execution)

    # Deaths

    def rescue(self) -> None:
        """Take over from runners whose lock is free."""
        dead = [one for one in self.world.held.values() if one.runner not in self.world.locked]
        self._registration.rescue()
        for execution in dead:
            self.world.was_rescued(execution)
        if dead:
            self.world.tell(f"runner {self.id} takes over jobs {[one.claimed.id for one in dead]}")

    def die(self) -> None:
        """SIGKILL: the kernel frees its lock; some of its processes die with it, others linger."""
        self._locks.close()
        for execution in self._executions.values():
            if self.world.happens(0.5):
                self.world.stops(execution)
        self._leave()

    def stop(self) -> None:
        """When it was told to stop and all is recorded: say so."""
        if self.is_stopping and not (self._executions or self._to_place or self._ended):
            self._registration.stop("stopped by a signal")
            self._locks.close()
            self._leave()
            self.world.tell(f"runner {self.id} has stopped")

    def _leave(self) -> None:
        self.is_gone = True
        self.database.close()
