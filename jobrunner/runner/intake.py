"""When there may be something to claim, and the claiming of it."""

import logging
import time

from jobrunner import broker, claims, schedules
from jobrunner.database import Database
from jobrunner.models import Claimed, RunnerId
from jobrunner.runner.settings import RunSettings
from jobrunner.times import iso, now_ms

UNREADABLE_SECONDS = 60.0
"""When a schedule that could not be read is looked at again: it may be mended, or the time zones of the machine."""

log = logging.getLogger("jobrunner.runner")


class Intake:
    """A runner's side of the queue, from its registration on; it asks only where something may have changed."""

    def __init__(self, database: Database, runner: RunnerId, settings: RunSettings) -> None:
        self._database = database
        self._runner = runner
        self._queues = settings.queues
        self._left = settings.max_jobs
        self._may_be_pending = True
        self._fires = settings.schedules
        self._unreadable: set[str] = set()
        self._read_again_at: float | None = None
        self._due_at = self._next_due()
        self._is_due_at_known = True
        self._not_before = 0.0
        self._let_in_at: int | None = None
        self.ended_some = False
        """Whether the last `take` made some final: others may wait for them."""

    def look_again(self) -> None:
        """Somebody, or we, changed something. When the next is due is asked after the turn: claims need not wait."""
        self._may_be_pending = True
        self._is_due_at_known = False

    def see_what_is_due(self) -> None:
        """Once a turn, before the sleep: when the clock will have something for us."""
        if not self._is_due_at_known:
            self._due_at = self._next_due()
            self._is_due_at_known = True

    def postpone(self, seconds: float) -> None:
        """Claim nothing for a while: what was claimed could not be started."""
        self._not_before = time.monotonic() + seconds

    @property
    def is_exhausted(self) -> bool:
        """Whether as many were claimed as this runner was to do; from now on it takes only what others wait for."""
        return self._left == 0

    def room(self, free: int) -> int:
        """How many of the free slots may be filled now."""
        if time.monotonic() < self._not_before:
            return 0
        return min(free, self._left) if self._left else free

    def wants(self, free: int) -> bool:
        """Whether `take` has something to do."""
        return self._is_due() or (self.room(free) > 0 and (self._may_be_pending or self._is_let_in()))

    def take(self, free: int, *, awaited_only: bool = False) -> list[Claimed]:
        """Inside a transaction: let the clock act, then claim for the free slots. `written` or `undone` follows.

        `awaited_only`: this time it takes none but those that others wait for.
        """
        self.ended_some = False
        if self._is_due():
            self.ended_some = broker.promote_and_expire(self._database) > 0
            self.ended_some |= self._fires and self._fire()
            self.look_again()
        room = self.room(free)
        if room <= 0 or not (self._may_be_pending or self._is_let_in()):
            return []
        only = self.is_exhausted or awaited_only
        taken = claims.take(self._database, self._runner, self._queues, room, awaited_only=only)
        self.ended_some |= taken.dropped > 0
        self._may_be_pending = taken.more or awaited_only or len(taken.claimed) == room
        self._let_in_at = taken.next_at
        if taken.rated:
            self._is_due_at_known = False
        return taken.claimed

    def written(self, claimed: int) -> None:
        """The commit is certain: so many are ours."""
        if self._left is not None:
            self._left = max(0, self._left - claimed)

    def returned(self) -> None:
        """One of ours goes back without having begun: another may be done in its stead."""
        if self._left is not None:
            self._left += 1

    def undone(self) -> None:
        """The transaction came to nothing: the next one has to look at everything, the clock included."""
        self._may_be_pending = True
        self._due_at, self._is_due_at_known = now_ms(), True

    def is_drained(self) -> bool:
        """Whether nothing is pending here and no retry waits."""
        return not self._may_be_pending and broker.is_drained(self._database, self._queues)

    @property
    def next_moment(self) -> float | None:
        """When the clock alone gives us something to do, on the monotonic clock."""
        now = time.monotonic()
        moments = [self._not_before] if self._not_before > now else []
        moments += [] if self._read_again_at is None else [self._read_again_at]
        if self._due_at is not None:
            moments.append(now + (self._due_at - now_ms()) / 1000)
        if self._let_in_at is not None and not self._is_let_in():
            moments.append(now + (self._let_in_at - now_ms()) / 1000)
        return min(moments, default=None)

    def _fire(self) -> bool:
        fired = schedules.fire_due(self._database, self._unreadable)
        for name, why in fired.unreadable.items():
            log.error("schedule %s does not fire here, since it cannot be read: %s", name, why)
            self._unreadable.add(name)
            self._read_again_at = time.monotonic() + UNREADABLE_SECONDS
        for one in fired.skipped:
            more = f" and {one.more} before it" if one.more else ""
            log.warning("schedule %s: %s%s is left out: %s", one.schedule, iso(one.instant), more, one.reason)
        return fired.jobs > 0

    def _is_let_in(self) -> bool:
        """Whether a queue that had a pause, or had begun too many, may be served again."""
        return self._let_in_at is not None and now_ms() >= self._let_in_at

    def _next_due(self) -> int | None:
        return broker.next_due(self._database, schedules=self._fires, without=self._unreadable)

    def _is_due(self) -> bool:
        if self._read_again_at is not None and time.monotonic() >= self._read_again_at:
            self._unreadable, self._read_again_at = set(), None
            self._due_at = self._next_due()
        return self._due_at is not None and now_ms() >= self._due_at
