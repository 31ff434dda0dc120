"""Facts with names that never change: what frozen dataclasses are, without the megabyte that `dataclasses` imports.

Task modules bring such classes into the template, and each fork copies the tables of the template's pages.
"""

from typing import Any, ClassVar, Self, dataclass_transform


class _Signature:
    """For `inspect.signature`, and the arguments that do not fit it."""

    def __get__(self, _: object, owner: "type[Facts]") -> Any:
        from inspect import Parameter, Signature

        kind, none = Parameter.POSITIONAL_OR_KEYWORD, Parameter.empty
        hints = owner._hints  # noqa: SLF001 - it is a part of it
        return Signature(
            [Parameter(one, kind, default=getattr(owner, one, none), annotation=hints[one]) for one in hints]
        )


@dataclass_transform(frozen_default=True)
class Facts:
    """Its subclasses name their facts, with defaults, as dataclasses do; these have to be such as never change, too."""

    __match_args__: ClassVar[tuple[str, ...]] = ()
    __signature__ = _Signature()
    _hints: ClassVar[dict[str, Any]] = {}
    _needed: ClassVar[set[str]] = set()

    def __init_subclass__(cls) -> None:
        cls._hints = {**cls._hints, **cls.__annotations__}
        cls._needed = {name for name in cls._hints if not hasattr(cls, name)}
        cls.__match_args__ = tuple(cls._hints)  # type: ignore[misc]  # as dataclasses do

    def __init__(self, *values: Any, **named: Any) -> None:
        facts = {**dict(zip(self.__match_args__, values)), **named} if values else named  # noqa: B905 -- see below
        is_said_once = len(facts) == len(values) + len(named)
        if not (is_said_once and self._needed <= facts.keys() <= self._hints.keys()):
            facts = self.__signature__.bind(*values, **named).arguments  # TypeError, which says what does not fit
        self.__dict__.update(facts)  # what is not said is found in the class
        self.__post_init__()

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""

    def __replace__(self, /, **changes: Any) -> Self:
        """For `copy.replace`."""
        return type(self)(**{**vars(self), **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} of {type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name!r} of {type(self).__name__} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        facts = zip(self.__match_args__, self._values(), strict=True)
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in facts)})"

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)
