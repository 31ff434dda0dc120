"""One seed from its beginning to the moment at which everything is final."""

from pathlib import Path
from random import Random

import apsw

from jobrunner import broker, times
from jobrunner.database import Database
from tests.simulation import invariants
from tests.simulation.arrangements import Arrangements, check_nothing_is_due
from tests.simulation.clients import Client
from tests.simulation.planner import Planner
from tests.simulation.runner import SimulatedRunner
from tests.simulation.windows import Windows
from tests.simulation.world import QUEUES, Rates, World

STEPS = 400
CHECK_EVERY = 10
HEALED_ROUNDS = 400
"""How many turns it may take until everything is final, once nothing goes wrong any more."""
HOUR = 3_600_000
MOST_RUNNERS = 4
SHOWN_STEPS = 30


class Failed(AssertionError):
    """A seed broke a promise: which one, and what led there."""


def simulate(seed: int, path: Path) -> list[str]:
    """The trace of the seed; Failed where something did not hold."""
    random = Random(seed)
    with Database(path, create=True, relaxed=True):
        eyes = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        simulation = Simulation(World(random, Rates.drawn(random), eyes, path), seed)
        try:
            with times.clocks(simulation.world.clocks()):
                simulation.run()
        except Exception as error:
            steps = "\n".join(simulation.world.trace[-SHOWN_STEPS:])
            raise Failed(f"seed {seed}: {error!r}\n{simulation.world.rates}\n{steps}") from error
        finally:
            simulation.close()
            eyes.close()
    return simulation.world.trace


class Simulation:
    """Starts with a seed's world and ends with `close`."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.arranged = Arrangements(world)
        self.windows = Windows(world, self.arranged, seed)
        world.heed_retries = self.arranged.was_retried
        self.clients = [Client(world, self.arranged), Client(world, self.arranged)]
        self.planner = Planner(world)
        self.runners: list[SimulatedRunner] = []
        self.started = 0

    def run(self) -> None:
        for number in range(STEPS):
            self._move_clock()
            self._step(number)
            self.windows.step(self.clients[0].database)
            self.arranged.look()
            if number % CHECK_EVERY == 0:
                invariants.check(self.world)
        self._heal()

    def close(self) -> None:
        for client in self.clients:
            client.database.close()
        self.planner.database.close()
        for runner in self.runners:
            runner.database.close()

    def _move_clock(self) -> None:
        world = self.world
        world.goes_on(world.random.randint(0, 3000))
        if world.happens(world.rates.jump):
            jump = world.random.randint(-HOUR, HOUR)
            world.now += jump
            world.latest = max(world.latest, world.now)
            world.tell(f"the clock jumps by {jump} ms")

    def _step(self, number: int) -> None:
        world = self.world
        if world.happens(world.rates.late):
            world.random.choice(self.clients).deliver_late()
        if len(self.runners) < 2 or (len(self.runners) < MOST_RUNNERS and world.happens(0.02)):
            self._start_runner()
        actors: list[Client | Planner | SimulatedRunner] = [*self.clients[:1], *self.runners, *self.runners]
        actor = self.planner if world.happens(0.07) else world.random.choice(actors)
        if isinstance(actor, Client | Planner):
            actor.step()
        elif actor.is_stopped_until <= number:
            self._step_of(actor, number)
        self.runners = [one for one in self.runners if not one.is_gone]

    def _step_of(self, runner: SimulatedRunner, number: int) -> None:
        world = self.world
        if world.happens(world.rates.kill_runner):
            world.tell(f"runner {runner.id} is killed")
            runner.die()
        elif world.happens(world.rates.stop):
            runner.is_stopped_until = number + world.random.randint(5, 80)
            world.tell(f"runner {runner.id} is stopped until step {runner.is_stopped_until}")
        elif world.happens(0.01):
            runner.is_stopping = True
            world.tell(f"runner {runner.id} is told to stop")
        else:
            runner.step()
            if not runner.is_gone:
                runner.stop()

    def _start_runner(self, queues: tuple[str, ...] | None = None) -> None:
        self.started += 1
        random = self.world.random
        if queues is None:
            queues = random.choice(((), (), QUEUES[:1], QUEUES[:2]))
        self.runners.append(SimulatedRunner(self.world, self.arranged, self.started, random.randint(1, 4), queues))

    def _heal(self) -> None:
        """No more faults: who was stopped goes on, what is held is let go, and all must end."""
        world = self.world
        world.now = world.latest  # what was put off by the clock that it showed then is due by that clock
        world.tell("everything is healed")
        self._start_runner(())
        self.runners[-1].turn(may_be_torn=False)
        self.arranged.look()
        check_nothing_is_due(self.world)
        self.planner.end_all()
        held = [row[0] for row in world.see("SELECT id FROM jr_invocation WHERE status = 'blocked' AND hold")]
        world.was_retried(broker.retry(self.clients[0].database, held, reason="let go"))
        for number in range(HEALED_ROUNDS):
            world.goes_on(HOUR // 60)
            for runner in self.runners:
                runner.rescue()
                runner.settle()
                runner.turn(may_be_torn=False)
                runner.stop()
                self.arranged.look()
            self.runners = [one for one in self.runners if not one.is_gone]
            if number % CHECK_EVERY == 0:
                invariants.check(world)
            if not world.see("SELECT 1 FROM jr_invocation WHERE finished_at IS NULL LIMIT 1"):
                break
        invariants.check(world)
        left = world.see("SELECT id, status, reason FROM jr_invocation WHERE finished_at IS NULL")
        assert not left, f"not final after {HEALED_ROUNDS} turns: {left}"
        batches = world.see("SELECT id, total, done, failed, open FROM jr_batch WHERE finished_at IS NULL")
        assert not batches, f"not complete: {batches}"
        assert not world.held, "something is held that is final"
