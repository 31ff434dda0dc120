"""The runners, by name; others can be added as entry points of the group `jobrunner.runners`."""

from importlib import import_module

from jobrunner.errors import UsageError
from jobrunner.runner.base_runner import BaseRunner

OURS = {
    "process": "jobrunner.runner.process_runner:ProcessRunner",
    "thread": "jobrunner.runner.multi_thread_runner:MultiThreadRunner",
}


def load_runner(name: str) -> type[BaseRunner]:
    """The runner class of this name."""
    if name in OURS:
        module, _, attribute = OURS[name].partition(":")
        found = getattr(import_module(module), attribute)
    else:
        from importlib.metadata import entry_points  # brings e-mail and ZIP along

        found = next((one.load() for one in entry_points(group="jobrunner.runners", name=name)), None)
    if not (isinstance(found, type) and issubclass(found, BaseRunner)):
        raise UsageError(f"there is no runner {name!r}: known are {', '.join(OURS)}")
    return found
