"""Border modes as maps of indices, against numpy.pad."""

import numpy as np
import pytest

from parimg.kernels.borders import MODES, OUTSIDE, axis_runs, checked_axes, checked_modes, source_index

NUMPY = {"reflect": "symmetric", "nearest": "edge", "mirror": "reflect", "wrap": "wrap"}


def padded(mode, length, before, after):
    axis = np.arange(length)
    if mode == "constant":
        return np.pad(axis, (before, after), constant_values=OUTSIDE)
    return np.pad(axis, (before, after), NUMPY[mode])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 40])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (0, 2), (3, 3), (17, 13)])
def test_maps_and_runs_are_those_of_numpys_padding(mode, length, before, after):
    expected = padded(mode, length, before, after)
    np.testing.assert_array_equal(source_index(mode, length, before, after), expected)
    runs = axis_runs(mode, length, before, after)
    np.testing.assert_array_equal(
        np.concatenate([run.source + run.step * np.arange(run.length) for run in runs]), expected
    )
    assert [run.place for run in runs] == [0, *np.cumsum([run.length for run in runs])[:-1]][: len(runs)]


def test_other_names_of_modes():
    assert checked_modes(["grid-mirror", "grid-wrap", "grid-constant"], 3) == ("reflect", "wrap", "constant")
    assert checked_modes("mirror", 2) == ("mirror", "mirror")


def test_axes_are_counted_from_the_first():
    assert checked_axes(None, 3) == (0, 1, 2)
    assert checked_axes((-1, 0), 3) == (2, 0)
    assert checked_axes(-2, 3) == (1,)
