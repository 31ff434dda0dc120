"""The life of a worker process: forked from the template, it does one invocation and ends."""

import os
import signal
import sys
import traceback
from _thread import _count as _count_threads
from os import _exit
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage, struct_rusage
from typing import Any, NoReturn

from jobrunner import environment, execution, kernel
from jobrunner.channel import frame, pair
from jobrunner.context import enter_process, leave_process
from jobrunner.errors import ChannelClosed, TaskUnknown
from jobrunner.models import UNDELIVERED, Claimed, Failure, InvocationId, Outcome
from jobrunner.runner import birth, output_router, sources
from jobrunner.runner.birth import Birth, hears_of_children, settle
from jobrunner.runner.marks import Mark
from jobrunner.runner.ready import MEASURED, Ready, Surroundings, here, ready, surroundings
from jobrunner.runner.sources import noted
from jobrunner.runner.variables import take
from jobrunner.worker_end import WorkerEnd

WORKER_VARIABLE = "JOBRUNNER_WORKER"
"""In the environment of a worker and all that it starts: which worker."""
CANNOT_EXECUTE = 127
"""Exit code of a worker that could not start its program, as in a shell."""
_NOTHING = frame(("outcome", *execution.NOTHING))
"""What most jobs say: written down once, and not by each worker."""
_new_tuple = tuple.__new__
_NOTHING_TO_DO = Claimed(InvocationId(0), 1, 1, 0, "function", f"{__name__}:nothing", "{}", None, "", 0, 0)
_TIMES = 10
"""Python makes a function's code faster at the eighth call, and writes into it to do so."""
JOB_VARIABLES = ("JOBRUNNER_JOB", "JOBRUNNER_CLAIM", "JOBRUNNER_ATTEMPT")


def worker_name(key: int) -> str:
    """The value of WORKER_VARIABLE: always as long as any other, so that it can be written over."""
    return f"{key:016d}"


def template_name(number: int) -> str:
    """The same of a template, and of what a task module starts while it is imported."""
    return f"template{number:08d}"


def trial_name(number: int) -> str:
    """The same of what a template starts to see whether a module can be imported."""
    return f"trial{number:011d}"


def practise() -> None:
    """In the template, before any task module is imported: do invocations of nothing, as a worker does.

    What Python makes or notes at the first uses, such as where an attribute was found, it then has in pages that all
    workers share; each of them would make it anew, in copies.
    """
    before = {name: os.environ[name] for name in JOB_VARIABLES if name in os.environ}
    ours, theirs = pair()
    for _ in range(_TIMES):
        birth.practise()
        os.environ[WORKER_VARIABLE] = os.environ[WORKER_VARIABLE]
        end = WorkerEnd(os.dup(theirs.fileno()))
        _work(end, [MEASURED, *_NOTHING_TO_DO], [], None)
        if made := ready(_NOTHING_TO_DO, end):
            _do(made, end)
        end.close()
    ours.close()
    theirs.close()
    leave_process()
    for name in JOB_VARIABLES:
        del os.environ[name]
    os.environ.update(before)


def nothing() -> None:
    """Done for practice."""


def run_worker(given: Birth) -> NoReturn:
    """Never returns: a worker must not fall back into the template's loop."""
    code = UNDELIVERED
    try:
        template, streams, foreign, place, name, waits, variables, end, first, made, pass_env, spare = given
        settle(template, streams, foreign, place, name, waits)
        take(variables)
        if made is None:
            code = _work(end, first, pass_env, spare)
        else:
            enter_process(made.here)
            code = _do(made, end)
    except ChannelClosed:
        pass  # nobody is left to be told
    except BaseException:  # a fault of ours, or of a job that broke the interpreter: into the job's own output
        traceback.print_exc()
    finally:
        _exit(code)


def _work(channel: WorkerEnd, first: list[Any], pass_env: list[str], spare: Mark | None) -> int:
    if spare is not None:
        _rehearse()
        first = channel.receive()
        spare.page[spare.place] = 1
    verb, *facts = first or channel.receive()
    if verb == "pool":
        from jobrunner.runner.thread_runner import thread_runner_process_main  # brings threading, see channel

        thread_runner_process_main(channel, *facts)
        return 0
    claimed = _new_tuple(Claimed, facts)  # as Claimed(*facts) does in a function of its own
    around = surroundings(claimed.policy)
    if claimed.kind == "function":
        return run_invocation(claimed, around, channel, measure=verb == MEASURED)
    return _become_program(claimed, around, channel, pass_env)


def _rehearse() -> None:
    """Do an invocation of nothing, while there is time for it: what a process writes to first, it has to copy first.

    The job that comes overwrites all that this has set.
    """
    try:
        ours, theirs = (WorkerEnd(one.detach()) for one in pair())
    except OSError:  # no descriptors are left: it comes to that soon enough
        return
    ours.send(MEASURED, *_NOTHING_TO_DO)
    _work(theirs, theirs.receive(), [], None)
    ours.close()
    theirs.close()
    leave_process()


def run_invocation(claimed: Claimed, around: Surroundings, channel: WorkerEnd, *, measure: bool = False) -> int:
    """Do a function invocation and send its outcome, `measure` with what it used; gives the exit code."""
    job = here(claimed, channel)
    enter_process(job)
    task = claimed.task
    module = task.partition(":")[0]
    before = None if module in sys.modules else kernel.open_descriptors()
    try:
        _prepare(claimed, around)
        os.environ.update(around.env)
        found = execution.find(task)
        args = execution.load_args(claimed.args or "{}")
    except TaskUnknown as error:
        channel.send("unknown", error.why)
        return 0
    except BaseException as error:  # importing a user's module may raise anything
        return _deliver(channel, Outcome(failure=execution.describe(error)))
    if before is not None:
        # What was opened by an import, all workers would share if the template did it, which must hear of its children.
        is_clean = hears_of_children() and kernel.open_descriptors() == before and execution.is_quiet()
        channel.send("imported", module, is_clean)
    return _do(Ready(job, execution.first_word(claimed.policy, found), found.function, args, measure), channel)


def _do(made: Ready, channel: WorkerEnd) -> int:
    job, word, function, args, measure = made
    if word:
        channel.send(*word)
    outcome = execution.perform(function, args)
    if os.getpid() != job.pid:
        os._exit(0)  # a child that the job forked and forgot to end: the outcome is for the job itself to tell
    return _deliver(channel, outcome, measure=measure)


def _deliver(channel: WorkerEnd, outcome: Outcome, *, measure: bool = False) -> int:
    output_router.flush()
    try:
        if noted:
            channel.send("read", sources.news())
        if measure:
            channel.send("outcome", outcome.result, outcome.failure, *_used())
        elif outcome is execution.NOTHING:
            channel.send_frame(_NOTHING)
        else:
            channel.send("outcome", outcome.result, outcome.failure)
    except ChannelClosed:
        return UNDELIVERED
    return 0


def _used() -> tuple[int, ...]:
    """What this process has used, as `usage_facts`, where nothing of the job goes on without this thread."""
    if _count_threads() or getrusage(RUSAGE_CHILDREN).ru_minflt:
        return ()  # it has had a child, and that may have left another
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return usage_facts(getrusage(RUSAGE_SELF))
    return ()


def usage_facts(usage: struct_rusage) -> tuple[int, int]:
    """CPU milliseconds, and the peak resident set in KiB."""
    per_kilobyte = 1 if kernel.is_linux else 1024  # macOS counts bytes
    return round((usage.ru_utime + usage.ru_stime) * 1000), usage.ru_maxrss // per_kilobyte


def _prepare(claimed: Claimed, around: Surroundings) -> None:
    invocation_id, claim, attempt, *_ = claimed
    cwd, _ = around
    for name, value in zip(JOB_VARIABLES, (invocation_id, claim, attempt), strict=True):
        os.environ[name] = str(value)
    if cwd is not None:
        os.chdir(cwd)


def _become_program(claimed: Claimed, around: Surroundings, channel: WorkerEnd, pass_env: list[str]) -> int:
    try:
        _prepare(claimed, around)
        words = ["/bin/sh", "-c", claimed.task] if claimed.kind == "shell" else [claimed.task, *_arguments(claimed)]
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)  # Python ignores the first two, which no program expects
        os.execvpe(words[0], words, environment.of_command(pass_env, around.env))
    except (OSError, ValueError, TypeError) as error:
        channel.send("outcome", None, _cannot_start(claimed, around, error))
        return CANNOT_EXECUTE


def _arguments(claimed: Claimed) -> list[str]:
    arguments = execution.load_args(claimed.args or "[]")
    if not isinstance(arguments, list) or not all(isinstance(one, str) for one in arguments):
        raise TypeError("its arguments must be a JSON array of strings")
    return arguments


def _cannot_start(claimed: Claimed, around: Surroundings, error: Exception) -> Failure:
    program = "/bin/sh" if claimed.kind == "shell" else claimed.task
    if isinstance(error, FileNotFoundError) and around.cwd is not None and error.filename == around.cwd:
        return Failure("CannotStart", f"there is no folder {around.cwd!r} to start {program!r} in")
    if isinstance(error, FileNotFoundError):
        return Failure("CannotStart", f"there is no program {program!r} on the PATH of the runner")
    return Failure("CannotStart", f"{program!r} cannot be started: {error}")
