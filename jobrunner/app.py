"""The application: the database's path, the tasks, and what one does with both."""

import contextlib
import os
from _thread import allocate_lock  # see channel
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from jobrunner import aliases, declarations, early_signals, outputs
from jobrunner.arrangements import Overlap
from jobrunner.channel_client import ChannelClient
from jobrunner.client import Client
from jobrunner.context import find_current
from jobrunner.declarations import Declaration
from jobrunner.errors import UsageError
from jobrunner.invocation import AnyInvocation, Invocation
from jobrunner.models import InvocationId, Json, Kind, Request
from jobrunner.options import Options, OptionWords, joined
from jobrunner.status import Status
from jobrunner.task import Enqueuer, Task
from jobrunner.times import Duration, Moment
from jobrunner.timing import Timing

# Types of what is imported where it is asked for: it opens the database, which no worker does, or costs each fork.
if TYPE_CHECKING:
    from pathlib import Path

    from jobrunner.batch_book import OpenBatch
    from jobrunner.schedule_book import Schedules

_borrowed: "ContextVar[tuple[tuple[App, Client], ...]]" = ContextVar("jobrunner_using", default=())
"""The connections that apps are to use here, the innermost last."""
P = ParamSpec("P")
R = TypeVar("R")


class Decorator:
    """What `app.task(...)` gives: it makes a Task of a function, plain or `async def`."""

    def __init__(self, options: Options, names: Sequence[str], client: Callable[[], Client]) -> None:
        self._options = options
        self._names = names
        self._client = client

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> Task[P, R, R]: ...
    def __call__(self, function: Callable[P, Any]) -> Task[P, Any, Any]:
        """Make it a task."""
        task = Task[P, Any, Any](function, self._options, self._client)
        aliases.take_over(tuple(self._names), task)
        return task


class App:
    """Tasks and jobs of one database file: `App("jobs.db")`; without a path the one that the command line means.

    `relaxed` does not wait for the disk: a power cut may then undo the last moments, enqueued jobs included. It looks
    once in a millisecond, and not before each transaction, whether the file is still there.
    Nothing is opened before it is needed. In a job, every call goes to the runner that does the job. A process
    that was forked after the first use opens a connection of its own.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, relaxed: bool = False) -> None:
        self._named = path
        self._relaxed = relaxed
        self._opened: tuple[int, Client, Callable[[], None]] | None = None
        self._opening = allocate_lock()
        self._inline: Client | None = None

    def __repr__(self) -> str:
        return f"App({str(self.path)!r})"

    @property
    def path(self) -> "Path":
        """The database file."""
        from jobrunner.location import find_database  # brings pathlib, which costs each fork

        return find_database(self._named)

    @property
    def client(self) -> Client:
        """Where calls go: to the runner from inside a job, to an `inline` block, else to the database."""
        return self._get_client()

    def _get_client(self) -> Client:
        if self._inline is not None:
            return self._inline
        if borrowed := _borrowed.get():
            for app, client in reversed(borrowed):
                if app is self:
                    return client
        current = find_current()
        if current is not None and current.link is not None:
            return ChannelClient(current)
        opened = self._opened
        return opened[1] if opened is not None and opened[0] == os.getpid() else self._direct()

    def _direct(self) -> Client:
        with self._opening:
            if self._opened is None or self._opened[0] != os.getpid():
                # Here, not above: task modules are imported by templates and workers, which never open a database.
                from jobrunner.direct_client import DirectClient

                client = DirectClient.open(self.path, relaxed=self._relaxed)
                self._opened = (os.getpid(), client, client.close)
            return self._opened[1]

    def close(self) -> None:
        """Close the connection of this process; the next call opens another."""
        with self._opening:
            if self._opened is not None:
                self._opened[2]()
                self._opened = None

    # Tasks

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R, R]: ...
    @overload
    def task(self, *, aliases: Sequence[str] = (), **options: Unpack[OptionWords]) -> Decorator: ...
    def task(self, *function: Any, aliases: Sequence[str] = (), **options: Any) -> Any:
        """Make a task of a function: `@app.task`, or `@app.task(queue="mail", retry=3)` with words of `Options`.

        `aliases` are names that it had before, `shop.old:send`: what was enqueued under them is done by this one, where
        the runner has imported its module (`jobrunner run --import shop.tasks`).
        """
        decorator = Decorator(Options().but(**options), aliases, self._get_client)
        return decorator(*function) if function else decorator

    def schedule(
        self,
        timing: Timing,
        /,
        *,
        name: str | None = None,
        args: Json = None,
        overlap: Overlap = "skip",
        missed: str = "one",
        jitter: Duration | None = None,
        until: str | Moment | None = None,
    ) -> Callable[[Callable[P, R]], Task[P, Any, R]]:
        """Have a function or task enqueued when its time comes: `@app.schedule(cron("0 3 * * *", tz="Europe/Berlin"))`.

        While an earlier run is not finished, `overlap` is to skip (that instant is left out), queue (it waits), allow,
        or replace (the earlier one is cancelled). Of the instants at which no runner was there, `missed` none, one (the
        last stands for all) or all come later; `all:6h` leaves out what is older. Each run starts up to `jitter` later.
        A runner that imports the module writes the schedule down, and so does `app.schedules.sync()`.
        """
        from jobrunner.plans import plan_of

        def declare(function: Callable[P, R]) -> Task[P, Any, R]:
            task = function if isinstance(function, Task) else Task(function, Options(), self._get_client)
            plan = plan_of(
                name or task.name.rpartition(":")[2],
                timing,
                task.later(args or {}),
                overlap=overlap,
                missed=missed,
                jitter=jitter,
                until=until,
            )
            declarations.note(Declaration(lambda: self.path, plan))
            return task

        return declare

    @property
    def schedules(self) -> "Schedules":
        """The schedules of the database, to look at, pause, run and remove."""
        from jobrunner.schedule_book import Schedules  # opens the database, which no worker does

        return Schedules(lambda: self.path, self._get_client)

    def batch(
        self,
        name: str,
        *,
        on_success: Enqueuer[..., Any] | None = None,
        on_failure: Enqueuer[..., Any] | None = None,
        on_complete: Enqueuer[..., Any] | None = None,
    ) -> "OpenBatch":
        """Jobs to be looked at as one: `with app.batch("nightly", on_complete=report): send.enqueue(7)`.

        Tasks to follow are enqueued once, without arguments, in the transaction that counts the last end: when all
        have succeeded, when all have ended and one did not succeed, when all have ended. What cannot be enqueued then,
        since its key is taken, say, is left out, and the batch has a remark. Members may add others by
        `options(batch="nightly")`.
        """
        from jobrunner.batch_book import OpenBatch  # opens the database, which no worker does
        from jobrunner.batches import Callbacks

        said = [None if task is None else task.later({}) for task in (on_success, on_failure, on_complete)]
        return OpenBatch(self._get_client, name, Callbacks(*said))

    # Jobs

    def enqueue(self, task: str, args: Json = None, /, **options: Unpack[OptionWords]) -> AnyInvocation:
        """Queue a function by name: `app.enqueue("shop.tasks:send", {"user": 7})`; a list is positional."""
        arguments = {} if args is None else args
        if not isinstance(arguments, dict | list):
            raise UsageError("the arguments of a job are a dict or a list")
        return self._enqueue(task, "function", arguments, options)

    def enqueue_command(self, program: str, *args: str, **options: Unpack[OptionWords]) -> AnyInvocation:
        """Queue a program with its arguments; no shell reads them."""
        return self._enqueue(program, "command", list(args), options)

    def enqueue_shell(self, line: str, **options: Unpack[OptionWords]) -> AnyInvocation:
        """Queue a line for /bin/sh."""
        return self._enqueue(line, "shell", [], options)

    def _enqueue(self, task: str, kind: Kind, args: Json, options: OptionWords) -> AnyInvocation:
        text, jobs = outputs.keep(args)
        # Where nothing is said it is the default: to make all options takes longer than the insert.
        request = Options().but(**options).request(task, text, args, kind) if options else Request(task, kind, text)
        request = outputs.given(request, jobs)
        return Invocation(self._get_client, self._get_client().enqueue_one(joined(request)))

    def invocation(self, invocation_id: int) -> AnyInvocation:
        """A job by its number; InvocationNotFound where there is none."""
        self.client.states([invocation_id])
        return Invocation(self._get_client, InvocationId(invocation_id))

    def wait(self, jobs: Iterable[AnyInvocation | int], timeout: float | None = None) -> list[AnyInvocation]:
        """Wait until all are final and give them in the same order; it does not raise what they raised."""
        ids = [one.id if isinstance(one, Invocation) else one for one in jobs]
        self.client.wait(ids, timeout)
        return [Invocation(self._get_client, InvocationId(one)) for one in ids]

    def counts(self) -> dict[Status, int]:
        """How many jobs are in each status."""
        return self.client.counts()

    # Running

    def run(self, runner: str = "process", **settings: Any) -> int:
        """Do the work until TERM or INT; what `jobrunner run` calls. `settings` are those of `RunSettings`.

        HUP has the code of tasks loaded anew. Gives how many jobs have failed.
        """
        with early_signals.kept():
            from jobrunner.runner.registry import load_runner

            self.close()  # a runner's processes are started with no database open
            kind = load_runner(runner)
            return kind(kind.parse_args({"database": self.path, "relaxed": self._relaxed, **settings})).run()

    @contextlib.contextmanager
    def inline(self) -> Iterator[None]:
        """For tests: what is enqueued in the block runs at once, here, without a database; errors propagate."""
        from jobrunner.inline_client import InlineClient

        before, self._inline = self._inline, InlineClient()
        try:
            yield
        finally:
            self._inline = before

    @contextlib.contextmanager
    def using(self, connection: Any, *, outbox: bool = False) -> Iterator[None]:
        """Enqueue on a connection of yours, in its transaction: a sqlite3, apsw or SQLAlchemy connection, or a Session.

        The jobs are committed, or rolled back, together with your rows; nothing is begun or ended here. Our tables must
        be in the database of that connection, and it must be the one of this app: `app.install(conn)` makes them. A
        transaction that you begin by hand is best begun IMMEDIATE: one that has read before another program wrote
        cannot write any more, and SQLite says that it is locked.

        With `outbox`, the connection is to another database, which has an outbox: what is enqueued is a row there, and
        becomes a job when a runner drains it. It has no number before, and so nothing can be asked of it.
        """
        from jobrunner.callers import OutboxClient, UsingClient  # knows the database, which no worker does

        client = OutboxClient(connection) if outbox else UsingClient.on(connection, self.path)
        borrowed = _borrowed.set((*_borrowed.get(), (self, client)))
        try:
            yield
        finally:
            _borrowed.reset(borrowed)

    @staticmethod
    def install(connection: Any, *, outbox: bool = False) -> list[str]:
        """Make the tables in your own database, in your transaction; gives the views whose names you have already.

        With `outbox` no more than an outbox, for jobs that are in another database. A runner puts the file into WAL
        mode when it opens it; that of an outbox it leaves as it is.
        """
        from jobrunner.callers import install

        return install(connection, outbox=outbox)

    def drain(self, queues: Sequence[str] = ()) -> int:
        """For tests: do all that is due, here, one after the other, without processes; tells how many were done."""
        from jobrunner.database import Database
        from jobrunner.runner.inline_runner import drain

        with Database(self.path, create=True, relaxed=self._relaxed) as database:
            return drain(database, queues)
