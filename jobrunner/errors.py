"""Everything that jobrunner raises, each a sentence that helps; `exit_code` is what the CLI ends with."""

from collections.abc import Sequence
from os import PathLike
from typing import Any


class JobRunnerError(Exception):
    """The root: catch this to catch all of ours."""

    exit_code = 1


def facts_of(error: JobRunnerError) -> list[Any]:
    """The error as JSON data, for the other end of a channel: class, text, attributes."""
    return [type(error).__name__, str(error), vars(error)]


def type_name(cls: type) -> str:
    """`ValueError`, `json.decoder.JSONDecodeError`."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def error_of(name: str, message: str, attributes: dict[str, Any]) -> JobRunnerError:
    """The error that `facts_of` described."""
    found = globals().get(name, JobRunnerError)
    cls = found if isinstance(found, type) and issubclass(found, JobRunnerError) else JobRunnerError
    error = cls.__new__(cls)
    error.args = (message,)
    error.__dict__.update(attributes)
    return error


class UsageError(JobRunnerError, ValueError):
    """Something was asked for in a way that cannot be meant."""

    exit_code = 2


class NotSerializable(UsageError):
    """Arguments or a result are not plain JSON data, or more of it than the limits allow."""


class TaskNotFound(JobRunnerError):
    """The invocation names a task that cannot be imported here."""

    def __init__(self, task: str, why: str) -> None:
        super().__init__(f"no task {task!r}: {why}")
        self.task = task
        self.why = why


class InvocationNotFound(JobRunnerError, LookupError):
    """No job has this number."""

    exit_code = 4

    def __init__(self, invocation_id: int) -> None:
        super().__init__(f"there is no job {invocation_id}")
        self.invocation_id = invocation_id


class OutputMissing(JobRunnerError, LookupError):
    """The result of a job, which is an argument of another, is not there."""

    def __init__(self, invocation_id: int, status: str | None) -> None:
        why = "was forgotten" if status is None else f"is {status}"
        super().__init__(f"an argument is the result of job {invocation_id}, which {why}")
        self.invocation_id = invocation_id
        self.status = status


class InvocationFailed(JobRunnerError):
    """The job that was waited for failed; `kind`, `message`, `traceback` and `attempt` tell how."""

    def __init__(self, invocation_id: int, kind: str, message: str, traceback: str | None, attempt: int) -> None:
        super().__init__(f"job {invocation_id} failed in attempt {attempt}: {kind}: {message}")
        self.invocation_id = invocation_id
        self.kind = kind
        self.message = message
        self.traceback = traceback
        self.attempt = attempt


class InvocationCancelled(JobRunnerError):
    """The job that was waited for was cancelled or expired; `status` and `reason` tell which and why."""

    def __init__(self, invocation_id: int, status: str, reason: str | None) -> None:
        super().__init__(f"job {invocation_id} is {status}" + (f": {reason}" if reason else ""))
        self.invocation_id = invocation_id
        self.status = status
        self.reason = reason


class WaitTimeout(JobRunnerError, TimeoutError):
    """What was waited for was not final in time; the jobs go on."""

    exit_code = 124

    def __init__(self, seconds: float, unfinished: Sequence[int]) -> None:
        shown = ", ".join(str(one) for one in unfinished[:5]) + (", ..." if len(unfinished) > 5 else "")
        super().__init__(f"not finished within {seconds:g} s: job {shown}")
        self.unfinished = tuple(unfinished)


class WaitCycle(JobRunnerError):
    """Jobs that wait for one another would wait for ever; `cycle` names them, the first one again at its end.

    `limits` has an entry for each step: None where one waits for the next, or the concurrency limit that it needs a
    place of, which the next one has.
    """

    def __init__(self, cycle: Sequence[int], limits: Sequence[str | None]) -> None:
        steps = zip(cycle, cycle[1:], limits, strict=False)
        super().__init__("waiting would never end: job " + ", ".join(_step(*step) for step in steps))
        self.cycle = tuple(cycle)
        self.limits = tuple(limits)


def _step(one: int, following: int, limit: str | None) -> str:
    if limit is None:
        return f"{one} waits for {following}"
    return f"{one} needs a place of {limit!r} that {following} has"


class TaskUnknown(TaskNotFound):
    """This runner's code has no such task; another one's may, or the next version."""


class ScheduleNotFound(JobRunnerError, LookupError):
    """No schedule has this name."""

    exit_code = 4

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no schedule {name!r}: `jobrunner schedule list` shows them")
        self.name = name


class BatchNotFound(JobRunnerError, LookupError):
    """No batch has this name."""

    exit_code = 4

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no batch {name!r}: `jobrunner batch list` shows them")
        self.name = name


class RunnerNotFound(JobRunnerError, LookupError):
    """No runner has this number."""

    exit_code = 4

    def __init__(self, runner: int) -> None:
        super().__init__(f"there is no runner {runner}: `jobrunner runner list` shows those that have not stopped")
        self.runner = runner


class RunnerOutOfReach(JobRunnerError):
    """The runner lives in a pid namespace other than ours: no number here names its process for sure."""

    def __init__(self, runner: int, pid: int) -> None:
        super().__init__(
            f"runner {runner} runs in another pid namespace, as process {pid} there: stop it from inside of that"
        )
        self.runner = runner
        self.pid = pid


class RunnerDisobeys(JobRunnerError, TimeoutError):
    """A runner was told to stop, and has not stopped in time."""

    exit_code = 124

    def __init__(self, runner: int, pid: int, seconds: float, by_force: bool) -> None:
        way = "the kernel does not end it" if by_force else f"`jobrunner runner stop {runner} --kill` ends it at once"
        super().__init__(f"runner {runner} (process {pid}) has not stopped within {seconds:g} s: {way}")
        self.runner = runner
        self.pid = pid


class OutboxTrouble(JobRunnerError):
    """An outbox cannot be drained now; nothing of it is lost."""

    exit_code = 74

    def __init__(self, path: PathLike[str], why: object) -> None:
        super().__init__(f"the outbox in {path} cannot be drained: {why}")


class UniqueKeyTaken(JobRunnerError):
    """An unfinished job holds the unique key already."""

    def __init__(self, key: str, holder: int, started: bool) -> None:
        way = "; it has started, so it cannot be replaced: cancel it first, or skip" if started else ""
        super().__init__(f"job {holder} with the key {key!r} is not finished{way}")
        self.key = key
        self.holder = holder


class NoDatabase(JobRunnerError):
    """There is no file at the path where one is to be read."""

    exit_code = 2

    def __init__(self, path: PathLike[str]) -> None:
        super().__init__(f"no database at {path}: `jobrunner init` or the first `jobrunner enqueue` makes it")
        self.path = path


class ForeignDatabase(JobRunnerError):
    """The file belongs to another program, or to a newer jobrunner; it is left untouched."""

    exit_code = 65


class CannotCreate(JobRunnerError):
    """The database file or its folder cannot be made."""

    exit_code = 73


class DatabaseBroken(JobRunnerError):
    """The file is damaged, or reading or writing it fails."""

    exit_code = 74


class NotWritten(DatabaseBroken):
    """The disk is full, or fails, and nothing stays of what was to be written: it can be tried again."""


class DatabaseBusy(JobRunnerError):
    """Another process held the write lock for too long."""

    exit_code = 75


class NotBegun(DatabaseBusy):
    """The write lock could not be had, and so nothing was begun."""


class NotAllowed(JobRunnerError):
    """The file's owner or mode forbids the use, or would let others run code as you."""

    exit_code = 77


class OtherLibrary(UsageError):
    """This process has the database open through a SQLite that is not jobrunner's; both together would break it."""

    def __init__(self, path: PathLike[str]) -> None:
        super().__init__(
            f"{path} is open in this process by other means (Python's sqlite3, say), and jobrunner beside it would "
            "make both lose their locks. Enqueue on that connection (`with app.using(conn):`), close it first, or use "
            "jobrunner from another process"
        )
        self.path = path


class ChannelClosed(JobRunnerError):
    """The runner at the other end of the channel is gone."""


class ChannelBroken(ChannelClosed):
    """What came over the channel is no message: what follows cannot be read either."""
