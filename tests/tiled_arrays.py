"""Arrays that are run by tiles, in this process, by the code that engines run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parimg.engine.tiles import run_alone
from parimg.tasks.task import Task

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass
class ArrayPixels:
    """An array, read in parts; it remembers which."""

    array: npt.NDArray[Any]
    pixel_size: tuple[float, float] | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        self.shape = self.array.shape
        self.dtype = self.array.dtype
        self.largest = 0

    def read_region(self, y1: int, x1: int, y2: int, x2: int) -> npt.NDArray[Any]:
        assert 0 <= y1 < y2 <= self.shape[0]
        assert 0 <= x1 < x2 <= self.shape[1]
        self.largest = max(self.largest, (y2 - y1) * (x2 - x1))
        return self.array[y1:y2, x1:x2].copy()


def run_by_tiles(
    task: Task, array: npt.NDArray[Any], tile: tuple[int, int], key: str = "image"
) -> Mapping[str, Any]:
    """Values of an array that is run by tiles of any size, one after the other."""
    return run_alone(task, key, ArrayPixels(array), tile)
