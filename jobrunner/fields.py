"""The fields that say how a job is enqueued: the same as flags of `enqueue` and as keys of a --jsonl line."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jobrunner.errors import UsageError
from jobrunner.models import Json
from jobrunner.options import Options
from jobrunner.policy import Backoff, Retry
from jobrunner.times import instant_ms

_SPANS = (str, int, float)
_TYPES: dict[str, tuple[type, ...]] = {
    "queue": (str,),
    "priority": (int,),
    "in": _SPANS,
    "at": (str,),
    "expires": _SPANS,
    "key": (str,),
    "if_exists": (str,),
    "debounce": _SPANS,
    "debounce_max": _SPANS,
    "throttle": _SPANS,
    "retries": (int,),
    "backoff": _SPANS,
    "timeout": _SPANS,
    "cwd": (str,),
    "env": (dict,),
    "label": (str,),
    "hold": (bool,),
    "concurrency": (int,),
    "concurrency_key": (str,),
    "rate": (str,),
    "batch": (str,),
    "after": (list, int),
    "after_any": (list, int),
    "after_failure": (list, int),
}
NAMES = tuple(_TYPES)
_SAID = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "dict": "an object",
    "bool": "true or false",
    "list": "a list",
}


def check(fields: Mapping[str, Json]) -> None:
    """UsageError where a field is none of ours, or its value of a wrong kind."""
    for name, value in fields.items():
        if name not in _TYPES:
            raise UsageError(f"there is no field {name!r}: the fields are {', '.join(NAMES)}")
        if not isinstance(value, _TYPES[name]) or (isinstance(value, bool) and name != "hold"):
            kinds = " or ".join(_SAID[kind.__name__] for kind in _TYPES[name])
            raise UsageError(f"{name} is {kinds}, not {value!r}")
        if isinstance(value, dict) and not all(isinstance(one, str) for one in value.values()):
            raise UsageError(f"env is an object of texts, not {value!r}")


def options(fields: Mapping[str, Json]) -> Options:
    """The options that the fields say; what is not said is as in `Options`."""
    said: dict[str, Any] = {name: fields[name] for name in _SAME if name in fields}
    if "in" in fields:
        said["delay"] = fields["in"]
    if "key" in fields:
        said["unique"] = fields["key"]
    if "expires" in fields:
        said["expires"] = _expires(fields["expires"])
    if "cwd" in fields:
        said["cwd"] = os.path.abspath(os.path.expanduser(fields["cwd"]))  # noqa: PTH111  # text in, text out
    if "retries" in fields or "backoff" in fields:
        said["retry"] = _retry(fields.get("retries"), fields.get("backoff"))
    return Options(**said)


WINDOWS = ("debounce", "debounce_max", "throttle")
LIMITS = ("concurrency", "concurrency_key", "rate")
AFTER = ("after", "after_any", "after_failure")
_SAME = ("queue", "priority", "at", "if_exists", *WINDOWS, "timeout", "env", "label", "hold", "batch", *LIMITS, *AFTER)


def _expires(said: str | float) -> Any:
    if not isinstance(said, str) or (said[:1].isdigit() and not set("-:") & set(said)):
        return said
    return datetime.fromtimestamp(instant_ms(said) / 1000, UTC)


def _retry(retries: int | None, backoff: str | float | None) -> Retry:
    if retries is None:
        raise UsageError("--backoff says when to try again, and --retries how often: give both")
    if retries < 0:
        raise UsageError(f"--retries counts the attempts after the first: 0 or more, not {retries}")
    return Retry(attempts=retries + 1) if backoff is None else _with_backoff(retries + 1, backoff)


def _with_backoff(attempts: int, backoff: str | float) -> Retry:
    first, dots, last = str(backoff).partition("..")
    kind: Backoff = "exponential" if dots else "constant"
    return Retry(attempts=attempts, backoff=kind, base=first, cap=last if dots else first)
