"""From an application's outbox to jobs: each row once, whoever dies when.

The number of the last row that was taken is written in the transaction that enqueues. Rows are committed in the order
of their numbers, since SQLite has one writer and a number is given under its lock. So all that is committed above that
number is new, and what is not above it has become a job, even where somebody died before it was taken away.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from jobrunner import broker, lines, payload
from jobrunner.database import Database
from jobrunner.errors import (
    DatabaseBroken,
    DatabaseBusy,
    JobRunnerError,
    NotAllowed,
    NotBegun,
    NotSerializable,
    OutboxTrouble,
    UsageError,
)
from jobrunner.lifetime import Closing
from jobrunner.models import Json, Request
from jobrunner.outbox_file import OutboxFile, OutboxRow
from jobrunner.times import now_ms

ROWS_AT_ONCE = 500
_FRAME = 64 << 10
"""Bytes beside its arguments that a row of ours may have."""
_WAYS = ("skip", "replace", "error", "once", "debounce", "throttle")
_ROWS_FAULT = (TypeError, ValueError, ArithmeticError, RecursionError, JobRunnerError)
_OURS = (DatabaseBroken, DatabaseBusy, NotAllowed, OutboxTrouble)

Bad = tuple[int, str]
"""The number of a row that is no job, and why."""


class Drained(NamedTuple):
    """How many rows have become jobs, which were set aside, and whether there are more."""

    rows: int
    refused: list[Bad]
    more: bool


def text_of(request: Request) -> str:
    """A row for a request that is made by Python code: lossless, where a line for people is not."""
    usual = Request._field_defaults
    facts = request._asdict().items()
    said = {name: value for name, value in facts if name != "args" and (name not in usual or value != usual[name])}
    return f'{{"request": {json.dumps(said, ensure_ascii=False)}, "args": {request.args}}}'


class Outbox(Closing):
    """It starts with the outbox open, and ends with `close`; the jobs' database is somebody else's to close."""

    def __init__(self, database: Database, path: Path) -> None:
        if path.exists() and database.path.exists() and path.samefile(database.path):
            raise UsageError(f"the jobs are in {path}, too: there `app.using(conn)` enqueues, and needs no outbox")
        self._database = database
        self._lines = lines.Lines({})
        self.file = OutboxFile(path)

    def close(self) -> None:
        """Close the application's file."""
        self.file.close()

    def drain(self) -> Drained:
        """Make jobs of the next rows. OutboxTrouble where the application's file is why that cannot be done now."""
        with self._told():
            name = self.file.name
            last = self._last(name)
            if self.file.last < last:  # asked after `last`, since others may drain it, too
                raise OutboxTrouble(self.file.path, _WENT_BACK.format(last=last))
            rows = self.file.rows(last, ROWS_AT_ONCE)
        drained = self._take(name, rows) if rows else Drained(0, [], more=False)
        with self._told(), contextlib.suppress(NotBegun):  # they are taken away the next time
            self.file.forget(rows[-1].id if rows else last)
        return drained

    def _take(self, name: str, rows: Sequence[OutboxRow]) -> Drained:
        with self._database.transaction():
            last = self._last(name)
            fresh = [row for row in rows if row.id > last]
            refused = self._enqueue(fresh)
            if refused:
                # Committed there before the rows count as taken here: else a death between the two would lose them.
                with self._told():
                    self.file.set_aside(refused)
            self._database.query("set_drained", outbox=name, file=str(self.file.path), last=rows[-1].id, now=now_ms())
        return Drained(len(fresh) - len(refused), refused, more=len(rows) == ROWS_AT_ONCE)

    def _last(self, name: str) -> int:
        row = self._database.one("drained", outbox=name)
        return 0 if row is None else int(row[0])

    def _enqueue(self, rows: Sequence[OutboxRow]) -> list[Bad]:
        """Enqueue them, together if that goes, else one by one; gives those that cannot be."""
        requests: list[tuple[int, Request]] = []
        refused: list[Bad] = []
        for row in rows:
            try:
                requests.append((row.id, self._request(row)))
            except _ROWS_FAULT as error:
                refused.append((row.id, str(error)))
        try:
            with self._database.transaction():
                broker.enqueue(self._database, [request for _, request in requests])
        except _OURS:
            raise
        except _ROWS_FAULT:
            refused += self._one_by_one(requests)
        return refused

    def _one_by_one(self, requests: Sequence[tuple[int, Request]]) -> Iterator[Bad]:
        for one, request in requests:
            try:
                with self._database.transaction():
                    broker.enqueue(self._database, [request])
            except _OURS:
                raise
            except _ROWS_FAULT as error:
                yield one, str(error)

    def _request(self, row: OutboxRow) -> Request:
        facts = payload.load(row.job, "fields", frame=_FRAME)
        if isinstance(facts, dict) and "request" in facts:
            return _ours(facts)
        return self._lines.request(lines.checked(facts), row.at)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell trouble with the application's file from trouble with ours."""
        try:
            yield
        except OutboxTrouble:
            raise
        except (DatabaseBroken, DatabaseBusy, NotAllowed, UsageError) as error:
            raise OutboxTrouble(self.file.path, error) from error


_WENT_BACK = (
    "its rows are numbered anew, as when the file was replaced by an older copy, and up to row {last} all were taken "
    "already. To have all that is in it enqueued: UPDATE jr_outbox_name SET name = lower(hex(randomblob(16)))"
)


def _ours(facts: dict[str, Json]) -> Request:
    """What `text_of` wrote; the rest of it is judged by the database."""
    try:
        request = Request(**facts["request"], args=payload.dump(facts.get("args", {}), "arguments"))
    except TypeError as error:
        raise UsageError(f"this is no request: {error}") from error
    if request.if_exists not in _WAYS:
        raise NotSerializable(f"if_exists is one of {', '.join(_WAYS)}, not {request.if_exists!r}")
    return request
