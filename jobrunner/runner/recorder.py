"""What came in from workers, kept until the turn's transaction writes it down; and the answers, sent after it."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from jobrunner import orchestrator, state_backend
from jobrunner.cache import SharedCache
from jobrunner.database import Database
from jobrunner.errors import UsageError
from jobrunner.models import Claimed, Failure, InvocationId, Json, Outcome, RunnerId
from jobrunner.orchestrator import Verdict
from jobrunner.runner import journal, requests
from jobrunner.runner.capture import Piece
from jobrunner.runner.running import Running
from jobrunner.status import Status

FLUSH_SECONDS = 0.25
"""How old the output of a running job gets before it is in the database."""

Reply = Callable[..., None]


class Asked(NamedTuple):
    """A job asks for something: how to answer it, and what it asks."""

    running: Running
    reply: Reply
    verb: str
    facts: list[Json]


class _Draft(NamedTuple):
    """What a turn's transaction writes down; it is forgotten here when the commit is certain."""

    flushed: list[Running]
    told: list[tuple[Claimed, Verdict | None]]
    replies: list[Callable[[], None]]


class Recorder:
    """A runner's side of the records, from its registration on."""

    def __init__(self, database: Database, runner: RunnerId, cache: SharedCache) -> None:
        self._database = database
        self._cache = cache
        self._runner = runner
        self._ended: list[Running] = []
        self._asked: list[Asked] = []
        self._progress: dict[tuple[int, int], tuple[float | None, str | None]] = {}
        self._declared: list[Running] = []
        self._draft = _Draft([], [], [])
        self._told: list[tuple[Claimed, Verdict | None]] = []
        self.failed = 0
        """How many jobs have failed here for good."""
        self._replies: list[Callable[[], None]] = []

    def ended(self, *those: Running) -> None:
        """Attempts are over."""
        self._ended += those

    def asked(self, running: Running, reply: Reply, verb: str, facts: list[Json]) -> None:
        """A job asks something and waits for the answer."""
        if verb == "cache":  # at once, and once: no transaction that fails and is made again may add to it twice
            self._replies.append(functools.partial(reply, *requests.answer_from_cache(self._cache, facts)))
        else:
            self._asked.append(Asked(running, reply, verb, facts))

    def declared(self, running: Running) -> None:
        """The task said how it is to be done: should this runner die, the one that takes over must know."""
        self._declared.append(running)

    def progress(self, running: Running, fraction: float | None, message: str | None) -> None:
        """A job says how far it is; only the last word of a turn is kept."""
        self._progress[running.claimed.id, running.claimed.claim] = (fraction, message)

    @property
    def has_more(self) -> bool:
        """Whether something came in that others may be waiting for."""
        return bool(self._ended or self._asked or self._progress or self._declared)

    @property
    def unrecorded(self) -> int:
        """How many outcomes are kept here, and not yet in the database."""
        return len(self._ended)

    def wants(self, running: Iterable[Running]) -> bool:
        """Whether `write` has something to do."""
        return self.has_more or any(_is_old(one) for one in running)

    def write(self, running: Iterable[Running]) -> bool:
        """Inside a transaction: write all down; tells whether that may have made something claimable.

        Everything is kept until `written`: a transaction that fails loses nothing.
        """
        self._draft = _Draft([one for one in running if _is_old(one)], [], [])
        for one in self._draft.flushed:
            if one.capture is not None:
                self._put_output(one, one.capture.head())
        for one in self._declared:
            with contextlib.suppress(UsageError):  # a text that cannot be kept: it is done so all the same
                orchestrator.keep_policy(self._database, one.claimed, one.policy)
        for (invocation_id, claim), facts in self._progress.items():
            state_backend.put_progress(self._database, invocation_id, claim, *facts)
        if self._ended:
            self._record_ended()
        for asked in self._asked:
            answer = requests.answer(self._database, asked.running.claimed, asked.verb, asked.facts)
            self._draft.replies.append(functools.partial(asked.reply, *answer))
        return bool(self._ended or self._asked)

    @property
    def made_final(self) -> list[InvocationId]:
        """Those that are final by what `write` wrote."""
        return [one.id for one, verdict in self._draft.told if verdict is not None and verdict.status.is_final]

    def written(self) -> None:
        """The commit is certain: forget what is in the database now."""
        for one in self._draft.flushed:
            if one.capture is not None:
                one.capture.forget_head()
            one.flushed_at = time.monotonic()
        self._told += self._draft.told
        self._replies += self._draft.replies
        self._ended, self._asked, self._progress, self._declared = [], [], {}, []

    def reply(self) -> None:
        """Send the answers; what was written is committed."""
        replies, self._replies = self._replies, []
        for reply in replies:
            reply()

    def tell(self) -> None:
        """Tell what ended, when nobody has to wait for that."""
        told, self._told = self._told, []
        journal.ended(told)
        self.failed += sum(verdict is not None and verdict.status is Status.FAILED for _, verdict in told)

    def _record_ended(self) -> None:
        for one in self._ended:
            if one.capture is not None:
                self._put_output(one, one.capture.all())
        try:
            verdicts = orchestrator.record_all(self._database, [one.ended() for one in self._ended], self._runner)
        except UsageError:  # the database refuses what one of them delivered: which?
            verdicts = [self._record(one) for one in self._ended]
        if stale := verdicts.count(None):
            self._database.query("count_stale", runner=self._runner, more=stale)
        self._draft.told.extend(zip([one.claimed for one in self._ended], verdicts, strict=True))

    def _record(self, running: Running) -> Verdict | None:
        try:
            return orchestrator.record(self._database, running.ended(), self._runner)
        except UsageError as error:
            running.outcome = Outcome(failure=Failure("BadOutcome", f"its outcome cannot be kept: {error}"))
            return orchestrator.record(self._database, running.ended(), self._runner)

    def _put_output(self, running: Running, pieces: list[Piece]) -> None:
        if pieces:
            state_backend.put_output(self._database, running.claimed.id, running.claimed.claim, pieces)


def _is_old(running: Running) -> bool:
    moment = flush_moment(running)
    return moment is not None and time.monotonic() >= moment


def flush_moment(running: Running) -> float | None:
    """When the output of a running job is to be written down, on the monotonic clock."""
    has_pieces = running.capture is not None and running.capture.has_pieces
    return running.flushed_at + FLUSH_SECONDS if has_pieces else None
