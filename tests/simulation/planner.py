"""Somebody who arranges things: batches with what is to follow them, and schedules."""

from jobrunner import batches, schedules
from jobrunner.arrangements import Batch, Missed, Overlap, Plan
from jobrunner.batches import Callbacks
from jobrunner.database import Database
from jobrunner.errors import BatchNotFound, UniqueKeyTaken
from jobrunner.models import Request
from tests.simulation.world import BATCHES, QUEUES, World

OVERLAPS: tuple[Overlap, ...] = ("skip", "queue", "allow", "replace")
MISSED: tuple[Missed, ...] = ("none", "one", "all")
SPECS = ("every 400s", "every 30m", "*/7 * * * *", "0 * * * *")
NAMES = ("first", "second")


class Planner:
    """A process with a connection of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.database = Database(world.path, relaxed=True)

    def step(self) -> None:
        steps = [
            self.make_batch,
            self.close_batch,
            self.cancel_batch,
            self.retry_batch,
            self.put_schedule,
            self.hold,
            self.run,
        ]
        self.world.random.choices(steps, (6, 4, 1, 2, 2, 2, 1))[0]()

    # Batches

    def make_batch(self) -> None:
        random = self.world.random
        name = random.choice(BATCHES)
        number = batches.make(self.database, name, Callbacks(), is_open=True)
        said = [
            Request(task, label=str(number), queue=random.choice(QUEUES)) if random.random() < 0.7 else None
            for task in ("success", "failure", "complete")
        ]
        batches.make(self.database, name, Callbacks(*said), is_open=random.random() < 0.5)
        self.world.tell(f"somebody makes batch {number}, {name}")

    def _batch(self) -> Batch | None:
        try:
            return batches.find(self.database, self.world.random.choice(BATCHES))
        except BatchNotFound:
            return None

    def close_batch(self) -> None:
        if (batch := self._batch()) is not None:
            batches.close(self.database, batch.id)
            self.world.tell(f"batch {batch.id} is closed")

    def cancel_batch(self) -> None:
        if (batch := self._batch()) is not None:
            self.world.tell(f"batch {batch.id} is cancelled: {batches.cancel(self.database, batch.id)}")

    def retry_batch(self) -> None:
        if (batch := self._batch()) is not None:
            try:
                again = batches.retry(self.database, batch.id)
            except UniqueKeyTaken:
                return
            self.world.was_retried(again)
            self.world.tell(f"batch {batch.id} is retried: {again}")

    # Schedules

    def put_schedule(self) -> None:
        random = self.world.random
        name = random.choice(NAMES)
        if self.world.see("SELECT 1 FROM jr_schedule WHERE name = ?", name):
            return  # what its instants were before would not be known any more
        missed = random.choice(MISSED)
        plan = Plan(
            name,
            spec=random.choice(SPECS),
            zone="UTC",
            task="a:b",
            overlap=random.choice(OVERLAPS),
            missed=missed,
            missed_age=random.choice((None, 1_800_000)) if missed == "all" else None,
            queue=random.choice(QUEUES),
        )
        schedules.put(self.database, plan, "command")
        self.world.tell(f"somebody makes the schedule {name}: {plan.spec}, {plan.overlap}, {plan.missed}")

    def hold(self) -> None:
        """Put it once more, as each runner does that imports its module: that changes nothing."""
        for one in schedules.schedules(self.database):
            schedules.put(self.database, one.plan, "code")

    def run(self) -> None:
        for one in schedules.schedules(self.database)[:1]:
            job = schedules.run_now(self.database, one.plan.name)
            self.world.runs[one.plan.name] += 1
            self.world.tell(f"somebody runs {one.plan.name} now: job {job}")

    def end_all(self) -> None:
        """Nothing more is to come: batches are closed, schedules held."""
        for (batch,) in self.world.see("SELECT id FROM jr_batch WHERE open"):
            batches.close(self.database, batch)
        for one in schedules.schedules(self.database):
            schedules.pause(self.database, one.plan.name)
