"""What a function takes, and how the arguments of a call become JSON that another process can call it with."""

import functools
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any

from jobrunner.models import Json
from jobrunner.payload import POSITIONAL

_STARRED = 0x04 | 0x08
"""In the flags of code: it takes *args, or **kwargs."""


class Parameters:
    """Those of one function.

    Of most all is seen from the code: `inspect`, which others need, is a megabyte and some milliseconds for each job of
    a process of its own that enqueues.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        # What a decorator has put around a function has the function in its __dict__; code tells of itself alone.
        if isinstance(function, FunctionType) and not function.__dict__ and _is_plain(function.__code__):
            self._read_code(function, function.__code__)
        else:
            self._read_signature()
        self._needed = self._names.keys() - self._defaults.keys()
        self._fewest = self._fewest_by_position()

    def _read_code(self, function: FunctionType, code: CodeType) -> None:
        self._are_plain = True
        self._in_order = list(code.co_varnames[: code.co_argcount])
        self._names = dict.fromkeys(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
        last = function.__defaults__ or ()
        self._defaults = dict(zip(self._in_order[len(self._in_order) - len(last) :], last, strict=True))
        self._defaults |= function.__kwdefaults__ or {}

    def _read_signature(self) -> None:
        parameters = self._signature.parameters.values()
        self._are_plain = all(one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) for one in parameters)
        self._in_order = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
        self._names = dict.fromkeys(one.name for one in parameters)
        self._defaults = {one.name: one.default for one in parameters if one.default is not one.empty}

    def _fewest_by_position(self) -> int:
        """How many arguments do without any by name; more than there can be, where none do."""
        if not self._are_plain or not self._needed <= set(self._in_order):
            return len(self._in_order) + 1
        return max((place for place, name in enumerate(self._in_order, 1) if name in self._needed), default=0)

    def as_json(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Json:
        """An object, in the order of the function; TypeError where the arguments do not fit."""
        if not kwargs and self._fewest <= len(args) <= len(self._in_order):
            return dict(zip(self._in_order, args))  # noqa: B905 -- the word takes longer
        given = self._given(args, kwargs)
        if given is None:
            return self._arranged(self._signature.bind(*args, **kwargs).arguments)
        if args and len(kwargs) == 1:  # which stands behind what was given by position in any case
            return given
        return {name: given[name] for name in self._names if name in given}

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """By the parameters' names, defaults included: what a key may name."""
        given = self._given(args, kwargs)
        if given is None:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return dict(bound.arguments)
        return {name: given[name] if name in given else self._defaults[name] for name in self._names}

    def _given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The arguments by name, where parameters and call are as most are; None where `bind` must see to it."""
        if not self._are_plain or len(args) > len(self._in_order):
            return None
        given = {**dict(zip(self._in_order, args)), **kwargs} if args else kwargs  # noqa: B905 -- the word takes longer
        fits = len(given) == len(args) + len(kwargs) and self._needed <= given.keys() <= self._names.keys()
        return given if fits else None

    def _arranged(self, bound: Mapping[str, Any]) -> Json:
        named: dict[str, Any] = {}
        positional: list[Any] = []
        for name, value in bound.items():
            parameter = self._signature.parameters[name]
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(value)
            elif parameter.kind is parameter.VAR_POSITIONAL:
                # What stands before *args can only be given by position, too.
                positional = [*named.values(), *value] if not positional else [*positional, *named.values(), *value]
                named.clear()
            elif parameter.kind is parameter.VAR_KEYWORD:
                named.update(value)
            else:
                named[name] = value
        return {POSITIONAL: positional, **named} if positional else named

    @functools.cached_property
    def _signature(self) -> Any:
        import inspect

        return inspect.signature(self._function)


@functools.cache
def parameters_of(function: Callable[..., Any]) -> Parameters:
    """Looked at once for each function."""
    return Parameters(function)


def _is_plain(code: CodeType) -> bool:
    return not code.co_posonlyargcount and not code.co_flags & _STARRED
