"""The commands by name. The module of a command is imported when that command is called, and no other."""

import difflib
import gc
from functools import partial
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from jobrunner.errors import UsageError

_HOMES = {
    "enqueue": "enqueue",
    "run": "run",
    "status": "status",
    "list": "listing",
    "show": "show",
    "log": "log",
    "wait": "jobs",
    "cancel": "jobs",
    "retry": "jobs",
    "progress": "progress",
    "queue": "queue",
    "schedule": "schedule",
    "batch": "batch",
    "outbox": "outbox",
    "runner": "runner",
    "init": "file",
    "sql": "file",
    "backup": "file",
    "prune": "prune",
    "doctor": "doctor",
}
_SHORT = {
    "enqueue": "Queue a function, a command, or many.",
    "run": "Do the work.",
    "status": "What there is, what runs, what waits.",
    "list": "List jobs, newest first.",
    "show": "All that is known of a job.",
    "log": "What a job wrote.",
    "wait": "Wait for jobs to end.",
    "cancel": "Stop jobs, running or not.",
    "retry": "Do jobs again.",
    "progress": "Say from inside of a job how far it is.",
    "queue": "See, pause and limit queues.",
    "schedule": "Have jobs enqueued when their time comes.",
    "batch": "Look at jobs as one.",
    "outbox": "Make jobs of what an application wrote into its outbox.",
    "runner": "List the runners, or stop one.",
    "init": "Make the database.",
    "sql": "Ask the database in SQL.",
    "backup": "Copy the database while runners work.",
    "prune": "Forget finished jobs.",
    "doctor": "See what is wrong, and mend it.",
}
_EVERYWHERE = {"db", "json", "quiet", "verbose", "color", "utc"}


class OutputClosed(Exception):
    """Nobody reads what is printed."""


class PlainCommand(TyperCommand):
    """A command that gets words and flags as they were typed."""

    def get_params(self, ctx: Any) -> Any:
        """Its options and arguments, `--help` included."""
        return [_taken_as_typed(param) for param in super().get_params(ctx)]


PROGRAM = "jobrunner.program"
"""Where a context has the words behind `--`, if there are any."""


class ProgramCommand(PlainCommand):
    """A command whose words may end in `-- PROGRAM ARG...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Set the program aside: nothing behind `--` is ours to read."""
        if "--" in args:
            border = args.index("--")
            args, ctx.meta[PROGRAM] = args[:border], args[border + 1 :]
        return super().parse_args(ctx, args)


class LazyGroup(TyperGroup):
    """The main command. Its own options work after the name of a command, too."""

    def get_params(self, ctx: Any) -> Any:
        """Its options."""
        return [_taken_as_typed(param) for param in super().get_params(ctx)]

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order in which one needs them."""
        return list(_HOMES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now; UsageError with the nearest name where there is none."""
        if cmd_name not in _HOMES:
            raise UsageError(_unknown(cmd_name))
        command = _build(cmd_name)
        command.params += [param for param in self.params if param.name in _EVERYWHERE]
        gc.freeze()  # what was imported stays for good: no collection needs to look at it, not even the last one
        gc.enable()
        return command

    def invoke(self, ctx: Any) -> Any:
        """Do it; OutputClosed where typer itself would end the process."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise OutputClosed from error


def _build(name: str) -> Any:
    module = import_module(f"jobrunner.cli.{_HOMES[name]}")
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    how = {"cls": PlainCommand, **getattr(module, "SETTINGS", {}).get(name, {})}
    app.command(name, **how)(getattr(module, "list_jobs" if name == "list" else name))
    command = with_blocks(typer.main.get_command(app))
    command.short_help = _SHORT[name]
    return command


def with_blocks(command: Any) -> Any:
    """The command with the blocks of its help left as they are: in a raw docstring their mark is two characters."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    return command


def _taken_as_typed(param: Any) -> Any:
    """Commands read numbers and times themselves, with sentences of ours.

    Typer would look at every value, too, and import pydantic for it, which takes longer than all the rest
    together. Should it not ask `process_value` any more, nothing but this time is lost.
    """
    param.process_value = partial(_as_typed, param)
    return param


def _as_typed(param: Any, context: Any, value: Any) -> Any:
    if param.multiple or param.nargs == -1:
        value = list(value or ())
    return value if param.callback is None else param.callback(context, param, value)


def _unknown(name: str) -> str:
    if ":" in name:
        return f"{name!r} is not a command: to queue a function, type `jobrunner enqueue {name}`"
    near = difflib.get_close_matches(name, _HOMES, n=1, cutoff=0.6)
    if near:
        return f"there is no command {name!r}: did you mean `jobrunner {near[0]}`?"
    return f"there is no command {name!r}: there are {', '.join(_HOMES)}"
