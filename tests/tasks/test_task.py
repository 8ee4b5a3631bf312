"""The base of all tasks."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from parimg import Task

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Threshold(Task):
    """Share of the pixels above a level."""

    columns: ClassVar[dict[str, str]] = {"share": "double"}

    level: float
    reference: Any = None
    label: str = "bright"

    def __call__(self, image: npt.NDArray[Any]) -> dict[str, object]:
        return {"share": float((image > self.level).mean())}


def test_a_task_is_called_with_one_image() -> None:
    assert Threshold(10)(np.array([[5, 20], [30, 40]])) == {"share": 0.75}


def test_a_task_without_a_call_says_what_it_lacks() -> None:
    with pytest.raises(NotImplementedError, match=r"Task does not define __call__\(self, image\)"):
        Task()(np.zeros((2, 2)))


def test_the_parameters_of_a_task_are_frozen() -> None:
    task = Threshold(10)
    with pytest.raises(FrozenInstanceError):
        task.level = 11  # type: ignore[misc]


def test_tasks_with_arrays_can_be_compared_and_hashed() -> None:
    """By identity: the generated comparison of two arrays would have no truth value."""
    first, second = Threshold(10, np.zeros(3)), Threshold(10, np.zeros(3))
    assert first == first  # noqa: PLR0124
    assert first != second
    assert len({first, second}) == 2


def test_images_are_gray_and_columns_unknown_unless_a_task_says_otherwise() -> None:
    assert Task.color == "gray"
    assert dict(Task.columns) == {}
    assert Threshold(1).columns == {"share": "double"}


def test_resolve_and_prepare_may_be_left_out() -> None:
    task = Threshold(10)
    before = dict(vars(task))
    task.resolve()
    task.prepare()
    assert vars(task) == before


def test_a_task_is_named_by_its_class() -> None:
    assert Threshold(10).name == "Threshold"


def test_parameters_are_described_as_text() -> None:
    assert Threshold(0.5).describe() == {"level": "0.5", "reference": "None", "label": "'bright'"}


def test_an_array_is_described_by_dtype_and_shape() -> None:
    described = Threshold(1, np.zeros((500, 128), np.uint8)).describe()
    assert described["reference"] == "array of uint8, shape (500, 128)"


def test_a_long_parameter_is_cut_to_200_characters() -> None:
    described = Threshold(1, label=1000 * "x").describe()["label"]
    assert described == "'" + 196 * "x" + "..."
    assert len(described) == 200
