"""Arguments and results: plain JSON, within limits, or an error that says which one was passed."""

import json
import os
import re
from typing import Any

from jobrunner.errors import NotSerializable, UsageError
from jobrunner.models import Json

VARIABLE = "JOBRUNNER_MAX_PAYLOAD"
"""In the environment of who enqueues and of who runs: the largest arguments or result, in bytes of JSON."""
DEFAULT_BYTES = 1 << 20
MOST_BYTES = 8 << 20
"""No limit can be larger: each is in memory several times, and in one message."""
MAX_DEPTH = 100
"""The deepest nesting of lists and objects."""
INLINE_BYTES = 1000
"""Arguments up to this size stand in the invocation's own row."""
POSITIONAL = "*"
"""The key of positional arguments beside named ones; no parameter can have this name."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_make_encode: Any = getattr(json.encoder, "c_make_encoder", None)
_text: Any = json.encoder.encode_basestring


def max_bytes() -> int:
    """The limit that the environment sets, 1 MiB by default; UsageError where it is none."""
    word = os.environ.get(VARIABLE, "")
    if not word:
        return DEFAULT_BYTES
    if not (word.isascii() and word.isdigit() and DEFAULT_BYTES <= int(word[:20]) <= MOST_BYTES):
        raise UsageError(f"{VARIABLE} is a number of bytes from {DEFAULT_BYTES:,} to {MOST_BYTES:,}, not {word!r}")
    return int(word)


def _encode(value: object) -> str:
    """What `_ENCODER.encode` gives, without the Python around its C part, which takes as long as most arguments do."""
    if _make_encode is None:
        return _ENCODER.encode(value)
    return "".join(_make_encode({}, _ENCODER.default, _text, None, ":", ",", False, False, False)(value, 0))


def dump(value: object, what: str) -> str:
    """JSON text of `value`; `what` ("arguments", "result") names it in the error."""
    if value is None or (not value and isinstance(value, dict)):
        return "null" if value is None else "{}"
    try:
        text = _encode(value)
        size = len(text) if text.isascii() else len(text.encode())
    except RecursionError:
        raise NotSerializable(f"the {what} are nested deeper than {MAX_DEPTH} levels, or contain themselves") from None
    except UnicodeEncodeError:
        raise NotSerializable(f"the {what} contain a lone surrogate, which is not text that can be kept") from None
    except (TypeError, ValueError) as error:
        raise NotSerializable(
            f"the {what} are not plain JSON data (null, bool, number, text, list, object): {error}"
        ) from None
    if size > MAX_DEPTH:  # what is shorter is neither too large nor too deep
        check(text, size, what)
    return text


def check(text: str, size: int, what: str) -> None:
    """Refuse JSON text that is too large or too deep."""
    check_size(size, what)
    _check_depth(text, what)


def check_size(size: int, what: str) -> None:
    """Refuse so many bytes of JSON where they are too many."""
    if size > DEFAULT_BYTES and size > (limit := max_bytes()):
        raise NotSerializable(
            f"the {what} are {size:,} bytes of JSON, and the limit is {limit:,} ({VARIABLE}): "
            "keep large data in a file and pass its name"
        )


def _check_depth(text: str, what: str) -> None:
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise NotSerializable(f"the {what} are nested deeper than {MAX_DEPTH} levels")


def load(text: str, what: str, *, frame: int = 0) -> Json:
    """Read JSON text from a user, within the limits; `frame` bytes of it are not the user's."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    check_size(size - frame, what)  # before it costs time and memory to read it
    try:
        if size > len(text):
            text.encode()
        value = _decode(text)
    except RecursionError:
        raise NotSerializable(f"the {what} are nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeEncodeError:
        raise NotSerializable(f"the {what} are not valid UTF-8") from None
    except ValueError as error:
        raise NotSerializable(f"the {what} are not valid JSON: {error}") from None
    _check_depth(text, what)
    return value


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


_STRING_OR_BRACKET = r'"(?:[^"\\]|\\.)*"|[\[\]{}]'  # compiled where it is first used, and then kept by re


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in re.finditer(_STRING_OR_BRACKET, text):
        if match[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in "]}":
            depth -= 1
    return deepest
