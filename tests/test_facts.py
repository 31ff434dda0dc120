"""Facts behave as frozen dataclasses do, of which task modules bring none into the template."""

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from jobrunner import Retry
from jobrunner.facts import Facts
from jobrunner.options import Options
from jobrunner.policy import Policy


class Place(Facts):
    """Where something is."""

    x: int
    y: int = 0
    notes: Mapping[str, str] = {}


class Room(Place):
    """A place with a number of its own."""

    number: int = 1


class Patient(Retry):
    """What a user makes of ours."""

    def __init__(self, base: str) -> None:
        super().__init__(attempts=10, base=base)


@dataclasses.dataclass(frozen=True)
class Model:
    """The same by the standard library."""

    x: int
    y: int = 0
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}),
    ((1, 2), {}),
    ((1, 0, {}), {}),
    ((), {"x": 1}),
    ((), {"y": 2, "x": 1}),
    ((1,), {"notes": {"a": "b"}}),
]


@pytest.mark.parametrize(("args", "kwargs"), CALLS)
def test_facts_are_made_and_shown_as_a_dataclass_is(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    place, model = Place(*args, **kwargs), Model(*args, **kwargs)
    assert repr(place) == repr(model).replace("Model", "Place")
    assert (place.x, place.y, place.notes) == (model.x, model.y, model.notes)


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, {}, 4), {}), ((1,), {"x": 1}), ((1,), {"z": 3})])
def test_what_does_not_fit_is_refused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for kind in (Place, Model):
        with pytest.raises(TypeError):
            kind(*args, **kwargs)
    with pytest.raises(TypeError, match="'z'"):
        Place(1, z=3)  # type: ignore[call-arg]  # type checkers see it, too


def test_facts_are_equal_where_all_are() -> None:
    places = [Place(*args, **kwargs) for args, kwargs in CALLS]
    models = [Model(*args, **kwargs) for args, kwargs in CALLS]
    assert [[one == other for one in places] for other in places] == [
        [one == other for one in models] for other in models
    ]
    assert Place(1) != Model(1)
    assert Place(1) != (1, 0, {})


def test_facts_can_be_in_sets_where_each_of_them_can() -> None:
    assert len({Retry(attempts=3), Retry(), Retry(base=1.0), Retry(attempts=4)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Place(1))


def test_facts_never_change() -> None:
    place = Place(1)
    changes: list[Callable[[], None]] = [
        lambda: setattr(place, "x", 2),
        lambda: setattr(place, "z", 2),
        lambda: delattr(place, "x"),
    ]
    for change in changes:
        with pytest.raises(AttributeError, match="cannot be"):
            change()
    assert place == Place(1)


def test_facts_can_be_replaced_in_a_copy() -> None:
    assert Place(1, 2).__replace__(x=3) == Place(3, 2)
    with pytest.raises(TypeError, match="'z'"):
        Place(1, 2).__replace__(z=3)


def test_a_kind_of_facts_has_those_of_what_it_is_made_of() -> None:
    assert repr(Room(1, number=7)) == "Room(x=1, y=0, notes={}, number=7)"
    assert Room(1) != Place(1)
    assert list(inspect.signature(Room).parameters) == ["x", "y", "notes", "number"]
    with pytest.raises(TypeError, match="'x'"):
        Room(number=7)  # type: ignore[call-arg]
    assert Patient("2s").to_json() == Retry(attempts=10, base="2s").to_json()


def test_facts_can_be_taken_apart_by_their_places() -> None:
    match Place(1, 2):
        case Place(x, y):
            assert (x, y) == (1, 2)


def test_people_are_told_what_facts_take() -> None:
    assert inspect.signature(Place) == inspect.signature(Model).replace(
        parameters=[
            one.replace(default={}) if one.name == "notes" else one
            for one in inspect.signature(Model).parameters.values()
        ],
        return_annotation=inspect.Signature.empty,
    )
    assert str(inspect.signature(Retry)).startswith("(attempts: int = 3, backoff: ")


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.parametrize(
    "facts", [Retry(base="5s", on=(OSError,)), Policy(cwd="/", env={"A": "b"}), Options(queue="q")]
)
def test_a_copy_of_facts_is_the_same(facts: Facts, again: Callable[[Facts], Facts]) -> None:
    assert again(facts) == facts
