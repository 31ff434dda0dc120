"""From the words of the command line to an exit code: the main command, its options, and how errors are told."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from jobrunner.cli import session
from jobrunner.cli.group import LazyGroup, OutputClosed, with_blocks
from jobrunner.cli.session import Session
from jobrunner.errors import JobRunnerError, UsageError
from jobrunner.text import visible
from jobrunner.version import VERSION

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
OUTPUT_CLOSED = 141
"""Exit code when nobody reads what is printed, as in `jobrunner list | head`; as shells have it, too."""
OUTPUT_BROKEN = 74
"""Exit code when what is to be printed cannot be written, as on a full disk (EX_IOERR)."""

# Newer versions of typer carry click inside, older ones import it: the parent of this class is the same in both.
_BadUsage: type[Any] = typer.BadParameter.__bases__[0]

_EPILOG = """\b
Exit codes:
   0  fine
   1  a job failed
   2  the call was wrong
   4  there is no such job
  65  the file is another program's, or a newer jobrunner's
  73  the database cannot be made
  74  it cannot be read or written
  75  it was locked for too long
  77  its owner or mode forbids the use
 124  the wait timed out
"""


def _keep(context: typer.Context, option: typer.CallbackParam, value: Any) -> None:
    # Not said here: it may have been said before the command's name.
    if value is not None:
        session.of(context).say(str(option.name), value)


def _everywhere(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, callback=_keep, expose_value=False)


def jobrunner(
    context: typer.Context,
    db: Annotated[str | None, _everywhere("--db", metavar="FILE", help="The database; else $JOBRUNNER_DB.")] = None,
    json: Annotated[bool | None, _everywhere("--json", help="Print JSON, an object a line.")] = None,
    quiet: Annotated[bool | None, _everywhere("-q", "--quiet", help="No notices.")] = None,
    verbose: Annotated[bool | None, _everywhere("-v", "--verbose", help="Tell more; errors with traceback.")] = None,
    color: Annotated[
        str | None, _everywhere("--color", metavar="auto|always|never", help="Colors: by default on a terminal.")
    ] = None,
    utc: Annotated[bool | None, _everywhere("--utc", help="Times in UTC, not local.")] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    r"""Jobs of this host, in one SQLite file.

    \b
    jobrunner enqueue shop.tasks:send user:=7    queue a function
    jobrunner enqueue -- gzip -k big.csv         queue a command
    jobrunner run -j 4                           do the work
    jobrunner                                    what there is, as `jobrunner status`
    """
    if version:
        sys.stdout.write(f"jobrunner {VERSION}\n")
    elif context.invoked_subcommand is None:
        from jobrunner.cli.status import status

        status(context)


def _open_missing() -> None:
    """Open the null device where this program was started without one of the three streams, as by `>&-`.

    What is opened next would get its number, and what others print there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115 - to the end


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; gives the exit code."""
    called = Session()
    _open_missing()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # what cannot be shown is written out
    try:
        return _finished(_run(called, arguments))
    except (OutputClosed, BrokenPipeError):
        return _give_up_output(OUTPUT_CLOSED)
    except OSError as error:
        return _give_up_output(_tell(called, f"cannot write: {error}", OUTPUT_BROKEN))


def _finished(code: int) -> int:
    sys.stdout.flush()
    return code


def _give_up_output(code: int) -> int:
    # What is still in the buffer would be tried once more when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(called: Session, arguments: Sequence[str]) -> int:
    try:
        code = _main_command()(list(arguments), prog_name="jobrunner", standalone_mode=False, obj=called)
    except _BadUsage as error:
        return _tell(called, _usage(error), UsageError.exit_code)
    except JobRunnerError as error:
        return _tell(called, str(error), error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _main_command() -> Any:
    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=names)
    app.callback(cls=LazyGroup, invoke_without_command=True, epilog=_EPILOG)(jobrunner)
    return with_blocks(typer.main.get_command(app))


def _usage(error: Any) -> str:
    context = error.ctx
    if context is None:
        return str(error.format_message())
    usage = " ".join(context.get_usage().split()).removeprefix("Usage: ")
    return f"{error.format_message()}\nusage: {usage}\n`{context.command_path} --help` tells more"


def _tell(called: Session, sentence: str, code: int) -> int:
    if called.verbose:
        import traceback

        sys.stderr.write(visible(traceback.format_exc(), lines=True))
    sys.stderr.write(f"jobrunner: {visible(sentence, lines=True)}\n")
    return code
