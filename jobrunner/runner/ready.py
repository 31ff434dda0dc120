"""An invocation of a function with all that can be had before its process is forked.

What the template does for ten workers in a row, it does in pages of its own; each of them would copy those.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jobrunner import execution
from jobrunner.context import Current, ProcessLink
from jobrunner.models import Claimed, Json
from jobrunner.worker_end import WorkerEnd


class Surroundings(NamedTuple):
    """What of an invocation's policy is the worker's; the runner has read it all, and sees to the rest."""

    cwd: str | None
    env: Mapping[str, str]


class Ready(NamedTuple):
    """What is left to be done is to enter `here`, and to call the function."""

    here: Current
    word: list[str]
    """What the runner is to be told before."""
    function: Callable[..., Any]
    args: Json
    measure: bool
    """Whether it is to say what it has used, too."""


PLAIN, MEASURED = "do", "do_and_measure"
"""What a worker is told before a claimed invocation."""
_UNSAID = Surroundings(None, {})


def surroundings(policy: str | None) -> Surroundings:
    """Read them."""
    # Not by Policy.from_json: that module brings a megabyte of others, whose pages each fork copies the tables of.
    if not policy:
        return _UNSAID
    facts = execution.load_args(policy)
    return Surroundings(facts.get("cwd"), facts.get("env", {}))


def here(claimed: Claimed, end: WorkerEnd) -> Current:
    """The job, whose process has this end of a channel."""
    return Current(claimed.id, claimed.claim, claimed.attempt, ProcessLink(end))


def ready(claimed: Claimed, end: WorkerEnd, *, measure: bool = False) -> Ready | None:
    """None where its worker has more to do: to import a module, to run code of a user's, to change its surroundings."""
    if claimed.kind != "function" or surroundings(claimed.policy) != _UNSAID:
        return None
    found = execution.find_plain(claimed.task)
    if found is None:
        return None
    try:
        args = execution.load_args(claimed.args or "{}")
    except (ValueError, RecursionError):  # its worker says so
        return None
    return Ready(here(claimed, end), execution.first_word(claimed.policy, found), found.function, args, measure)
