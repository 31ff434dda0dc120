"""Query words such as `status:failed queue:mail since:1h error:Timeout`, read into a filter."""

import difflib
from collections.abc import Sequence

from jobrunner.cli.words import whole
from jobrunner.errors import UsageError
from jobrunner.state_backend import Filter
from jobrunner.status import Status
from jobrunner.times import duration_ms, instant_ms, now_ms

KEYS = ("status", "queue", "task", "label", "since", "until", "parent", "schedule", "batch", "error")


def read(words: Sequence[str]) -> Filter:
    """The filter that all of the words say; those without a key are a text in the task, the label or the arguments."""
    said: dict[str, str] = {}
    texts: list[str] = []
    for word in words:
        key, colon, value = word.partition(":")
        if colon and key in KEYS:
            if not value or key in said:
                raise UsageError(f"{word!r}: {key} wants " + ("one value" if value else "a value behind the colon"))
            said[key] = value
        else:
            texts.append(_text(word, key if colon else ""))
    return Filter(
        statuses=_statuses(said["status"]) if "status" in said else None,
        queue=said.get("queue"),
        task=said.get("task"),
        label=said.get("label"),
        since=_moment(said.get("since")),
        until=_moment(said.get("until")),
        parent=whole("parent:", said.get("parent")),
        schedule=said.get("schedule"),
        batch=said.get("batch"),
        error=said.get("error"),
        text=" ".join(texts) or None,
    )


def is_query(words: Sequence[str]) -> bool:
    """Whether these are query words with keys, and not numbers of jobs; UsageError where some are and some are not."""
    keyed = [":" in word and word.partition(":")[0] in KEYS for word in words]
    if any(keyed) and not all(keyed):
        raise UsageError(f"either numbers of jobs or words such as status:failed, not {' '.join(words)!r}")
    return any(keyed)


def _text(word: str, key: str) -> str:
    if near := difflib.get_close_matches(key, KEYS, n=1, cutoff=0.75):
        raise UsageError(f"there is no query word {key}: did you mean {near[0]}:{word.partition(':')[2]}?")
    return word


def _statuses(value: str) -> tuple[Status, ...]:
    return tuple(_status(name) for name in value.split(","))


def _status(name: str) -> Status:
    try:
        return Status(name)
    except ValueError as error:
        raise UsageError(f"there is no status {name!r}: there are {', '.join(Status)}") from error


def _moment(value: str | None) -> int | None:
    """A time, or a duration before now."""
    if value is None:
        return None
    try:
        return now_ms() - duration_ms(value)
    except UsageError:
        return instant_ms(value)
