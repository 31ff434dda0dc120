"""What a command finds in its environment: little, and nothing that its runner was not told to hand on."""

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

BASE = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "XDG_*", "JOBRUNNER_*")
"""What programs need to find their way; the last are the job's own."""


def of_command(passed: Sequence[str], added: Mapping[str, str]) -> dict[str, str]:
    """Of this process's environment the base and what one of the patterns `passed` names; then what the job adds."""
    patterns = (*BASE, *passed)
    kept = {
        name: value for name, value in os.environ.items() if any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    return {**kept, **added}
