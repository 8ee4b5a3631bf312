"""The names that users import, and what their documentation holds."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import subprocess
import sys
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import pytest

import parimg
from parimg import errors

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = sorted(parimg.__all__)
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(parimg, name))]
CLASSES = [name for name in NAMES if inspect.isclass(getattr(parimg, name))]
METHODS = sorted(
    f"{name}.{method}"
    for name in CLASSES
    for method, value in vars(getattr(parimg, name)).items()
    if not method.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
)
SECTIONS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Notes", "References", "Examples")


def found(dotted: str) -> Any:
    value: Any = parimg
    for name in dotted.split("."):
        value = getattr(value, name)
    return value.fget if isinstance(value, property) else value


def sections_of(value: Any) -> dict[str, str]:
    """Sections of a numpydoc docstring by heading; what stands above the first is ``Summary``."""
    text = inspect.cleandoc(value.__doc__ or "")
    parts = re.split(r"^(\w[\w ]*)\n(-{3,})$", text, flags=re.MULTILINE)
    for heading, line in zip(parts[1::3], parts[2::3], strict=True):
        assert len(heading) == len(line), f"the line under {heading!r} is {len(line)} long"
    return {"Summary": parts[0].strip(), **dict(zip(parts[1::3], parts[3::3], strict=True))}


def documented(section: str) -> list[str]:
    """Names that a section of parameters describes: ``name : type``, ``a, b : type``, or the name alone."""
    names = []
    for line in section.splitlines():
        if line and not line.startswith(" "):
            names += [name.strip().lstrip("*") for name in line.partition(" : ")[0].split(",")]
    return names


def parameters_of(function: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_imported(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"from parimg import {name}", namespace)
    assert namespace[name].__name__ == name
    assert namespace[name].__module__.startswith("parimg.")
    assert name in dir(parimg)


def test_a_star_import_gives_the_public_names_and_no_others() -> None:
    namespace: dict[str, Any] = {}
    exec("from parimg import *", namespace)
    assert sorted(namespace.keys() - {"__builtins__"}) == NAMES


def test_the_public_names_are_sorted_and_told_once() -> None:
    assert list(parimg.__all__) == sorted(set(parimg.__all__))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="parimg attribute MatchSift"):
        parimg.MatchSift  # noqa: B018


def test_the_version_is_the_installed_one() -> None:
    assert parimg.__version__ == importlib.metadata.version("parimg")
    assert re.match(r"\d+\.\d+\.\d+", parimg.__version__)


def test_importing_parimg_loads_nothing_heavy() -> None:
    script = (
        "import sys, parimg; parimg.__version__; dir(parimg);"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'ipyparallel', 'IPython', 'numpy', 'cv2', 'pandas', 'pyarrow', 'numba', 'scipy', 'zmq'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_every_error_has_the_common_base() -> None:
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    assert len(classes) > 15
    for error in classes:
        assert issubclass(error, errors.ParimgError | UserWarning)
        assert (error.__doc__ or "").endswith(".")


# -- docstrings ---------------------------------------------------------------------------------------------


def test_there_are_functions_classes_and_methods_to_check() -> None:
    assert {"start", "connect", "open_job"} <= set(FUNCTIONS)
    assert {"Controller", "Job", "Record", "Task"} <= set(CLASSES)
    assert {"Controller.submit", "Job.wait", "Record.ok", "Task.prepare"} <= set(METHODS)


@pytest.mark.parametrize("name", [*NAMES, *METHODS])
def test_a_docstring_begins_with_one_sentence(name: str) -> None:
    first, *rest = sections_of(found(name))["Summary"].splitlines()
    assert first[0].isupper() or first.startswith("``")
    assert first.endswith(".")
    assert not rest or rest[0] == "", "the first line is not followed by an empty one"


@pytest.mark.parametrize("name", [*NAMES, *METHODS])
def test_the_sections_of_a_docstring_are_numpydoc_s_in_its_order(name: str) -> None:
    headings = list(sections_of(found(name)))[1:]
    assert headings == [section for section in SECTIONS if section in headings]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_documents_each_parameter(name: str) -> None:
    sections = sections_of(found(name))
    assert documented(sections.get("Parameters", "")) == parameters_of(found(name))
    assert "Returns" in sections


@pytest.mark.parametrize("name", [name for name in METHODS if inspect.isfunction(found(name))])
def test_a_method_that_documents_parameters_documents_each(name: str) -> None:
    section = sections_of(found(name)).get("Parameters")
    parameters = parameters_of(found(name))
    if section is None:
        # Where the sentence says it all, as in "Call `listener` with each further event".
        assert len(parameters) <= 1 or name == "Controller.map"
    else:
        assert [known for known in documented(section) if known != "options"] == [
            known for known in parameters if known != "options"
        ]


@pytest.mark.parametrize("name", [name for name in CLASSES if is_dataclass(getattr(parimg, name))])
def test_a_dataclass_documents_each_field(name: str) -> None:
    sections = sections_of(found(name))
    described = documented(sections.get("Parameters", "") + sections.get("Attributes", ""))
    assert sorted(described) == sorted(parameters_of(found(name)))


@pytest.mark.parametrize("name", ["FeatureMap", "MatchSIFT", "NeighbourhoodFilter", "Function"])
def test_a_task_has_an_example(name: str) -> None:
    assert ">>> " in sections_of(found(name))["Examples"]
