"""The schedules that the imported task modules declare, on their way from the template to the database."""

import logging
from typing import NamedTuple, Self

from jobrunner import schedules
from jobrunner.arrangements import Plan
from jobrunner.channel import Message
from jobrunner.database import Database
from jobrunner.errors import UsageError

log = logging.getLogger("jobrunner.runner")


class Declared(NamedTuple):
    """The plans, and the modules that would declare others if they still did."""

    plans: list[Plan]
    modules: list[str]

    @classmethod
    def read(cls, message: Message) -> Self:
        """`["schedules", plans, modules]`."""
        _, plans, modules = message
        return cls([Plan(*plan) for plan in plans], modules)

    def write(self, database: Database) -> None:
        """Write them down, where there is something to; a name that two functions declare is refused."""
        names = [plan.name for plan in self.plans]
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"two functions declare a schedule {min(twice)!r}: give one of them another name=")
        if not self.modules and not self.plans:
            return
        for name in schedules.declare(database, self.plans, self.modules):
            log.warning("schedule %s is not in the code any more, and does not fire: `jobrunner schedule remove`", name)
