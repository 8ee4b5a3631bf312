"""What is compiled is named by the files that it was compiled from."""

from __future__ import annotations

import importlib.util
import os
import shutil

import numpy as np
import pytest

from parimg.kernels.filters import digests
from parimg.kernels.filters.user_functions import as_user_function
from parimg.kernels.filters.windows import specification


def stamp_of(folder):
    """What a process says that loads the module from there."""
    spec = importlib.util.spec_from_file_location("copied_digests", folder / "digests.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sources_stamp()


@pytest.fixture
def folder(tmp_path):
    shutil.copy(digests.__file__, tmp_path)
    (tmp_path / "medians.py").write_text("SIDE = 3\n")
    return tmp_path


def test_the_stamp_changes_with_any_file_of_the_room_and_with_nothing_else(folder):
    before = stamp_of(folder)
    (folder / "notes.txt").write_text("no source")
    assert stamp_of(folder) == before != ""
    (folder / "medians.py").write_text("SIDE = 33\n")
    longer = stamp_of(folder)
    os.utime(folder / "medians.py", ns=(1, 1))
    older = stamp_of(folder)
    assert len({before, longer, older}) == 3


def test_types_that_loops_are_compiled_for_hold_the_stamp():
    dtype = np.dtype(np.uint8)
    types = (specification(dtype, dtype, dtype).numba_type, as_user_function(np.median, 1, (), {}).numba_type)
    assert all(digests.sources_stamp() in kind.name for kind in types)
