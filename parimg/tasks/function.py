"""Function: any function of one array as a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from parimg.errors import TaskError
from parimg.tasks.task import COLOR_MODES, Task

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.decode import ColorMode


@dataclass(frozen=True, eq=False)
class Function(Task):
    """Any function of one array, also a lambda or one defined in a notebook cell.

    Parameters
    ----------
    function : callable
        Called with one image. What it returns becomes the record's values: a mapping of names to values, or
        one value, which is then named ``value``.
    color : {"unchanged", "gray", "color", "stack"}
        How images are decoded: as stored (16 bit, float, alpha), gray 8 bit, or RGB 8 bit.

    Raises
    ------
    TaskError
        If `function` cannot be called, or `color` is none of the three.

    Examples
    --------
    >>> import numpy as np
    >>> Function(lambda image: {"mean": image.mean()})(np.array([[1, 3]]))
    {'mean': np.float64(2.0)}
    >>> Function(np.median)(np.array([[1, 3]]))
    {'value': np.float64(2.0)}
    """

    function: Callable[[npt.NDArray[Any]], object]
    # A parameter here, a class variable of other tasks.
    color: ColorMode = field(default="unchanged", kw_only=True)  # type: ignore[misc]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TaskError(f"function must be callable (got {self.function!r}, a {type(self.function).__name__})")
        if self.color not in COLOR_MODES:
            raise TaskError(f"color must be one of {', '.join(map(repr, COLOR_MODES))} (got {self.color!r})")

    def __call__(self, image: npt.NDArray[Any]) -> Mapping[str, object]:
        """Values of one image."""
        value = self.function(image)
        return value if isinstance(value, Mapping) else {"value": value}

    @property
    def name(self) -> str:
        """The function's name, where it has one that says something."""
        name = getattr(self.function, "__name__", "")
        return name if name.isidentifier() else "Function"
