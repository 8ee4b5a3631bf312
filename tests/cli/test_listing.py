"""``parimg list``: what files hold, told before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import format_files as files
import pytest
from command_line import parimg


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(out: str) -> list[list[str]]:
    """The cells of a table, line by line."""
    lines = (line.strip("│ \n") for line in out.splitlines() if line.startswith("│"))
    return [[cell.strip() for cell in line.split("│")] for line in lines]


def test_parts_are_told_as_jobs_take_them_with_axes_and_sizes(here):
    files.ome_zarr(here / "a.zarr")
    files.hdf5(here / "r.h5")
    ended = parimg("list", "a.zarr", "r.h5")
    assert ended.code == 0
    assert rows(ended.out) == [
        ["a.zarr", "ZCYX", "2 x 3 x 50 x 70", "uint16", "2 x 0.5 x 0.5 µm"],
        ["r.h5#/entry/data/images?i=0", "YX", "50 x 70", "uint16"],
        ["r.h5#/entry/data/images?i=1", "YX", "50 x 70", "uint16"],
        ["r.h5#/entry/tiled", "YX", "50 x 70", "uint16"],
    ]
    assert ended.out.endswith("4 images\n")


def test_many_frames_are_told_in_short_unless_all_are_wanted(here):
    files.video(here / "m.mp4")
    shown = [row[0] for row in rows(parimg("list", "m.mp4").out)]
    assert shown == [*(f"m.mp4#frame={n}" for n in range(3)), "... 36 more", "m.mp4#frame=39"]
    assert len(rows(parimg("list", "m.mp4", "--all").out)) == 40


def test_a_folder_is_listed_and_what_cannot_be_read_is_told_with_an_exit_code(here):
    (here / "data").mkdir()
    cv2.imwrite("data/a.png", files.COLORS)
    (here / "data" / "b.h5").write_bytes(b"\x89HDF\r\n cut")
    ended = parimg("list", "data")
    assert ended.code == 3
    assert [row[0] for row in rows(ended.out)] == ["data/a.png"]
    assert "b.h5: ImageTruncatedError" in ended.message


def test_metadata_is_told_on_request(here):
    files.dicom(here / "s.dcm")
    assert ["KVP", "120.0"] in rows(parimg("list", "s.dcm", "--metadata").out)


def test_a_typo_is_told_with_what_there_is(here):
    files.hdf5(here / "r.h5")
    ended = parimg("list", "r.h5#/entry/dat")
    assert ended.code == 2
    assert "has no data set '/entry/dat'; its images are /entry/data/images, /entry/tiled" in ended.message
    assert parimg("list", "no.h5").code == 2


def test_options_of_reading_are_checked_before_a_cluster_starts(here):
    files.ome_zarr(here / "a.zarr")
    for options, message in (
        (("--percentile", "99,1"), "percentile must be two numbers from 0 to 100, the lower first"),
        (("--percentile", "1"), "percentile must be two numbers"),
        (("--z", "1", "--project", "max"), "give one"),
        (("--metadata", "tips"), "metadata='tips' would be a column that SkeletonGraph fills itself"),
    ):
        ended = parimg("skeleton", "a.zarr", *options)
        assert ended.code == 2, options
        assert message in ended.message, options


def test_scripts_get_json_of_every_part_and_of_what_cannot_be_read(here):
    files.ome_zarr(here / "a.zarr")
    files.video(here / "m.mp4")
    (here / "b.png").write_bytes(b"no image")
    ended = parimg("list", "a.zarr", "b.png", "m.mp4", "--json")
    assert ended.code == 3
    zarr, damaged, *frames = json.loads(ended.out)
    assert (zarr["element"], zarr["axes"], zarr["shape"]) == ("a.zarr", "ZCYX", [2, 3, 50, 70])
    assert (zarr["dtype"], zarr["pixel_size"], zarr["unit"]) == ("uint16", {"Z": 2.0, "Y": 0.5, "X": 0.5}, "µm")
    assert damaged["element"].endswith("b.png")
    assert damaged["error"].startswith("ImageFormatError: ")
    assert "b.png' is no image that can be read: its 8 bytes begin with" in damaged["error"]
    assert [frame["element"] for frame in frames] == [f"m.mp4#frame={n}" for n in range(40)]
    assert frames[0]["metadata"]["codec"]
    Path("empty").mkdir()
    assert parimg("list", "empty", "--json").code == 2


def test_a_damaged_file_is_told_by_its_format_and_nothing_else_is_printed(here, capfd):
    (here / "b.png").write_bytes(b"no image")
    (here / "c.txt2").write_bytes(b"no image")
    ended = parimg("list", "b.png", "c.txt2")
    first, second = ended.err.splitlines()
    assert first.startswith("b.png: ImageFormatError: ")
    assert "b.png' is no image that can be read: its 8 bytes begin with" in first
    assert second.startswith("c.txt2: ImageFormatError: ")
    assert "Attempted" not in capfd.readouterr().err
