"""Tables as files, in each format."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zarr
from command_line import parimg

from parimg.cli.exporting import to_json
from parimg.images.decode import read_image
from parimg.options import Reading

VALUES = "def values(image):\n    return {'side': image.shape[0], 'ratio': float('nan'), 'name': 'caf\\u00e9'}\n"


@pytest.fixture
def job(on_cluster: None, photos: Path) -> str:
    Path("mine.py").write_text(VALUES)
    return parimg("run", "mine.py:values", photos, "-q").out.strip()


def test_a_job_is_exported_in_every_format(job: str) -> None:
    name = os.path.basename(job)
    for kind in ("csv", "parquet", "json", "arrow"):
        ended = parimg("export", name, "--to", kind)
        assert (ended.code, ended.out) == (0, f"table: {name}.{kind}\n"), ended.err
    with open(f"{name}.json", encoding="utf-8") as file:
        rows = json.load(file)
    assert [row["side"] for row in rows] == [96, 96, 96, None]
    assert rows[0]["ratio"] is None
    assert rows[0]["name"] == "café"
    with pa.ipc.open_file(f"{name}.arrow") as reader:
        arrow = reader.read_all()
    assert arrow.column_names == list(rows[0]) == list(pd.read_parquet(f"{name}.parquet").columns)
    assert arrow["key"].to_pylist() == list(pd.read_csv(f"{name}.csv")["key"]) == [row["key"] for row in rows]


def test_the_ending_tells_the_format_in_either_case_unless_it_is_given(job: str) -> None:
    assert parimg("export", job, "-o", "T.PARQUET").code == 0
    assert len(pd.read_parquet("T.PARQUET")) == 4
    assert parimg("export", job, "-o", "t.dat", "--to", "csv").code == 0
    assert len(pd.read_csv("t.dat")) == 4
    assert parimg("export", job).out == f"table: {os.path.basename(job)}.csv\n"
    assert "must end in" in parimg("export", job, "-o", "t.dat").message
    missing = parimg("export", job, "--table", "branches")
    assert missing.code == 2
    assert "no record of this job has a table 'branches'" in missing.err


@pytest.mark.usefixtures("on_cluster", "photos")
def test_nested_tables_are_exported_in_every_format() -> None:
    job = parimg("skeleton", "photos", "-q").out.strip()
    for kind in ("csv", "json", "arrow"):
        assert parimg("export", job, "--table", "branch_table", "--to", kind, "-o", f"b.{kind}").code == 0
    rows = json.loads(Path("b.json").read_text())
    with pa.ipc.open_file("b.arrow") as reader:
        assert reader.read_all().num_rows == len(rows) == len(pd.read_csv("b.csv")) > 10
    assert rows[0]["key"] == "photos/00.png"


def test_json_has_null_for_what_is_no_number() -> None:
    assert to_json({"a": [float("inf"), {"b": float("nan")}], "c": 1.5}) == '{"a": [null, {"b": null}], "c": 1.5}'


@pytest.mark.usefixtures("on_cluster")
@pytest.mark.parametrize("image_format", ["png", "ome-zarr", "ome-tiff"])
def test_the_images_of_a_job_become_one_array(image_format: str, photos: Path) -> None:
    job = parimg("convolve", photos, "-k", "identity", "-o", "out", "--format", image_format, "-q").out.strip()
    ended = parimg("export", job, "--to", "ome-zarr")
    name = f"{os.path.basename(job)}.ome.zarr"
    assert (ended.code, ended.out) == (0, f"images: {name}\n"), ended.err
    group = zarr.open_group(name, mode="r")
    expected = np.stack([cv2.imread(str(photos / f"{n:02d}.png"))[..., ::-1] for n in range(3)])
    np.testing.assert_array_equal(group["0"][:], expected.transpose(0, 3, 1, 2))
    assert group.attrs["parimg"] == {"images": [f"photos/{n:02d}.png" for n in range(3)]}  # damaged.png failed
    assert [axis["name"] for axis in group.attrs["ome"]["multiscales"][0]["axes"]] == ["t", "c", "y", "x"]
    # As this package reads it.
    found = read_image(f"{name}#?t=1", "unchanged", reading=Reading(channel=2))
    np.testing.assert_array_equal(found, expected[1, ..., 2])


@pytest.mark.usefixtures("on_cluster")
def test_what_cannot_become_one_array_is_told(job: str, photos: Path) -> None:
    assert "hold no images: values wrote none" in parimg("export", job, "-o", "a.zarr").message
    assert parimg("export", job, "-o", "a.zarr").code == 2
    assert "must end in .zarr" in parimg("export", job, "--to", "ome-zarr", "-o", "photos").message
    assert "there is no folder" in parimg("export", job, "-o", "no/a.zarr").message
    Path("there.zarr").mkdir()
    other = parimg("convolve", photos, "-k", "identity", "-o", "out", "-q").out.strip()
    assert "no Zarr that would be replaced" in parimg("export", other, "-o", "there.zarr").message
    cv2.imwrite(str(photos / "03.png"), np.zeros((9, 9, 3), np.uint8))
    third = parimg("convolve", photos, "-k", "identity", "-o", "more", "-q").out.strip()
    told = parimg("export", third, "-o", "b.zarr")
    assert told.code == 2
    assert "'photos/00.png' is uint8 of 3 x 96 x 128, 'photos/03.png' is uint8 of 3 x 9 x 9" in told.message
    assert not [path for path in Path().iterdir() if path.name.startswith("b.zarr")]
