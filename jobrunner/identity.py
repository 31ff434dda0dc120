"""Whose database a file is, and of which version: ours alone, or an application's with our tables in it."""

import re
from typing import NamedTuple

APPLICATION_ID = 1785884274
SCHEMA_VERSION = 1


class Identity(NamedTuple):
    """What the query `identity` tells."""

    application_id: int
    user_version: int
    objects: int
    journal: str
    guest: str | None
    """The text of the view jr_schema, where it is there."""

    @property
    def is_empty(self) -> bool:
        """Nobody's yet."""
        return (self.application_id, self.user_version, self.objects) == (0, 0, 0)

    @property
    def is_ours(self) -> bool:
        """Whether it has our tables."""
        return self.is_ours_alone or self.guest is not None

    @property
    def is_ours_alone(self) -> bool:
        """Whether it is a database of jobs and of nothing else."""
        return self.application_id == APPLICATION_ID

    @property
    def version(self) -> int:
        """Of our schema; what it is where it is not ours means nothing."""
        if self.is_ours_alone:
            return self.user_version
        found = re.search(r"SELECT (\d+) AS version", self.guest or "")
        return int(found[1]) if found else 0
