"""Which database is meant: an explicit path, JOBRUNNER_DB, the project's pyproject.toml, or the user's state folder."""

import os
from pathlib import Path

from jobrunner.errors import UsageError

VARIABLE = "JOBRUNNER_DB"


def find_database(explicit: str | os.PathLike[str] | None = None) -> Path:
    """The absolute path; nothing is opened or made. A relative path in pyproject.toml is relative to that file."""
    named = explicit or os.environ.get(VARIABLE)
    if named:
        return _absolute(Path(named).expanduser())
    return _of_project(Path.cwd()) or _state_folder() / "jobs.db"


def _absolute(path: Path) -> Path:
    # Not resolve(): a symbolic link is to be seen, and refused.
    return Path(os.path.abspath(path))


def _of_project(folder: Path) -> Path | None:
    for candidate in (folder, *folder.parents):
        file = candidate / "pyproject.toml"
        if file.is_file():
            return _read(file)
    return None


def _read(file: Path) -> Path | None:
    import tomllib  # only where there is a project: the command line starts faster

    try:
        table = tomllib.loads(file.read_text("utf-8")).get("tool", {}).get("jobrunner", {})
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    named = table.get("db")
    if named is None:
        return None
    if not isinstance(named, str) or not named:
        raise UsageError(f"{file}: [tool.jobrunner] db must be a path")
    return _absolute(file.parent / Path(named).expanduser())


def _state_folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return _absolute(Path(state).expanduser()) / "jobrunner"
