"""Passes over OME-Zarr: as many pixels in fewer files, many images as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

import parimg
from parimg.errors import ImageError, TaskError

RNG = np.random.default_rng(13)


def written(folder: Path, key: str, shape: tuple[int, ...]) -> tuple[str, np.ndarray]:
    """An OME-Zarr of an image, and the image."""
    image = RNG.integers(0, 256, shape).astype(np.uint8)
    task = parimg.Convolve("identity", folder, format="ome-zarr")
    return str(task.run(image, key)["path"]), image


def n_files(place: str) -> int:
    return sum(path.is_file() for path in Path(place, "0").rglob("*"))


@pytest.mark.parametrize("has_target", [True, False])
def test_chunks_become_fewer_files_with_the_same_pixels(tmp_path: Path, has_target: bool) -> None:
    place, image = written(tmp_path, "a.png", (1210, 1300, 3))
    before = dict(zarr.open_group(place, mode="r").attrs)
    assert n_files(place) == 1 + 3 * 3
    target = str(tmp_path / "b.ome.zarr") if has_target else None
    found = parimg.shard_ome_zarr(place, target, side=1000)
    assert found == (target or place)
    group = zarr.open_group(found, mode="r")
    np.testing.assert_array_equal(group["0"][:], image.transpose(2, 0, 1))
    assert group["0"].shards == (3, 1024, 1024)
    assert n_files(found) == 1 + 2 * 2
    assert dict(group.attrs) == before
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


def test_images_of_one_size_become_one_array(tmp_path: Path) -> None:
    places, images = zip(*(written(tmp_path, f"{name}.png", (1100, 40, 3)) for name in "abc"), strict=True)
    found = parimg.stack_ome_zarr(pd.Series(places), tmp_path / "all.ome.zarr")  # as of a job's table
    group = zarr.open_group(found, mode="r")
    np.testing.assert_array_equal(group["0"][:], np.stack([image.transpose(2, 0, 1) for image in images]))
    assert group["1"].shape == (3, 3, 550, 20)
    assert group["0"].chunks[0] == 1
    (multiscale,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["t", "c", "y", "x"]
    assert multiscale["datasets"][1]["coordinateTransformations"][0]["scale"] == [1.0, 1.0, 2.0, 2.0]


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    places = [written(tmp_path, f"{side}.png", (side, 40, 3))[0] for side in (20, 30)]
    with pytest.raises(TaskError, match="images of 2 kinds do not make one array: uint8 of shape"):
        parimg.stack_ome_zarr(places, tmp_path / "all.ome.zarr")
    with pytest.raises(TaskError, match="there is no OME-Zarr to be stacked"):
        parimg.stack_ome_zarr([], tmp_path / "all.ome.zarr")


def test_what_is_no_ome_zarr_is_told(tmp_path: Path) -> None:
    zarr.create_group(str(tmp_path / "plain.zarr"))
    for place in (tmp_path / "plain.zarr", tmp_path / "no.zarr"):
        with pytest.raises(ImageError, match=r"is no OME-Zarr 0\.5"):
            parimg.shard_ome_zarr(place)


def test_a_store_needs_a_target(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="nothing is replaced in one go; give a target"):
        parimg.shard_ome_zarr("s3://bucket/a.ome.zarr")


def test_only_a_zarr_is_replaced(tmp_path: Path) -> None:
    place, _ = written(tmp_path, "a.png", (40, 40, 3))
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").touch()
    for do in (parimg.stack_ome_zarr, lambda places, target: parimg.shard_ome_zarr(places[0], target)):
        with pytest.raises(TaskError, match="is there already, and no Zarr that would be replaced"):
            do([place], photos)
    assert (photos / "a.png").exists()
    for _ in range(2):
        assert parimg.stack_ome_zarr([place], tmp_path / "all.ome.zarr") == str(tmp_path / "all.ome.zarr")
