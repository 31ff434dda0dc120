"""The file of an application that has an outbox: rows read, taken away and set aside there."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jobrunner.database import Database
from jobrunner.errors import UsageError

PATIENCE_SECONDS = 0.2
"""How long the application may keep its write lock while the jobs' database is kept, too."""


class OutboxRow(NamedTuple):
    """What an application has written; `at` is when."""

    id: int
    job: str
    at: int


class Refused(NamedTuple):
    """A row that is no job, and why."""

    id: int
    job: str
    at: int
    error: str


class OutboxFile(Database):
    """A connection of ours to it; nothing in it is touched but the outbox. UsageError where there is none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, checkpoint_pages=1000)
        self.patience.seconds = PATIENCE_SECONDS

    def _prepare_schema(self) -> None:
        # Whose database it is does not matter, and it is left in the mode that it is in.
        if not self.query("has_outbox")[0][0]:
            raise UsageError(f"{self.path} has no outbox: `jobrunner init {self.path} --outbox` makes one")

    @property
    def name(self) -> str:
        """By which it is known, wherever the file is."""
        row = self.one("outbox_name")
        if row is None:
            raise UsageError(f"the outbox in {self.path} has no name: jr_outbox_name is empty")
        return str(row[0])

    @property
    def last(self) -> int:
        """The largest number that it has given to a row."""
        return int(self.query("outbox_last")[0][0])

    def rows(self, after: int, limit: int) -> list[OutboxRow]:
        """The next rows that are committed, by number."""
        return [OutboxRow(*row) for row in self.query("outbox_rows", after=after, limit=limit)]

    def refused(self) -> list[Refused]:
        """What was set aside."""
        return [Refused(*row) for row in self.query("outbox_refused")]

    def forget(self, last: int) -> None:
        """The rows up to this one are jobs by now."""
        if self.query("outbox_has_drained", last=last)[0][0]:
            with self.transaction():
                self.query("forget_outbox", last=last)

    def set_aside(self, refused: Sequence[tuple[int, str]]) -> None:
        """These rows are no jobs; with the sentence that says why."""
        with self.transaction():
            self.change_many("refuse_in_outbox", refused)
            self.change_many("remove_from_outbox", [(one,) for one, _ in refused])

    def retry(self, ids: Sequence[int]) -> int:
        """Put rows that were set aside back, all where none is named; tells how many."""
        names = json.dumps(list(ids)) if ids else None
        with self.transaction():
            back = self.query("outbox_retry", ids=names)
            self.query("forget_refused", ids=names)
        return len(back)
