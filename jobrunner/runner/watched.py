"""The source files that a runner with `--reload` watches: looked at about once a second, which costs a stat each."""

import time
from collections.abc import Mapping

from jobrunner.runner.sources import Signature, signature

_SECONDS = 1.0


class Watched:
    """Files, each as it was when it was last read, or when its change was noticed."""

    def __init__(self) -> None:
        self._files: dict[str, Signature] = {}
        self._looked_at = time.monotonic()

    def read(self, files: Mapping[str, Signature]) -> None:
        """The code that runs, or the code that could not be taken, has read these."""
        self._files.update(files)

    def also_read(self, files: Mapping[str, Signature]) -> None:
        """A job has read these, perhaps long ago, or the template has because of one: what is known already stays.

        It is newer than what the job has read; and where the template has read something newer, that is a change.
        """
        self._files = {**files, **self._files}

    def replace(self, files: Mapping[str, Signature]) -> None:
        """New code is taken, which has read these; what is missing now may appear again."""
        missing = {file: None for file in self._files if signature(file) is None}
        self._files = {**missing, **files}

    def changed(self) -> str | None:
        """One that has changed since it was last read, told once for each change."""
        now = time.monotonic()
        if not self._files or now - self._looked_at < _SECONDS:
            return None
        self._looked_at = now
        found = {file: signature(file) for file in self._files}
        changed = [file for file, signed in found.items() if signed != self._files[file]]
        self._files = found
        return min(changed, default=None)
