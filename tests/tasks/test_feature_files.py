"""Maps as files: values within the error of their dtype."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parimg.errors import ImageFormatError, ImageMissingError, TaskError
from parimg.files.naming import write_file
from parimg.tasks.feature_files import load_feature_map, map_extension, save_feature_map

MAP = np.random.default_rng(0).gamma(1.0, 1.0, (5, 4, 6)).astype(np.float32)
maps = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=4),
    elements=st.floats(-1e6, 1e6, width=32),
)


def written(folder: Path, feature_map: np.ndarray, dtype: str, name: str = "a") -> str:
    path = f"{folder}/{name}{map_extension(dtype)}"
    return write_file(str(folder), path, lambda file: save_feature_map(file, feature_map, dtype))


# -- writing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_the_same_map_gives_the_same_bytes(tmp_path: Path, dtype: str) -> None:
    paths = [written(tmp_path, MAP, dtype, key) for key in ("a", "b")]
    assert Path(paths[0]).read_bytes() == Path(paths[1]).read_bytes()


# -- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2), ("uint8", 1)])
def test_a_map_takes_as_many_bytes_as_its_dtype(tmp_path: Path, dtype: str, size: int) -> None:
    large = np.zeros((64, 20, 30), np.float32)
    assert os.path.getsize(written(tmp_path, large, dtype)) == pytest.approx(large.size * size, rel=0.03)


@given(maps)
def test_float32_is_exact_and_uint8_half_a_step_of_255_off(
    tmp_path_factory: pytest.TempPathFactory, feature_map: np.ndarray
) -> None:
    folder = tmp_path_factory.mktemp("maps")
    np.testing.assert_array_equal(load_feature_map(written(folder, feature_map, "float32")), feature_map)
    loaded = load_feature_map(written(folder, feature_map, "uint8"))
    assert loaded.dtype == np.float32
    step = (max(feature_map.max(), 0) - min(feature_map.min(), 0)) / 255
    assert np.abs(loaded - feature_map).max() <= 0.501 * step + 1e-30
    assert (loaded[feature_map == 0] == 0).all()


@given(hnp.arrays(np.float32, (1, 2, 3), elements=st.floats(-60000, 60000, width=32)))
def test_float16_is_two_to_the_minus_eleven_off(
    tmp_path_factory: pytest.TempPathFactory, feature_map: np.ndarray
) -> None:
    loaded = load_feature_map(written(tmp_path_factory.mktemp("maps"), feature_map, "float16"))
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, feature_map, rtol=2**-11, atol=2**-25)


def test_values_that_a_dtype_cannot_hold_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"float16 holds values up to 65504, the feature map has 70000; use float32"
    ):
        written(tmp_path, np.full((1, 1, 1), -7e4, np.float32), "float16")
    with pytest.raises(TaskError, match="uint8 holds no infinity and no NaN"):
        written(tmp_path, np.full((1, 1, 1), np.nan, np.float32), "uint8")
    assert os.listdir(tmp_path) == []


def test_any_npy_file_of_three_axes_is_a_map(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(1, 2, 3))
    assert load_feature_map(tmp_path / "a.npy").tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_what_is_no_map_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((3, 4)))
    np.save(tmp_path / "text.npy", np.full((1, 1, 1), "a"))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    whole = Path(written(tmp_path, MAP, "uint8")).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[:-100])
    (tmp_path / "flipped.npz").write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    (tmp_path / "half.npy").write_bytes(Path(written(tmp_path, MAP, "float32")).read_bytes()[:-100])
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("flat.npy", "text.npy", "other.npz", "half.npz", "flipped.npz", "half.npy", "a.png"):
        with pytest.raises(ImageFormatError, match=f"{name}' holds no feature map"):
            load_feature_map(tmp_path / name)
    with pytest.raises(ImageMissingError, match=r"missing\.npy' does not exist"):
        load_feature_map(tmp_path / "missing.npy")
