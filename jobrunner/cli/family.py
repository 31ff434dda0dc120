"""A job between those that led to it and those that it led to, drawn as a tree for `jobrunner show`."""

from jobrunner import state_backend
from jobrunner.cli.job_facts import command_line, hidden
from jobrunner.direct_client import DirectClient
from jobrunner.errors import InvocationNotFound
from jobrunner.state_backend import Relative
from jobrunner.text import visible

_MOST = 40
"""How many relatives are drawn above, and below."""


def family_tree(client: DirectClient, one: int) -> list[str]:
    """The lines, each generation further in; none where it has no family. The job itself is marked."""
    above = state_backend.ancestors(client.database, one, _MOST)
    below = state_backend.descendants(client.database, one, _MOST + 2)  # itself, and one that says there are more
    if not above and len(below) == 1:
        return []
    lines = [_line(client, relative) for relative in above]
    lines += [_line(client, relative, mark=relative.id == one) for relative in below[: _MOST + 1]]
    if len(below) > _MOST + 1:
        lines.append(f"and more: `jobrunner list parent:{one}` has all that it enqueued itself")
    return lines


def _line(client: DirectClient, relative: Relative, *, mark: bool = False) -> str:
    return "  " * relative.depth + _told(client, relative.id) + "  <- this one" * mark


def _told(client: DirectClient, one: int) -> str:
    try:
        job = hidden(client.job(one))
    except InvocationNotFound:
        return f"{one} (gone)"
    return f"{one} {job.status} {visible(command_line(job))[:100]}"
