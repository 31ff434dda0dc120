"""Functions that look at what a job is given, and results that cannot be kept."""

import json
from pathlib import Path
from typing import Any


def descriptors() -> dict[str, str]:
    """What each open descriptor is, without the one that it takes to look."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:
            continue
    return found


def bad_result(kind: str) -> Any:
    """A result that is refused."""
    return {
        "nan": float("nan"),
        "infinity": float("inf"),
        "surrogate": "\udcff",
        "large": "x" * (1 << 20),
        "deep": json.loads("[" * 101 + "]" * 101),
        "digits": 10**5000,
        "bytes": b"x",
    }[kind]


def same(value: Any) -> Any:
    """What it is given."""
    return value
