"""What tasks are given: channels, slices, projections, levels, orientation; and what files tell besides."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import format_files as files
import numpy as np
import pytest
import tifffile
from PIL import Image

from parimg.errors import ImageFormatError, ImageTooLargeError
from parimg.images.decode import decode, read_image
from parimg.images.described import read_described
from parimg.images.presenting import as_levels
from parimg.options import Reading


@pytest.fixture
def cells(tmp_path: Path) -> str:
    """Two slices of three channels, z, c, y, x, uint16."""
    return files.ome_tiff(tmp_path / "cells.ome.tif")


@pytest.mark.parametrize("channel", [1, "GFP"])
def test_a_channel_is_chosen_by_number_or_name(cells, channel):
    found = read_described(cells, "stack", reading=Reading(channel=channel))
    np.testing.assert_array_equal(found.pixels, files.VOLUME[:, 1])
    assert (found.pixel_size, found.unit) == ({"Y": 0.5, "X": 0.5}, "µm")


def test_a_slice_or_the_brightest_and_darkest_of_all_are_chosen(cells):
    for reading, wanted in (
        (Reading(channel=2, z=1), files.VOLUME[1, 2]),
        (Reading(channel=2, project="max"), files.VOLUME[:, 2].max(0)),
        (Reading(channel=2, project="min"), files.VOLUME[:, 2].min(0)),
    ):
        np.testing.assert_array_equal(read_image(cells, "unchanged", reading=reading), wanted)


def test_channels_that_are_not_chosen_come_last_where_images_are_as_stored(cells):
    found = read_image(f"{cells}#z=1", "unchanged")
    np.testing.assert_array_equal(found, np.moveaxis(files.VOLUME[1], 0, -1))


@pytest.mark.parametrize(
    ("reading", "color", "message"),
    [
        (Reading(), "gray", "is a volume of 2 slices; take one by z=0, or all by project='max'"),
        (Reading(z=0), "gray", "has 3 channels, which are no colours; choose one by channel=0"),
        (Reading(channel=0), "gray", "is a volume of 2 slices"),
        (
            Reading(channel=0, z=0),
            "gray",
            r"holds uint16, which is not made 8 bit unasked; percentile=\(1, 99.8\)",
        ),
        (Reading(), "stack", "has 3 channels"),
        (Reading(channel=3), "stack", "is asked for channel=3, but has 3 of them, 0 to 2"),
        (Reading(channel="CFP"), "stack", "has no channel 'CFP'; those that it names are 'DAPI', 'GFP', 'RFP'"),
        (Reading(z=2), "unchanged", "is asked for z=2, but has 2 of them, 0 to 1"),
    ],
)
def test_what_a_mode_cannot_be_made_of_is_refused_with_the_option_that_would(tmp_path, reading, color, message):
    path = files.ome_zarr(tmp_path / "a.zarr")
    with pytest.raises(ImageFormatError, match=message):
        read_image(path, color, reading=reading)


def test_options_without_anything_to_choose_from_do_no_harm(tmp_path):
    path = str(tmp_path / "a.png")
    gray = files.COLORS[..., 0]
    cv2.imwrite(path, gray)
    reading = Reading(channel=0, z=0, project=None)
    np.testing.assert_array_equal(read_image(path, "gray", reading=reading), gray)
    np.testing.assert_array_equal(read_image(path, "gray", reading=Reading(project="max")), gray)
    with pytest.raises(ImageFormatError, match="is asked for z=1, but its axes are YX"):
        read_image(path, "gray", reading=Reading(z=1))


def test_the_channels_of_a_picture_are_its_colours(tmp_path):
    path = str(tmp_path / "a.png")
    Image.fromarray(files.COLORS).save(path)
    np.testing.assert_array_equal(
        read_image(path, "gray", reading=Reading(channel=2, percentile=None)), files.COLORS[..., 2]
    )


# -- levels ----------------------------------------------------------------------------------------------------


def test_percentiles_make_8_bit_of_what_is_between_them():
    levels = np.arange(1001, dtype=np.uint16)[None] * 50
    found = as_levels(levels, (10, 90))
    assert found.dtype == np.uint8
    # 100 is 0, 900 is 255, 500 halfway: 127.5, rounded to even.
    assert found[0, [0, 100, 500, 900, 1000]].tolist() == [0, 0, 128, 255, 255]


def test_levels_without_a_range_and_with_nan_are_still_levels():
    assert as_levels(np.full((2, 2), 7.0), (0, 100)).tolist() == [[0, 0], [0, 0]]
    assert as_levels(np.array([[0, 0, 0, 9]]), (0, 50)).tolist() == [[0, 0, 0, 255]]
    assert as_levels(np.array([[np.nan, 1, 3, np.inf]]), (0, 100)).tolist() == [[0, 0, 255, 255]]
    assert as_levels(np.full((1, 2), np.nan), (1, 99)).tolist() == [[0, 0]]


def test_16_bit_png_is_its_upper_byte_as_ever_and_by_percentiles_where_asked(tmp_path):
    path = str(tmp_path / "a.png")
    levels = (np.arange(12, dtype=np.uint16) * 100).reshape(3, 4)
    cv2.imwrite(path, levels)
    np.testing.assert_array_equal(read_image(path, "gray"), cv2.imread(path, cv2.IMREAD_GRAYSCALE))
    found = read_image(path, "gray", reading=Reading(percentile=(0, 100)))
    np.testing.assert_array_equal(found, np.rint(levels * (255 / 1100)).astype(np.uint8))


def test_gray_of_colours_in_parts_is_opencvs(tmp_path):
    path = files.video(tmp_path / "m.mkv", 3)
    frame = read_image(f"{path}#frame=1", "color")
    wanted = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(read_image(f"{path}#frame=1", "gray"), wanted)


def test_the_limit_of_pixels_is_that_of_what_is_read(cells):
    read_image(cells, "stack", max_pixels=2 * 50 * 70, reading=Reading(channel=0))
    with pytest.raises(
        ImageTooLargeError, match=r"has 2 x 50 x 70 = 7000 pixels \(ZYX\), above the limit of 6999"
    ):
        read_image(cells, "stack", max_pixels=6999, reading=Reading(channel=0))
    read_image(cells, "unchanged", max_pixels=50 * 70, reading=Reading(channel=0, project="max"))


# -- which way is up -------------------------------------------------------------------------------------------


def turned_files(folder: Path) -> dict[str, str]:
    """The same picture, to be turned to the right, in every format that says so."""
    picture = Image.fromarray(cv2.resize(files.gradient(90), (64, 48)))
    exif = picture.getexif()
    exif[274] = 6
    paths = {}
    for ending in ("jpg", "png", "webp", "avif"):
        paths[ending] = str(folder / f"a.{ending}")
        picture.save(paths[ending], exif=exif.tobytes(), **({"lossless": True} if ending == "webp" else {}))
    paths["tif"] = str(folder / "a.tif")
    tifffile.imwrite(paths["tif"], np.asarray(picture), photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    paths["heic"] = files.heif(folder / "a.heic", 6)
    return paths


def test_every_decoder_turns_gray_and_colour_and_nothing_else_unless_asked(tmp_path):
    for ending, path in turned_files(tmp_path).items():
        for color in ("gray", "color", "unchanged", "stack"):
            shapes = [
                read_image(path, color, reading=Reading(orientation=orientation)).shape[:2]
                for orientation in (None, "stored", "upright")
            ]
            default = (64, 48) if color in {"gray", "color"} else (48, 64)
            assert shapes == [default, (48, 64), (64, 48)], (ending, color)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_as_pillow_turns_it_whatever_the_way(tmp_path, orientation):
    from PIL import ImageOps

    picture = Image.fromarray(files.COLORS)
    exif = picture.getexif()
    exif[274] = orientation
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif.tobytes())
    data = buffer.getvalue()
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode(data, "color"), wanted)
    np.testing.assert_array_equal(decode(data, "unchanged", orientation="upright"), wanted)
    np.testing.assert_array_equal(decode(data, "color", orientation="stored"), files.COLORS)
    part = str(tmp_path / "a.tif")
    tifffile.imwrite(part, files.COLORS, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    np.testing.assert_array_equal(read_image(f"{part}#series=0", "color"), wanted)


# -- what files tell -------------------------------------------------------------------------------------------


def test_metadata_is_what_was_asked_for_and_none_where_a_file_does_not_tell(tmp_path):
    picture = Image.fromarray(files.COLORS)
    exif = picture.getexif()
    exif[306], exif[272] = "2024:05:17 12:30:01", "Some camera"
    path = str(tmp_path / "a.jpg")
    picture.save(path, exif=exif.tobytes())
    reading = Reading(metadata=("acquisition_time", "Model", "KVP"))
    assert read_described(path, "gray", reading=reading).metadata == {
        "acquisition_time": "2024-05-17T12:30:01",
        "Model": "Some camera",
        "KVP": None,
    }
    assert read_described(path, "gray").metadata == {}


def test_the_pixel_size_of_a_whole_tiff_is_read_only_where_it_is_wanted(tmp_path):
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, files.VOLUME[0, 0], imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    assert read_described(path, "stack").pixel_size == {}
    found = read_described(path, "stack", wants_pixel_size=True)
    assert found.pixel_size == {"Y": 0.5, "X": 0.5}
    np.testing.assert_array_equal(found.pixels, read_image(path, "stack"))
