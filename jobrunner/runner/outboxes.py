"""The outboxes that a runner drains: looked at when their files were written, a few hundred rows in a turn."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from jobrunner.commit_watch import CommitWatch
from jobrunner.database import Database
from jobrunner.errors import JobRunnerError, NotBegun, OutboxTrouble
from jobrunner.lifetime import Closing
from jobrunner.outbox import Outbox

_REST = 0.5
_LONGEST_REST = 30.0
_BETWEEN_CHECKS = 1.0
"""Seconds until it is asked again whether the file is still the one of this path."""

log = logging.getLogger("jobrunner.runner")


class _Watched(Closing):
    """One of them; where there is trouble with it, it is opened anew later."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._path = path
        self._rest = _REST
        self._told: str | None = None
        self._checked_at = time.monotonic()
        self._not_before = 0.0
        self._opened: tuple[Outbox, CommitWatch] | None = None
        self.has_news = True
        self._open()

    def close(self) -> None:
        if self._opened is not None:
            outbox, watch = self._opened
            self._opened = None
            watch.close()
            outbox.close()

    @property
    def poll_seconds(self) -> float:
        """How long one may sleep before `look` is to be called."""
        rest = self._not_before - time.monotonic()
        if rest > 0 or self._opened is None:
            return max(0.0, rest)
        return 0.0 if self.has_news else self._opened[1].poll_seconds

    @property
    def has_more(self) -> bool:
        """Whether there may be something to drain now."""
        return self.has_news and self._opened is not None and time.monotonic() >= self._not_before

    def look(self) -> None:
        """Whether somebody has written there."""
        try:
            if self._opened is None and time.monotonic() >= self._not_before:
                self._open()
            if self._opened is not None:
                self.has_news |= self._opened[1].has_committed()
                self._check()
        except JobRunnerError as error:
            self._meet(error)

    def drain(self) -> int:
        """Make jobs of some rows, and tell of how many; what is wrong with our own file is raised."""
        if not self.has_more or self._opened is None:
            return 0
        try:
            drained = self._opened[0].drain()
        except OutboxTrouble as error:
            self._meet(error)
            return 0
        except NotBegun:
            self._not_before = time.monotonic() + _REST  # somebody is writing our own file
            return 0
        self.has_news, self._rest, self._told = drained.more, _REST, None
        self._opened[1].committed_ourselves()
        for one, why in drained.refused:
            log.warning("row %d of the outbox in %s is set aside: %s", one, self._path, why)
        return drained.rows

    def _open(self) -> None:
        outbox = Outbox(self._database, self._path)
        self._opened = (outbox, CommitWatch(outbox.file))
        self.has_news = True

    def _check(self) -> None:
        if self._opened is not None and time.monotonic() - self._checked_at >= _BETWEEN_CHECKS:
            self._checked_at = time.monotonic()
            if self._opened[0].file.has_moved:
                raise OutboxTrouble(self._path, "the file was deleted or replaced")

    def _meet(self, error: JobRunnerError) -> None:
        """The application's file cannot be used now: told once, and tried again later. Jobs go on meanwhile."""
        if str(error) != self._told:
            log.error("%s; trying again", error)
            self._told = str(error)
        self._not_before = time.monotonic() + self._rest
        self._rest = min(2 * self._rest, _LONGEST_REST)
        self.has_news = True
        if not isinstance(error.__cause__, NotBegun):
            self.close()


class Outboxes(Closing):
    """From the opening of the runner's database on; an outbox that cannot be opened at the start ends the runner."""

    def __init__(self, database: Database, paths: Sequence[Path]) -> None:
        self._all: list[_Watched] = []
        try:
            for path in paths:
                self._all.append(_Watched(database, path))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close their files."""
        for one in self._all:
            one.close()

    @property
    def poll_seconds(self) -> float:
        """How long the runner may sleep before it is to look here."""
        return min((one.poll_seconds for one in self._all), default=3600.0)

    def drain(self) -> bool:
        """Make jobs of what is new, some of it at a time; tells whether there were any, or are more."""
        for one in self._all:
            one.look()
        made = sum(one.drain() for one in self._all)
        return made > 0 or any(one.has_more for one in self._all)
