"""jobrunner: jobs of one host in one SQLite file. `App` is where to begin.

What stands here is imported when it is first used: the command line needs little of it, and starts faster so.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jobrunner.version import VERSION as __version__

if TYPE_CHECKING:
    from jobrunner.app import App
    from jobrunner.context import current
    from jobrunner.errors import (
        InvocationCancelled,
        InvocationFailed,
        InvocationNotFound,
        JobRunnerError,
        NotSerializable,
        TaskNotFound,
        UniqueKeyTaken,
        UsageError,
        WaitTimeout,
    )
    from jobrunner.flow import chain, chord, group
    from jobrunner.invocation import Invocation
    from jobrunner.policy import Retry
    from jobrunner.status import Status
    from jobrunner.timing import cron, every

__all__ = [
    "App",
    "Invocation",
    "InvocationCancelled",
    "InvocationFailed",
    "InvocationNotFound",
    "JobRunnerError",
    "NotSerializable",
    "Retry",
    "Status",
    "TaskNotFound",
    "UniqueKeyTaken",
    "UsageError",
    "WaitTimeout",
    "__version__",
    "chain",
    "chord",
    "cron",
    "current",
    "every",
    "group",
]

_HOMES = {
    "App": "app",
    "Invocation": "invocation",
    "Retry": "policy",
    "Status": "status",
    "chain": "flow",
    "chord": "flow",
    "cron": "timing",
    "current": "context",
    "every": "timing",
    "group": "flow",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'jobrunner' has no attribute {name!r}")
        found = getattr(import_module(f"jobrunner.{_HOMES.get(name, 'errors')}"), name)
        globals()[name] = found  # the next use does not come here
        return found


def __dir__() -> list[str]:
    return __all__
