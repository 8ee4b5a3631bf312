"""Bytes to array: the values, the limits, and the error of everything that can be wrong with a file."""

from __future__ import annotations

import io
import resource
import struct
import threading
import zlib
from functools import cache, partial

import cv2
import numpy as np
import PIL.Image
import pytest
import skimage.data
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from parimg.errors import (
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    ImageTruncatedError,
)
from parimg.images.decode import decode, read_image
from parimg.options import DEFAULT_MAX_PIXELS

pytestmark = pytest.mark.filterwarnings("ignore:only the first page of an image of several")

COLOR = np.ascontiguousarray(skimage.data.astronaut()[::4, ::4])  # (128, 128, 3) uint8
GRAY = np.ascontiguousarray(skimage.data.camera()[::4, ::4])  # (128, 128) uint8


def with_pillow(array, image_format, **options):
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, image_format, **options)
    return file.getvalue()


def with_opencv(array, extension, *options):
    if array.ndim == 3:
        array = array[..., ::-1]
    return cv2.imencode(extension, array, options)[1].tobytes()


def with_tifffile(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def with_numpy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


WRITERS = {
    "png": partial(with_opencv, COLOR, ".png"),
    "png, 16 bit": partial(with_opencv, GRAY.astype(np.uint16) * 200, ".png"),
    "png, animated": partial(
        with_pillow, COLOR, "PNG", save_all=True, append_images=[PIL.Image.fromarray(COLOR[::-1])]
    ),
    "png, alpha": partial(with_pillow, np.dstack([COLOR, GRAY]), "PNG"),
    "png, 48 bit": partial(with_opencv, COLOR.astype(np.uint16) * 200, ".png"),
    "jpeg": partial(with_opencv, COLOR, ".jpg"),
    "jpeg, gray": partial(with_opencv, GRAY, ".jpg"),
    "jpeg, progressive": partial(with_opencv, COLOR, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "jpeg, restart markers": partial(with_opencv, COLOR, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "bmp": partial(with_opencv, COLOR, ".bmp"),
    "bmp, gray": partial(with_opencv, GRAY, ".bmp"),
    "webp, lossy": partial(with_pillow, COLOR, "WEBP"),
    "webp, lossless": partial(with_pillow, COLOR, "WEBP", lossless=True),
    "webp, extended": partial(with_pillow, np.dstack([COLOR, GRAY]), "WEBP"),
    "webp, animated": partial(
        with_pillow, COLOR, "WEBP", save_all=True, append_images=[PIL.Image.fromarray(COLOR[::-1])]
    ),
    "gif": partial(with_pillow, GRAY, "GIF"),
    "gif, animated": partial(
        with_pillow, COLOR, "GIF", save_all=True, append_images=[PIL.Image.fromarray(COLOR[::-1])]
    ),
    "tiff, lzw": partial(with_opencv, COLOR, ".tif"),
    "tiff, plain": partial(with_tifffile, COLOR),
    "tiff, tiled": partial(with_tifffile, COLOR, tile=(64, 64)),
    "tiff, deflated": partial(with_tifffile, COLOR, compression="zlib"),
    "tiff, jpeg": partial(with_pillow, COLOR, "TIFF", compression="jpeg"),
    "tiff, 64 bit offsets": partial(with_tifffile, GRAY, bigtiff=True),
    "tiff, big endian": partial(with_tifffile, GRAY.astype(np.uint16), byteorder=">"),
    "jpeg 2000": partial(with_opencv, COLOR, ".jp2"),
    "jpeg 2000, codestream": partial(with_pillow, COLOR, "JPEG2000", no_jp2=True),
    "avif": partial(with_pillow, COLOR, "AVIF"),
    "pbm": partial(with_opencv, GRAY, ".pbm"),
    "pgm": partial(with_opencv, GRAY, ".pgm"),
    "ppm": partial(with_opencv, COLOR, ".ppm"),
    "pam": partial(with_opencv, COLOR, ".pam"),
    "pfm": partial(with_opencv, GRAY.astype(np.float32), ".pfm"),
    "radiance hdr": partial(with_opencv, COLOR.astype(np.float32), ".hdr"),
    "sun raster": partial(with_opencv, COLOR, ".ras"),
}

TRUNCATED_AT = ("a tenth", "half", "nine tenths", "all but ten bytes", "all but the last byte")


@cache
def encoded(name):
    """One small image in one format; skips where this OpenCV or Pillow has no such format."""
    try:
        data = WRITERS[name]()
    except (cv2.error, KeyError, OSError) as error:
        pytest.skip(f"{name} cannot be written here: {error}")
    if cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) is None:
        pytest.skip(f"OpenCV {cv2.__version__} does not read {name}")
    return data


def cut(data, where):
    length = len(data)
    return data[
        : {
            "a tenth": length // 10,
            "half": length // 2,
            "nine tenths": length * 9 // 10,
            "all but ten bytes": length - 10,
            "all but the last byte": length - 1,
        }[where]
    ]


# -- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 16, 47])
def test_gray_of_a_png_is_bit_for_bit_what_imread_gives(data_folder, number):
    path = str(data_folder / "templeRing" / f"templeR{number:04}.png")
    image = read_image(path, "gray")
    assert image.shape == (480, 640)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, cv2.imread(path, cv2.IMREAD_GRAYSCALE))


@pytest.mark.parametrize("number", [1, 14, 28])
def test_gray_of_a_jpeg_is_bit_for_bit_what_imread_gives(data_folder, number):
    path = str(data_folder / "lund" / f"{number:02}.jpg")
    np.testing.assert_array_equal(read_image(path), cv2.imread(path, cv2.IMREAD_GRAYSCALE))


@pytest.mark.parametrize("number", [1, 14, 28])
def test_color_of_a_jpeg_is_what_imread_gives_with_red_first(data_folder, number):
    path = str(data_folder / "lund" / f"{number:02}.jpg")
    np.testing.assert_array_equal(read_image(path, "color"), cv2.imread(path, cv2.IMREAD_COLOR)[..., ::-1])


@pytest.mark.parametrize("name", WRITERS)
def test_gray_of_every_format_is_what_imread_gives(name, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(encoded(name))
    image = read_image(str(path))
    assert image.shape == (128, 128)
    assert image.flags.writeable
    expected = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if expected.ndim == 3:
        pytest.skip(f"OpenCV {cv2.__version__} does not make {name} gray")
    np.testing.assert_array_equal(image, expected)


def test_color_has_red_first():
    np.testing.assert_array_equal(decode(encoded("png"), "color"), COLOR)


def test_color_of_a_gray_image_has_three_channels():
    image = decode(encoded("bmp, gray"), "color")
    np.testing.assert_array_equal(image, np.dstack([GRAY] * 3))


def test_gray_and_color_are_turned_as_the_exif_orientation_says_and_unchanged_is_not():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    data = with_pillow(COLOR[:, :100], "PNG", exif=exif)
    np.testing.assert_array_equal(decode(data, "color"), np.rot90(COLOR[:, :100], -1))
    assert decode(data, "gray").shape == (100, 128)
    np.testing.assert_array_equal(decode(data, "unchanged"), COLOR[:, :100])


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_unchanged_gives_a_tiff_as_it_was_stored(dtype, channels, compression):
    rng = np.random.default_rng(0)
    stored = (rng.random((17, 23, channels)) * 100).astype(dtype)
    stored = stored[..., 0] if channels == 1 else stored
    data = with_tifffile(
        stored,
        compression=compression,
        photometric="rgb" if channels in (3, 4) else "minisblack",
        planarconfig=None if channels == 1 else "contig",
    )
    image = decode(data, "unchanged")
    assert image.dtype == stored.dtype
    np.testing.assert_array_equal(image, stored)


def test_unchanged_brings_separate_planes_of_a_tiff_together():
    planes = np.moveaxis(COLOR, -1, 0)
    data = with_tifffile(planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(decode(data, "unchanged"), COLOR)


def test_unchanged_gives_big_endian_files_in_native_order():
    image = decode(encoded("tiff, big endian"), "unchanged")
    assert image.dtype.isnative
    np.testing.assert_array_equal(image, GRAY)


@pytest.mark.parametrize("name", ["tiff, lzw", "tiff, plain", "tiff, tiled", "tiff, deflated"])
def test_unchanged_gives_the_same_pixels_however_a_tiff_is_stored(name):
    np.testing.assert_array_equal(decode(encoded(name), "unchanged"), COLOR)


def test_of_a_tiff_with_several_pages_the_first_is_taken():
    data = with_tifffile(np.stack([GRAY, GRAY[::-1]]), photometric="minisblack")
    np.testing.assert_array_equal(decode(data, "unchanged"), GRAY)
    np.testing.assert_array_equal(decode(data, "gray"), GRAY)


def test_unchanged_keeps_16_bits_of_a_png():
    np.testing.assert_array_equal(decode(encoded("png, 16 bit"), "unchanged"), GRAY.astype(np.uint16) * 200)


def test_unchanged_keeps_alpha_behind_red_green_blue():
    stored = np.dstack([COLOR, GRAY])
    np.testing.assert_array_equal(decode(with_pillow(stored, "PNG"), "unchanged"), stored)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<u2", "|u1", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_unchanged_gives_numpy_files(dtype, order):
    stored = np.asarray(COLOR.astype(dtype), order=order)
    image = decode(with_numpy(stored), "unchanged")
    np.testing.assert_array_equal(image, stored)
    assert image.dtype.isnative
    assert image.flags.c_contiguous
    assert image.flags.writeable


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (np.array([{}, {}], object), "object"),
        (np.zeros((3, 4), [("x", "f4")]), "x"),
        (np.zeros(5), r"\(5,\)"),
        (np.zeros((2, 3, 4, 5)), r"\(2, 3, 4, 5\)"),
    ],
)
def test_a_numpy_file_that_is_no_image_is_a_foreign_file(stored, problem):
    with pytest.raises(ImageFormatError, match=problem):
        decode(with_numpy(stored), "unchanged")


@pytest.mark.parametrize("color", ["gray", "color"])
def test_what_opencv_does_not_turn_into_8_bit_is_told_with_the_way_out(color):
    for data in (
        with_numpy(GRAY),
        with_tifffile(GRAY.astype(np.float32)),
        with_tifffile(GRAY.astype(np.float16)),
    ):
        with pytest.raises(ImageFormatError, match="use color='unchanged'"):
            decode(data, color, name="a.tif")


def test_an_unknown_colour_mode_is_told_with_those_there_are():
    with pytest.raises(ValueError, match=r"'gray', 'color', 'unchanged', 'stack' .got 'grey'."):
        decode(encoded("png"), "grey")


# -- limits --------------------------------------------------------------------------------------------------


def png_that_claims(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def patched(name, position, layout, *values):
    data = bytearray(encoded(name))
    struct.pack_into(layout, data, position, *values)
    return bytes(data)


def tiff_that_claims(side):
    stored = encoded("tiff, plain")
    with tifffile.TiffFile(io.BytesIO(stored)) as file:
        offsets = [file.pages[0].tags[tag].valueoffset for tag in ("ImageWidth", "ImageLength")]
    data = bytearray(stored)
    for offset in offsets:
        struct.pack_into("<H", data, offset, side)
    return bytes(data)


BOMBS = {
    "png": lambda: png_that_claims(60000, 60000),
    "png, a line": lambda: png_that_claims(2**31 - 1, 2),
    "jpeg": lambda: patched("jpeg", encoded("jpeg").index(b"\xff\xc0") + 5, ">HH", 60000, 60000),
    "jpeg, progressive": lambda: patched(
        "jpeg, progressive", encoded("jpeg, progressive").index(b"\xff\xc2") + 5, ">HH", 60000, 60000
    ),
    "tiff": lambda: tiff_that_claims(60000),
    "bmp": lambda: patched("bmp", 18, "<ii", 60000, -60000),
    "gif": lambda: patched("gif", 6, "<HH", 60000, 60000),
    "webp, extended": lambda: patched("webp, extended", 24, "<HBHB", 0x3FFF, 1, 0x3FFF, 1),
    "jpeg 2000": lambda: patched("jpeg 2000", encoded("jpeg 2000").index(b"ihdr") + 4, ">II", 60000, 60000),
    "jpeg 2000, codestream": lambda: patched("jpeg 2000, codestream", 8, ">II", 60000, 60000),
    "pgm": lambda: b"P5\n# a comment\n60000 60000\n255\n" + bytes(1000),
    "pfm": lambda: b"Pf\n60000 60000\n-1.0\n" + bytes(1000),
    "pam": lambda: b"P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 1\nMAXVAL 255\nENDHDR\n" + bytes(1000),
    "radiance hdr": lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n" + bytes(1000),
    "sun raster": lambda: patched("sun raster", 4, ">II", 60000, 60000),
    "npy": lambda: with_numpy(np.zeros((128, 128), np.uint8)).replace(b"(128, 128), }    ", b"(60000, 60000), }"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_claims_to_be_huge_is_refused_before_memory_is_taken(name):
    data = BOMBS[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageTooLargeError, match=r"= \d+ pixels, above the limit of 268435456") as raised:
        decode(data, "unchanged", name="bomb.png")
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert taken < 50e6
    assert "'bomb.png'" in str(raised.value)


@pytest.mark.parametrize("name", WRITERS)
def test_the_limit_is_the_largest_number_of_pixels_that_passes(name):
    data = encoded(name)
    assert decode(data, max_pixels=128 * 128).shape == (128, 128)
    with pytest.raises(ImageTooLargeError, match="128 x 128 = 16384 pixels, above the limit of 16383"):
        decode(data, max_pixels=128 * 128 - 1)


def test_the_limit_can_be_raised_up_to_that_of_opencv():
    with pytest.raises(ImageTooLargeError, match="OPENCV_IO_MAX_IMAGE_PIXELS"):
        decode(png_that_claims(60000, 60000), max_pixels=2**40)


def test_hundreds_of_bands_count_as_more_pixels():
    """Forty bands are ten times the four that a colour image may have."""
    data = with_tifffile(
        np.zeros((64, 64, 40), np.uint8), compression="zlib", photometric="minisblack", planarconfig="contig"
    )
    assert decode(data, "unchanged", max_pixels=64 * 640).shape == (64, 64, 40)
    with pytest.raises(ImageTooLargeError, match="64 x 640"):
        decode(data, "unchanged", max_pixels=64 * 640 - 1)


def test_a_tile_that_is_much_larger_than_its_image_is_damage():
    data = bytearray(encoded("tiff, tiled"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        offset = file.pages[0].tags["TileWidth"].valueoffset
    struct.pack_into("<H", data, offset, 60000 // 16 * 16)
    with pytest.raises(ImageTruncatedError, match="its tiles of 60000 x 64 are much larger than the image"):
        decode(bytes(data))


def test_the_default_limit_is_the_published_one():
    assert DEFAULT_MAX_PIXELS == 2**28


def test_a_limit_below_one_pixel_is_refused():
    with pytest.raises(ValueError, match=r"max_pixels must be at least 1 .got 0."):
        decode(encoded("png"), max_pixels=0)


def test_pillows_own_limit_neither_warns_nor_is_changed(recwarn):
    before = PIL.Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError):
        # Above Pillow's limit, below ours: OpenCV then misses the pixels.
        decode(png_that_claims(15000, 15000))
    with pytest.raises(ImageError):
        decode(patched("jpeg 2000", encoded("jpeg 2000").index(b"ihdr") + 4, ">II", 15000, 15000))
    assert before == PIL.Image.MAX_IMAGE_PIXELS
    assert not recwarn.list


# -- damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", TRUNCATED_AT)
@pytest.mark.parametrize("name", WRITERS)
def test_a_cut_file_of_every_format_is_truncated(name, where):
    for color in ("gray", "color", "unchanged", "stack"):
        with pytest.raises(ImageTruncatedError, match=r"'cut.image' .* is truncated or damaged"):
            decode(cut(encoded(name), where), color, name="cut.image")


@pytest.mark.parametrize("length", [1, 2, 4, 8, 10, 12, 16, 20, 24, 33])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_cut_within_its_header_is_no_image(name, length):
    with pytest.raises((ImageTruncatedError, ImageFormatError)):
        decode(encoded(name)[:length])


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["png", "png, animated", "jpeg", "jpeg, progressive", "webp, lossy"]), st.data())
def test_cut_anywhere_a_file_is_no_image(name, chooser):
    data = encoded(name)
    length = chooser.draw(st.integers(1, len(data) - 1))
    with pytest.raises((ImageTruncatedError, ImageFormatError)):
        decode(data[:length])


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from([*WRITERS, "npy"]),
    st.sampled_from(["gray", "color", "unchanged", "stack"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_damaged_anywhere_a_file_gives_an_array_or_an_image_error(name, color, changes):
    data = bytearray(with_numpy(GRAY) if name == "npy" else encoded(name))
    for place, value in changes:
        # Squared, since headers are short and the most fragile.
        data[int(place**2 * len(data))] = value
    try:
        image = decode(bytes(data), color, max_pixels=2**20)
    except ImageError:
        return
    assert image.shape[0] * image.shape[1] <= 2**20


@settings(deadline=None)
@given(st.integers(41, 10**9), st.integers(0, 7))
def test_a_flipped_bit_in_the_pixels_of_a_png_is_found(position, bit):
    data = bytearray(encoded("png"))
    data[41 + position % (len(data) - 41 - 16)] ^= 1 << bit
    with pytest.raises(
        ImageTruncatedError, match=r"truncated or damaged: (the chunk|the checksum|there is no IEND)"
    ):
        decode(bytes(data))


def test_neither_a_cut_nor_a_damaged_png_prints_anything(capfd):
    whole = encoded("png")
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    for data in (whole[:-1], whole[: len(whole) // 2], bytes(damaged)):
        with pytest.raises(ImageTruncatedError):
            decode(data)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [name for name in WRITERS if not name.startswith("jpeg 2000")])
def test_a_cut_file_prints_nothing(name, capfd):
    data = encoded(name)
    capfd.readouterr()
    with pytest.raises(ImageTruncatedError):
        decode(cut(data, "half"))
    assert capfd.readouterr() == ("", "")


def with_thumbnail(data, thumbnail):
    """A JPEG file with another in its EXIF segment, as cameras write it."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + thumbnail
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def test_the_end_of_a_thumbnail_is_not_taken_for_the_end_of_a_jpeg():
    thumbnail = with_opencv(GRAY[:16, :16], ".jpg")
    data = with_thumbnail(encoded("jpeg"), thumbnail)
    np.testing.assert_array_equal(decode(data), decode(encoded("jpeg")))
    end_of_thumbnail = data.index(thumbnail) + len(thumbnail)
    assert data[:end_of_thumbnail].endswith(b"\xff\xd9")
    for length in (end_of_thumbnail, end_of_thumbnail + 500, len(data) // 2):
        with pytest.raises(ImageTruncatedError, match="JPEG"):
            decode(data[:length])


@pytest.mark.parametrize("padding", [b"\0", b"\0" * 4096, b"\xff" * 7, b"\n", b"some maker's own data"])
@pytest.mark.parametrize("name", ["jpeg", "jpeg, progressive", "png", "webp, lossy", "tiff, plain"])
def test_bytes_after_the_end_do_not_matter(name, padding):
    np.testing.assert_array_equal(decode(encoded(name) + padding), decode(encoded(name)))


def test_a_jpeg_whose_second_half_was_never_written_is_truncated():
    """A copy that broke off leaves a file of full length that ends in zeros."""
    data = encoded("jpeg")
    with pytest.raises(ImageTruncatedError, match="no end-of-image marker"):
        decode(data[: len(data) // 2] + bytes(len(data) // 2))


def test_two_jpegs_run_into_each_other_are_damaged():
    data = encoded("jpeg")
    with pytest.raises(ImageTruncatedError, match=rf"another image begins within it, at byte {len(data) // 2}"):
        decode(data[: len(data) // 2] + data)


@pytest.mark.parametrize("kept", [40, 127, 128, 1000])
def test_a_cut_numpy_file_is_truncated(kept):
    with pytest.raises(ImageTruncatedError, match="NumPy array"):
        decode(with_numpy(GRAY)[:kept], "unchanged")


def test_a_deflated_tiff_with_flipped_bits_is_damaged_where_tifffile_reads_it():
    data = bytearray(encoded("tiff, deflated"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        data[file.pages[0].dataoffsets[0] + 1000] ^= 0xFF
    with pytest.raises(ImageTruncatedError, match="truncated or damaged: tifffile could not decode it"):
        decode(bytes(data), "unchanged")


@pytest.mark.parametrize(
    "data",
    [b"<!DOCTYPE html><html>404</html>", b"%PDF-1.7 ...", bytes(100), b"GIF", b"\x89PN", b"text\n" * 50],
)
def test_what_is_no_image_is_told_with_its_first_bytes(data):
    with pytest.raises(ImageFormatError) as raised:
        decode(data, name="page.png")
    assert str(raised.value) == (
        f"'page.png' is no image that can be read: its {len(data)} bytes begin with {data[:16]!r}"
    )


def test_no_bytes_are_an_empty_file():
    with pytest.raises(ImageEmptyError, match="the image has 0 bytes"):
        decode(b"")


def test_opencvs_log_level_is_what_it_was_after_many_threads_met_damage():
    get_level = getattr(cv2, "getLogLevel", None) or cv2.utils.logging.getLogLevel
    data = cut(encoded("bmp"), "half")
    errors = []

    def decode_often():
        for _ in range(50):
            try:
                decode(data)
            except ImageTruncatedError as error:
                errors.append(error)

    before = get_level()
    threads = [threading.Thread(target=decode_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get_level() == before
    assert len(errors) == 200
