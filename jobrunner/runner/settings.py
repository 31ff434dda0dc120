"""What a runner is told when it is started."""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from jobrunner.errors import UsageError
from jobrunner.runner.only import check_pattern


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Durations are in seconds; None means: without end."""

    database: Path
    queues: tuple[str, ...] = ()
    jobs: int = field(default_factory=processors)
    drain: bool = False
    max_jobs: int | None = None
    max_idle: float | None = None
    imports: tuple[str, ...] = ()
    reload: bool = False
    pass_env: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    allow_root: bool = False
    app_dir: Path = field(default_factory=Path.cwd)
    shutdown_timeout: float = 30.0
    kill_grace: float = 5.0
    relaxed: bool = False
    schedules: bool = True
    output_limit: int = 1 << 20
    max_paused: int | None = None
    threads: int = 8
    min_processes: int = 1
    enforce_max_processes: bool = False
    idle_timeout: float = 60.0
    max_tasks_per_child: int | None = None
    max_memory: int | None = None
    min_free: int = 16 << 20
    max_wal: int = 256 << 20
    keep: float | None = None
    takeover_after: float | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_care()
        for pattern in self.only:
            check_pattern(pattern)
        if not self.app_dir.is_dir():
            raise UsageError(f"there is no folder {self.app_dir} to import from")

    def _check_numbers(self) -> None:
        if not 1 <= self.jobs <= 10_000:
            raise UsageError(f"a runner has at least one slot, and at most 10,000: not {self.jobs}")
        if not 1 <= self.threads <= 1000:
            raise UsageError(f"a process has at least one thread, and at most 1,000: not {self.threads}")
        if not 0 <= self.min_processes <= self.jobs:
            raise UsageError(
                f"min_processes is from 0 to the number of processes, {self.jobs}: not {self.min_processes}"
            )
        if self.max_tasks_per_child is not None and self.max_tasks_per_child < 1:
            raise UsageError("max_tasks_per_child must be at least 1")
        if self.takeover_after is not None and self.takeover_after < 1:
            raise UsageError("takeover_after must be at least 1 s: an idle runner wakes every 0.4 s")
        if self.max_paused is not None and self.max_paused < 0:
            raise UsageError("max_paused cannot be negative")
        if self.output_limit < 1:
            raise UsageError("the output that is kept must be at least a byte")
        if self.max_jobs is not None and self.max_jobs < 1:
            raise UsageError("max_jobs must be at least 1")

    def _check_care(self) -> None:
        if self.keep is not None and self.keep < 0:
            raise UsageError("keep is for how many seconds a finished job stays, and cannot be negative")
        if self.min_free < 0 or self.max_wal < 0:
            raise UsageError("min_free and max_wal are numbers of bytes, and cannot be negative")


def settings_of(words: dict[str, Any]) -> RunSettings:
    """The settings by their names; UsageError where there is none of a name, or one cannot be meant."""
    known = {one.name for one in fields(RunSettings)}
    if unknown := sorted(words.keys() - known):
        raise UsageError(f"a runner has no setting {unknown[0]!r}: there are {', '.join(sorted(known))}")
    return RunSettings(**words)
