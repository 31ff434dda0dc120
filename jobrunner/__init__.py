"""jobrunner: jobs of one host in one SQLite file. `App` is where to begin."""

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
from jobrunner.invocation import Invocation
from jobrunner.policy import Retry
from jobrunner.status import Status
from jobrunner.version import VERSION as __version__

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
    "current",
]
