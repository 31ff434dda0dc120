"""A small dictionary that all jobs of a runner share; it lives in the runner and ends with it."""

import json
from collections.abc import Callable
from typing import Any

from jobrunner import payload
from jobrunner.errors import JobRunnerError, UsageError
from jobrunner.models import Json

MAX_ENTRIES = 10_000
"""More entries, or values above the limit of results, are for a database of your own."""


class SharedCache:
    """The dictionary itself; each call is one step that no other job can interrupt."""

    def __init__(self) -> None:
        self._entries: dict[str, str] = {}

    def call(self, verb: str, name: Json, *facts: Json) -> Json:
        """Do one of get, set, setdefault, add, delete."""
        if verb not in _VERBS or not isinstance(name, str):
            raise UsageError(f"a cache has no {verb!r}, or no name of this kind: {name!r}")
        return _VERBS[verb](self, name, *facts)

    def _get(self, name: str, default: Json = None) -> Json:
        text = self._entries.get(name)
        return default if text is None else json.loads(text)

    def _set(self, name: str, value: Json) -> None:
        if name not in self._entries and len(self._entries) >= MAX_ENTRIES:
            raise JobRunnerError(f"the cache has {MAX_ENTRIES:,} entries, and takes no more")
        self._entries[name] = payload.dump(value, "cached value")

    def _setdefault(self, name: str, value: Json) -> Json:
        if name not in self._entries:
            self._set(name, value)
        return self._get(name)

    def _add(self, name: str, amount: Json = 1) -> Json:
        before = self._get(name, 0)
        if isinstance(before, bool) or not isinstance(before, int | float):
            raise UsageError(f"{name!r} in the cache is no number: {before!r}")
        self._set(name, before + amount)
        return before + amount

    def _delete(self, name: str) -> bool:
        return self._entries.pop(name, None) is not None


_VERBS: dict[str, Callable[..., Json]] = {
    "get": SharedCache._get,
    "set": SharedCache._set,
    "setdefault": SharedCache._setdefault,
    "add": SharedCache._add,
    "delete": SharedCache._delete,
}

_MISSING = ["jobrunner", "there is no such entry"]


class Cache:
    """What a job sees of it: `current().cache`. Values are JSON; there is no order and no length."""

    def __init__(self, call: Callable[..., Json]) -> None:
        self._call = call

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or the default."""
        return self._call("get", name, default)

    def set(self, name: str, value: Any) -> None:
        """Keep a value."""
        self._call("set", name, value)

    def setdefault(self, name: str, value: Any) -> Any:
        """Keep a value where there is none, and give the one that is there then: the first to come decides."""
        return self._call("setdefault", name, value)

    def add(self, name: str, amount: float = 1) -> Any:
        """Add to a number, which begins at 0, and give the sum: no two jobs get the same."""
        return self._call("add", name, amount)

    def delete(self, name: str) -> bool:
        """Forget a value; False where there was none."""
        return bool(self._call("delete", name))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name, _MISSING) != _MISSING

    def __getitem__(self, name: str) -> Any:
        found = self.get(name, _MISSING)
        if found == _MISSING:
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, value: Any) -> None:
        self.set(name, value)
