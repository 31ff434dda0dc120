"""What the demo enqueues: the files, the commands, the broken file, the job that fails twice."""

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

from demo.stdlib_survey import Survey, app, succeed_at_last, survey_file
from jobrunner import Invocation

NOT_THE_LIBRARY = {"site-packages", "dist-packages"}
COMPRESSED = 5
"""How many of the files are compressed by commands."""


class Work(NamedTuple):
    """The jobs of one demo, with what each was made for; the last survey is that of the broken file."""

    surveys: dict[str, Invocation[Survey]]
    compressions: dict[Path, Invocation[Any]]
    flaky: Invocation[str]

    @property
    def jobs(self) -> list[Invocation[Any]]:
        """All of them, in the order in which they were enqueued."""
        return [*self.surveys.values(), *self.compressions.values(), self.flaky]


def library_files() -> list[Path]:
    """The source files of this Python's standard library, by name."""
    library = Path(sysconfig.get_path("stdlib"))
    found = (path for path in library.rglob("*.py") if path.is_file())
    return sorted(path for path in found if not NOT_THE_LIBRARY & set(path.relative_to(library).parts))


def enqueue(files: list[Path], folder: Path) -> Work:
    """Queue all the work; what the jobs write goes into the folder."""
    paths = [str(path) for path in (*files, _broken_file(folder))]
    surveys = survey_file.enqueue_many({"path": path} for path in paths)
    compressions = {copy: _compress(copy) for copy in _copies(files, folder)}
    return Work(dict(zip(paths, surveys, strict=True)), compressions, succeed_at_last.enqueue())


def _broken_file(folder: Path) -> Path:
    broken = folder / "broken.py"
    broken.write_text("def unfinished(:\n    pass\n", "utf-8")
    return broken


def _copies(files: list[Path], folder: Path) -> list[Path]:
    """Copies of the largest files."""
    largest = sorted(files, key=lambda path: (-path.stat().st_size, path))[:COMPRESSED]
    return [Path(shutil.copy(path, folder / f"{number}-{path.name}")) for number, path in enumerate(largest)]


def _compress(copy: Path) -> Invocation[Any]:
    """A command: no shell reads it, so it can have any name."""
    return app.enqueue_command("gzip", "--keep", os.fspath(copy), label=f"compress {copy.name}")
