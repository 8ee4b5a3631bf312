"""Function: any function of one array as a task."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from parimg.errors import TaskError
from parimg.tasks.task import COLOR_MODES, Task

if TYPE_CHECKING:
    from types import ModuleType

    import numpy.typing as npt

    from parimg.images.decode import ColorMode


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


def load_function(name: str) -> Callable[..., object]:
    """The function that a text names, as users type it on the command line.

    Parameters
    ----------
    name : str
        ``"module:function"``, of a module that can be imported or lies in the current folder, or
        ``"path/to/file.py:function"``.

    Returns
    -------
    callable

    Raises
    ------
    TaskError
        If there is no such module, file or function, or the module cannot be loaded.

    Examples
    --------
    >>> load_function("statistics:median")([3, 1, 2])
    2
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute.isidentifier():
        raise TaskError(f"name a function as module:function or path/to/file.py:function (got {name!r})")
    try:
        module = _load_file(place) if place.endswith(".py") else _import(place)
    except (Exception, SystemExit) as error:
        raise TaskError(f"{place!r} cannot be loaded: {type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        here = sorted(one for one, value in vars(module).items() if callable(value) and not one.startswith("_"))
        raise TaskError(f"{place!r} has no function {attribute!r}; it has {', '.join(here[:10]) or 'none'}")
    return cast("Callable[..., object]", found)


def _import(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def _load_file(path: str) -> ModuleType:
    # Among the modules, as cloudpickle sends functions of modules that engines cannot import by value.
    name = os.path.splitext(os.path.basename(path))[0]
    specification = importlib.util.spec_from_file_location(name, os.path.abspath(path))
    if specification is None or specification.loader is None or not os.path.isfile(path):
        raise FileNotFoundError(f"no file {path!r}")
    if name in sys.modules:
        raise ImportError(f"there is another module {name!r}; rename the file")
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as Python does: the file may import others that lie beside it
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
