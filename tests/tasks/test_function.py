"""Any function as a task."""

from __future__ import annotations

import functools
from collections import OrderedDict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from parimg import Function, Task
from parimg.errors import TaskError

if TYPE_CHECKING:
    import numpy.typing as npt

IMAGE = np.array([[1, 3], [5, 7]])


def brightness(image: npt.NDArray[Any], scale: float = 1.0) -> float:
    return float(image.mean() * scale)


class Scaled:
    """A callable object without a name of its own."""

    def __call__(self, image: npt.NDArray[Any]) -> object:
        return brightness(image, 2)

    def half(self, image: npt.NDArray[Any]) -> object:
        return brightness(image, 0.5)


def test_one_value_is_named_value() -> None:
    assert Function(brightness)(IMAGE) == {"value": 4.0}


@pytest.mark.parametrize("make", [dict, OrderedDict, MappingProxyType])
def test_a_mapping_is_given_as_it_is(make: Any) -> None:
    assert Function(lambda image: make({"low": 1, "high": 7}))(IMAGE) == {"low": 1, "high": 7}


@pytest.mark.parametrize("value", [None, "text", [1, 2], (1, 2)])
def test_what_is_no_mapping_is_one_value(value: object) -> None:
    assert Function(lambda image: value)(IMAGE) == {"value": value}


def test_an_array_is_one_value() -> None:
    values = Function(np.transpose)(IMAGE)
    assert list(values) == ["value"]
    np.testing.assert_array_equal(values["value"], [[1, 5], [3, 7]])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        (brightness, "brightness", 4.0),
        (np.median, "median", 4.0),
        (np.max, "max", 7),
        (lambda image: 3, "Function", 3),
        (functools.partial(brightness, scale=3), "Function", 12.0),
        (Scaled(), "Function", 8.0),
        (Scaled().half, "half", 2.0),
    ],
    ids=["function", "numpy", "numpy max", "lambda", "partial", "callable object", "method"],
)
def test_any_callable_is_a_task_named_by_it_where_it_has_a_name(function: Any, name: str, value: object) -> None:
    task = Function(function)
    assert isinstance(task, Task)
    assert task.name == name
    assert task(IMAGE) == {"value": value}


@pytest.mark.parametrize(
    ("function", "named"), [(3, "3, a int"), (None, "None, a NoneType"), ("max", "'max', a str")]
)
def test_what_cannot_be_called_is_refused_and_named(function: Any, named: str) -> None:
    with pytest.raises(TaskError, match=rf"^function must be callable \(got {named}\)$"):
        Function(function)


@pytest.mark.parametrize("color", ["unchanged", "gray", "color"])
def test_images_are_decoded_as_the_color_mode_says(color: Any) -> None:
    assert Function(brightness, color=color).color == color


def test_images_are_given_as_stored_by_default() -> None:
    assert Function(brightness).color == "unchanged"
    assert dict(Function(brightness).columns) == {}


@pytest.mark.parametrize("color", ["grey", "RGB", "", None, 3])
def test_an_unknown_color_mode_is_refused_with_those_there_are(color: Any) -> None:
    with pytest.raises(TaskError, match=rf"color must be one of .*'unchanged'.*got {color!r}"):
        Function(brightness, color=color)


def test_the_color_mode_is_given_by_name_only() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        Function(brightness, "gray")  # type: ignore[misc]


def test_the_error_of_the_function_is_not_hidden() -> None:
    def fails(image: npt.NDArray[Any]) -> object:
        raise KeyError("no such level")

    with pytest.raises(KeyError, match="no such level"):
        Function(fails)(IMAGE)


def test_the_function_and_the_color_mode_are_described() -> None:
    described = Function(brightness, color="gray").describe()
    assert described.keys() == {"function", "color"}
    assert "brightness" in described["function"]
    assert described["color"] == "'gray'"
