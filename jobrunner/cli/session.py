"""What was said for the whole call: the options that work on every command, and what follows from them."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from jobrunner.errors import UsageError
from jobrunner.location import VARIABLE, find_database
from jobrunner.text import visible

if TYPE_CHECKING:
    from jobrunner.direct_client import DirectClient

_COLORS = ("auto", "always", "never")


@dataclass
class Session:
    """One call of the command line; filled in while its options are read."""

    db: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    color: str = "auto"
    utc: bool = False

    def say(self, name: str, value: Any) -> None:
        """Take what an option says."""
        if name == "color" and value not in _COLORS:
            raise UsageError(f"--color is auto, always or never, not {value!r}")
        setattr(self, name, value)

    @property
    def path(self) -> Path:
        """The database that is meant."""
        return find_database(self.db)

    @property
    def for_people(self) -> bool:
        """Whether what is printed is laid out for people; else it is for programs, and nothing is cut."""
        return not self.json and (sys.stdout.isatty() or self.color == "always")

    @contextmanager
    def client(self) -> Iterator["DirectClient"]:
        """The database, open for a while; NoDatabase where there is none."""
        from jobrunner.direct_client import DirectClient

        with closing(DirectClient.open(self.path, create=False)) as client:
            yield client

    def notice(self, text: str) -> None:
        """Tell something beside the output."""
        if not self.quiet:
            sys.stdout.flush()
            sys.stderr.write(visible(text, lines=True) + "\n")

    @property
    def hints(self) -> bool:
        """Whether a person at a terminal wants to hear what a program would not."""
        return not self.quiet and sys.stderr.isatty()

    def hint(self, text: str) -> None:
        """Tell something that only helps a person at a terminal."""
        if self.hints:
            self.notice(text)

    def current_job(self) -> int | None:
        """The job that this is called from, where it is one of the same database."""
        job = os.environ.get("JOBRUNNER_JOB", "")
        return int(job) if job.isdigit() and os.environ.get(VARIABLE) == str(self.path) else None


def of(context: typer.Context) -> Session:
    """The session that a command is called in."""
    return cast(Session, context.obj)
