"""Maps as files: names that stay in their folder, and values within the error of their dtype."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parimg.errors import ImageFormatError, ImageMissingError, TaskError
from parimg.tasks.feature_files import file_of, load_feature_map, map_extension, save_feature_map, write_file

MAP = np.random.default_rng(0).gamma(1.0, 1.0, (5, 4, 6)).astype(np.float32)
maps = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=4),
    elements=st.floats(-1e6, 1e6, width=32),
)


def written(folder: Path, feature_map: np.ndarray, dtype: str, key: str = "a.png") -> str:
    return write_file(
        str(folder), key, map_extension(dtype), lambda file: save_feature_map(file, feature_map, dtype)
    )


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a.png", "a.png.npy"),
        ("views/day 1/Ä.jpg", "views/day 1/Ä.jpg.npy"),
        ("/data/a.png", "%/data/a.png.npy"),
        ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd.npy"),
        ("a/../b", "a/%2E%2E/b.npy"),
        ("..", "%2E%2E.npy"),
        (".", "%2E.npy"),
        ("", "%.npy"),
        ("a/", "a/%.npy"),
        ("s3://bucket/a.png", "s3%3A/%/bucket/a.png.npy"),
        ("C:\\a.png", "C%3A%5Ca.png.npy"),
        ("50%.png", "50%25.png.npy"),
        ("%2E%2E", "%252E%252E.npy"),
        ("a\0b\n", "a%00b%0A.npy"),
        (".hidden", ".hidden.npy"),
    ],
)
def test_a_file_is_named_after_its_image_below_the_folder(key: str, path: str) -> None:
    assert file_of("maps", key, ".npy") == f"maps/{path}"


@given(st.text(st.characters(codec=None), max_size=30), st.text(st.characters(codec=None), max_size=30))
def test_no_key_leaves_the_folder_and_different_keys_have_different_files(first: str, second: str) -> None:
    paths = [file_of("/maps", key, ".npy") for key in (first, second)]
    for path in paths:
        path.encode()
        assert os.path.normpath(path) == path
        assert path.startswith("/maps/")
    assert (paths[0] == paths[1]) == (first == second)


def test_long_names_are_shortened_and_stay_different(tmp_path: Path) -> None:
    keys = ["ä" * 300 + end for end in ("1.png", "2.png")]
    paths = [written(tmp_path, MAP, "float32", key) for key in keys]
    assert len(set(paths)) == 2
    assert all(len(os.path.basename(path).encode()) <= 255 for path in paths)


# -- writing -------------------------------------------------------------------------------------------------


def test_a_folder_that_is_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "maps"
    outside.mkdir()
    folder.mkdir()
    (folder / "views").symlink_to(outside)
    with pytest.raises(
        TaskError, match=r"views' is a symbolic link, which is not followed; .* image 'views/a.png'"
    ):
        written(folder, MAP, "float32", "views/a.png")
    assert list(outside.iterdir()) == []


def test_a_file_that_is_a_symbolic_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    target, folder = tmp_path / "target", tmp_path / "maps"
    target.write_text("precious")
    folder.mkdir()
    (folder / "a.png.npy").symlink_to(target)
    written(folder, MAP, "float32")
    assert target.read_text() == "precious"
    np.testing.assert_array_equal(load_feature_map(folder / "a.png.npy"), MAP)


def test_the_folder_itself_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "maps").symlink_to(tmp_path / "real")
    written(tmp_path / "maps", MAP, "float32", "views/a.png")
    assert (tmp_path / "real" / "views" / "a.png.npy").is_file()


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "views").write_text("")
    with pytest.raises(TaskError, match="views' is a file; wanted a folder"):
        written(tmp_path, MAP, "float32", "views/a.png")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = written(tmp_path, MAP, "float32")

    def fails(file: object) -> None:
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(str(tmp_path), "a.png", ".npy", fails)
    assert os.listdir(tmp_path) == ["a.png.npy"]
    np.testing.assert_array_equal(load_feature_map(path), MAP)


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
