"""TIFF files of several pages as arrays of three axes, and what else a task that wants stacks is given."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import tifffile
from numpy.testing import assert_array_equal

from parimg.errors import ImageFormatError, ImageTooLargeError, ImageTruncatedError
from parimg.images.decode import decode
from parimg.images.frames import watch_frames

pytestmark = pytest.mark.filterwarnings("ignore:only the first page of an image of several")

VOLUME = np.random.default_rng(0).integers(0, 4096, (5, 13, 17)).astype(np.uint16)
COLOR = np.random.default_rng(1).integers(0, 256, (13, 17, 3)).astype(np.uint8)


def tiff(array: npt.NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def png(array: npt.NDArray[Any]) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_all_pages_come_as_they_are_stored(dtype: Any, compression: str | None) -> None:
    stored = VOLUME.astype(dtype)
    stack = decode(tiff(stored, photometric="minisblack", compression=compression), "stack")
    assert stack.dtype == stored.dtype
    assert_array_equal(stack, stored)


def test_big_endian_and_imagej_stacks_come_in_native_order() -> None:
    for data in (
        tiff(VOLUME, byteorder=">"),
        tiff(VOLUME, imagej=True, metadata={"axes": "ZYX"}),
        tiff(VOLUME, bigtiff=True),
    ):
        stack = decode(data, "stack")
        assert stack.dtype == np.dtype(np.uint16)
        assert_array_equal(stack, VOLUME)


def test_pages_in_a_codec_that_tifffile_may_lack_are_decoded_by_opencv() -> None:
    file = io.BytesIO()
    pages = [PIL.Image.fromarray((page // 16).astype(np.uint8)) for page in VOLUME]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    assert_array_equal(decode(file.getvalue(), "stack"), VOLUME // 16)


def test_thumbnails_are_no_pages() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(VOLUME[0])
        writer.write(VOLUME[0, ::2, ::2], subfiletype=1)
    assert_array_equal(decode(file.getvalue(), "stack"), VOLUME[0])


def test_pages_of_different_sizes_are_no_stack() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(VOLUME[0])
        writer.write(VOLUME[0, :5])
    with pytest.raises(ImageFormatError, match="has 2 pages that are no stack of gray images of one size"):
        decode(file.getvalue(), "stack")


def test_colour_pages_are_no_stack() -> None:
    data = tiff(np.stack([COLOR, COLOR]), photometric="rgb")
    with pytest.raises(ImageFormatError, match=r"2 pages that are no stack .*uint8 of shape \(13, 17, 3\)"):
        decode(data, "stack")


def test_a_stack_is_as_large_as_all_its_pages() -> None:
    data = tiff(VOLUME)
    assert decode(data, "stack", max_pixels=VOLUME.size).shape == VOLUME.shape
    with pytest.raises(ImageTooLargeError, match=r"17 x 65 = 1105 pixels, above the limit of 1104"):
        decode(data, "stack", max_pixels=VOLUME.size - 1)


def test_a_cut_stack_is_told() -> None:
    data = tiff(VOLUME)
    for length in (len(data) // 3, len(data) - 20):
        with pytest.raises(ImageTruncatedError):
            decode(data[:length], "stack")


def test_single_images_of_gray_levels_come_as_they_are_stored() -> None:
    for data in (png(VOLUME[0]), tiff(VOLUME[0])):
        assert_array_equal(decode(data, "stack"), VOLUME[0])
    file = io.BytesIO()
    np.save(file, VOLUME)
    assert_array_equal(decode(file.getvalue(), "stack"), VOLUME)
    with pytest.raises(ImageTooLargeError):
        decode(file.getvalue(), "stack", max_pixels=VOLUME.size - 1)


def test_colour_images_become_gray() -> None:
    for data in (png(COLOR), tiff(COLOR), cv2.imencode(".jpg", COLOR)[1].tobytes()):
        gray = decode(data, "stack")
        assert gray.shape == (13, 17)
        assert_array_equal(gray, decode(data, "gray"))


def test_other_modes_take_the_first_page_and_say_so() -> None:
    with pytest.warns(UserWarning, match="only the first page"):
        assert_array_equal(decode(tiff(VOLUME, ome=True), "unchanged"), VOLUME[0])
    with watch_frames() as found:
        decode(tiff(VOLUME, ome=True, metadata={"axes": "ZYX"}), "gray")
    assert found == [5]


# -- what tags mean ------------------------------------------------------------------------------------------


GRAY = np.random.default_rng(2).integers(0, 256, (13, 17)).astype(np.uint8)
RGBA = np.random.default_rng(3).integers(0, 256, (13, 17, 4)).astype(np.uint8)
COMPRESSIONS = [None, "tiff_adobe_deflate", "tiff_lzw", "packbits"]
PHOTOMETRIC, ORIENTATION = 262, 274


def stored(array: npt.NDArray[Any], compression: str | None, **tags: int) -> bytes:
    """A TIFF file with these samples, in which tags have other values: `tag_262=0`."""
    file = io.BytesIO()
    image = PIL.Image.fromarray(array)
    image.save(file, "TIFF", tiffinfo={ORIENTATION: 1}, **({"compression": compression} if compression else {}))
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as parsed:
        for name, value in tags.items():
            struct.pack_into("<H", data, parsed.pages.first.tags[int(name[4:])].valueoffset, value)
    return bytes(data)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_levels_of_min_is_white_are_inverted_in_every_mode_and_compression(dtype: Any, compression: Any) -> None:
    levels = GRAY if dtype == np.uint8 else GRAY.astype(np.uint16) * 257
    white = np.iinfo(dtype).max
    data = stored(white - levels, compression, tag_262=0)
    assert_array_equal(decode(data, "unchanged"), levels)
    assert_array_equal(decode(data, "stack"), levels)
    assert_array_equal(decode(data, "gray"), GRAY)
    assert_array_equal(decode(data, "color"), np.dstack([GRAY] * 3))


@pytest.mark.parametrize("compression", [*COMPRESSIONS, "group3", "group4"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_one_bit_is_black_or_white(photometric: int, compression: str | None) -> None:
    is_set = GRAY > 128
    data = stored(is_set if photometric else ~is_set, compression, tag_262=photometric)
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert_array_equal(np.asarray(image), is_set)
    for mode in ("gray", "unchanged", "stack"):
        assert_array_equal(decode(data, mode), np.where(is_set, 255, 0))
        assert decode(data, mode).dtype == np.uint8


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("layout", [{}, {"truncate": True}])
def test_stacks_of_min_is_white_are_inverted(layout: dict[str, Any], compression: str | None) -> None:
    if layout and compression:
        pytest.skip("what is compressed has a directory for each page")
    data = tiff(65535 - VOLUME, photometric="miniswhite", compression=compression, **layout)
    assert_array_equal(decode(data, "stack"), VOLUME)


def test_pages_of_min_is_white_in_another_codec_are_inverted() -> None:
    file = io.BytesIO()
    pages = [PIL.Image.fromarray((255 - page // 16).astype(np.uint8)) for page in VOLUME]
    pages[0].save(
        file, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw", tiffinfo={PHOTOMETRIC: 0}
    )
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as parsed:
        assert [int(page.photometric) for page in parsed.pages] == [0] * 5
    # Pillow inverts what it writes so, and reads what it was given.
    assert_array_equal(decode(file.getvalue(), "stack"), 255 - VOLUME // 16)


def test_floats_of_min_is_white_have_no_white_and_stay() -> None:
    levels = GRAY.astype(np.float32) - 100
    assert_array_equal(decode(tiff(levels, photometric="miniswhite"), "unchanged"), levels)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_only_gray_and_colour_of_8_bit_are_turned(orientation: int, compression: str | None) -> None:
    turned = {2: GRAY[:, ::-1], 3: GRAY[::-1, ::-1], 6: np.rot90(GRAY, -1), 8: np.rot90(GRAY)}[orientation]
    data = stored(GRAY, compression, tag_274=orientation)
    assert_array_equal(decode(data, "unchanged"), GRAY)
    assert_array_equal(decode(data, "stack"), GRAY)
    assert_array_equal(decode(data, "gray"), turned)
    assert_array_equal(decode(data, "color"), np.dstack([turned] * 3))


def test_colour_images_of_a_job_over_stacks_are_not_turned_either() -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    for image_format in ("PNG", "JPEG", "TIFF"):
        file = io.BytesIO()
        PIL.Image.fromarray(COLOR).save(file, image_format, exif=exif)
        assert decode(file.getvalue(), "stack").shape == (13, 17)
        assert decode(file.getvalue(), "gray").shape == (17, 13)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_alpha_is_given_as_stored_and_multiplied_into_nothing(kind: int, compression: str | None) -> None:
    data = stored(RGBA, compression, tag_338=kind)
    assert_array_equal(decode(data, "unchanged"), RGBA)
    assert_array_equal(decode(data, "color"), RGBA[..., :3])
    assert_array_equal(decode(data, "gray"), decode(stored(RGBA[..., :3], compression), "gray"))


def test_alpha_of_16_bit_does_not_darken() -> None:
    levels = RGBA.astype(np.uint16) * 257
    data = tiff(levels, photometric="rgb", extrasamples=["unassalpha"])
    assert_array_equal(decode(data, "unchanged"), levels)
    assert np.abs(decode(data, "color").astype(int) - RGBA[..., :3]).max() <= 1


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_gray_with_alpha_is_two_channels_or_told(compression: str | None) -> None:
    data = stored(RGBA[..., :2], compression)
    assert_array_equal(decode(data, "gray"), RGBA[..., 0])
    if compression in (None, "tiff_adobe_deflate"):
        assert_array_equal(decode(data, "unchanged"), RGBA[..., :2])
    else:
        with pytest.raises(ImageFormatError, match=r"gray with alpha in compression (LZW|PACKBITS)"):
            decode(data, "unchanged")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_palettes_and_cmyk_become_red_green_blue(compression: str | None) -> None:
    options = {"compression": compression} if compression else {}
    for mode in ("P", "CMYK"):
        file = io.BytesIO()
        image = PIL.Image.fromarray(COLOR).convert(mode)
        image.save(file, "TIFF", **options)
        found = decode(file.getvalue(), "unchanged")
        assert found.shape == (13, 17, 3)
        assert_array_equal(found, decode(file.getvalue(), "color"))
        assert np.abs(found.astype(int) - np.asarray(image.convert("RGB"))).max() <= 1


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_levels_below_zero_are_black(dtype: Any) -> None:
    """Of `cv2.imread` -80 is 255."""
    half = dtype().itemsize * 8 - 8
    levels = np.array([[-80, -1, 0, 100]]).astype(dtype) << half
    data = tiff(levels)
    assert_array_equal(decode(data, "unchanged"), levels)
    assert_array_equal(decode(data, "gray"), [[0, 0, 0, 100]])
    assert_array_equal(decode(data, "color")[..., 1], [[0, 0, 0, 100]])


def in_bits(bits: int, levels: list[int], photometric: int) -> bytes:
    """A TIFF file of one row, written by hand: no writer here packs 2 to 14 bits."""
    packed = int("".join(f"{level:0{bits}b}" for level in levels), 2).to_bytes(bits * len(levels) // 8, "big")
    width = len(levels)
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(packed)}
    directory = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed
    return head + struct.pack("<H", len(tags)) + directory + bytes(4)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_levels_of_10_to_14_bits_fill_the_upper_bits_of_16(bits: int) -> None:
    half = 2 ** (bits - 1)
    levels = [0, 1, half, 2 * half - 1]
    expected = np.array([levels], np.uint16) << (16 - bits)
    for data in (in_bits(bits, levels, 1), in_bits(bits, [2 * half - 1 - level for level in levels], 0)):
        assert_array_equal(decode(data, "unchanged"), expected)
        assert_array_equal(decode(data, "stack"), expected)
        assert_array_equal(decode(data, "gray"), [[0, 0, 128, 255]])


def test_a_tag_may_be_a_long_integer() -> None:
    for mode in ("gray", "unchanged", "stack"):
        assert_array_equal(decode(in_bits(8, [255, 55, 0], 0), mode), [[0, 200, 255]])


@pytest.mark.parametrize("bits", [2, 4])
def test_levels_of_2_and_4_bits_are_told_with_the_way_out(bits: int) -> None:
    for mode in ("gray", "unchanged", "stack"):
        with pytest.raises(ImageFormatError, match=rf"in {bits} bits, .* save it plain or deflated, in 8 or 16"):
            decode(in_bits(bits, [0, 1, 2, 3], 1), mode)


def test_what_no_decoder_reads_is_not_called_damaged() -> None:
    data = bytearray(tiff(GRAY.astype(np.float16)))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        struct.pack_into("<H", data, file.pages.first.tags["Compression"].valueoffset, 32773)
    with pytest.raises(ImageFormatError, match=r"float16 .* compression PACKBITS, .* save it plain or deflated"):
        decode(bytes(data), "unchanged")
    with pytest.raises(ImageFormatError, match=r"uint16 .* SEPARATED, which OpenCV does not read"):
        decode(tiff(RGBA.astype(np.uint16), photometric="separated"), "unchanged")


# -- stacks in one piece, and axes -----------------------------------------------------------------------------


ONE_PIECE: list[dict[str, Any]] = [
    {"truncate": True},
    {"volumetric": True, "tile": (16, 16, 16)},
    {"volumetric": True, "tile": (16, 16, 16), "compression": "zlib"},
]


@pytest.mark.parametrize("options", ONE_PIECE)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_stack_behind_one_directory_is_read_whole(dtype: Any, options: dict[str, Any]) -> None:
    data = tiff(VOLUME.astype(dtype), photometric="minisblack", **options)
    assert_array_equal(decode(data, "stack"), tifffile.imread(io.BytesIO(data)))
    assert decode(data, "stack").shape == (5, 13, 17)
    with watch_frames() as found:
        assert_array_equal(decode(data, "unchanged"), VOLUME[0].astype(dtype))
    assert found == [5]


def imagej_in_one_piece(axes: str, array: npt.NDArray[Any]) -> bytes:
    """As ImageJ writes above 4 GB: one directory, the planes one behind the other."""
    data = bytearray(tiff(array, imagej=True, metadata={"axes": axes}))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        struct.pack_into("<I", data, file.pages.first.offset + 2 + 12 * len(file.pages.first.tags), 0)
    return bytes(data)


def test_a_contiguous_stack_of_imagej_is_read_whole() -> None:
    data = imagej_in_one_piece("ZYX", VOLUME)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert len(file.pages) == 1
    assert_array_equal(decode(data, "stack"), VOLUME)
    with watch_frames() as found:
        assert decode(data, "gray").shape == (13, 17)
    assert found == [5]


def test_a_cut_stack_behind_one_directory_is_truncated() -> None:
    data = tiff(VOLUME, truncate=True)
    with pytest.raises(ImageTruncatedError, match="truncated or damaged"):
        decode(data[:-100], "stack")


def test_a_stack_behind_one_directory_is_as_large_as_all_its_planes() -> None:
    with pytest.raises(ImageTooLargeError, match=r"17 x 65 = 1105 pixels"):
        decode(tiff(VOLUME, truncate=True), "stack", max_pixels=VOLUME.size - 1)


@pytest.mark.parametrize(
    ("axes", "problem"),
    [("CYX", "5 channels are no depth"), ("TYX", "5 times are no depth")],
)
@pytest.mark.parametrize("kind", ["imagej", "ome", "shaped", "one piece"])
def test_channels_and_times_are_no_depth(axes: str, problem: str, kind: str) -> None:
    if kind == "one piece":
        data = imagej_in_one_piece(axes, VOLUME)
    else:
        options: dict[str, Any] = {} if kind == "shaped" else {kind: True}
        data = tiff(VOLUME, photometric="minisblack", metadata={"axes": axes}, **options)
    with pytest.raises(ImageFormatError, match=problem):
        decode(data, "stack")


def test_more_axes_than_a_volume_has_are_told() -> None:
    data = tiff(np.stack([VOLUME, VOLUME]), ome=True, metadata={"axes": "CZYX"})
    with pytest.raises(ImageFormatError, match="has axes CZYX of 2 x 5 x 13 x 17; 2 channels are no depth"):
        decode(data, "stack")


def test_axes_of_length_one_do_not_matter() -> None:
    data = tiff(VOLUME[None, :, None], imagej=True, metadata={"axes": "TZCYX"})
    assert_array_equal(decode(data, "stack"), VOLUME)


def test_colour_planes_behind_one_directory_are_no_stack() -> None:
    data = tiff(np.stack([COLOR] * 3), photometric="rgb", truncate=True)
    with pytest.raises(ImageFormatError, match="has 3 pages that are no stack of gray images"):
        decode(data, "stack")
    with watch_frames() as found:
        assert_array_equal(decode(data, "unchanged"), COLOR)
    assert found == [3]


def test_palette_pages_are_no_stack() -> None:
    file = io.BytesIO()
    pages = [PIL.Image.fromarray(COLOR).convert("P")] * 2
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageFormatError, match="no stack of gray images"):
        decode(file.getvalue(), "stack")


TILED: dict[str, npt.NDArray[Any]] = {
    "16 bit": np.random.default_rng(0).integers(0, 65536, (37, 53)).astype(np.uint16),
    "8 bit": np.random.default_rng(0).integers(0, 256, (37, 53)).astype(np.uint8),
    "1 bit": np.random.default_rng(0).random((37, 53)) > 0.5,
    "16 bit RGB": np.random.default_rng(0).integers(0, 65536, (37, 53, 3)).astype(np.uint16),
    "8 bit RGBA": np.random.default_rng(0).integers(0, 256, (37, 53, 4)).astype(np.uint8),
    "8 bit gray with alpha": np.random.default_rng(0).integers(0, 256, (37, 53, 2)).astype(np.uint8),
}


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [(16, 16), (64, 64)])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("kind", TILED)
def test_tiles_give_what_strips_give(
    kind: str, photometric: str, tile: tuple[int, int], compression: str | None
) -> None:
    """OpenCV 5.0 gives noise for 16 bit tiles that reach beyond the image, and refuses small plain ones."""
    stored = TILED[kind]
    channels = stored.shape[2] if stored.ndim == 3 else 1
    options: dict[str, Any] = {
        "photometric": photometric if channels < 3 else "rgb",
        "planarconfig": "contig" if channels > 1 else None,
        "extrasamples": ["unassalpha"] if channels in {2, 4} else None,
        "extratags": [(274, 3, 1, 6, True)],
    }
    try:
        tiled = tiff(stored, tile=tile, compression=compression, **options)
    except NotImplementedError as error:
        pytest.skip(f"this tifffile does not write such files: {error}")
    for color in ("gray", "color", "unchanged", "stack"):
        assert_array_equal(decode(tiled, color), decode(tiff(stored, **options), color))


def test_gray_of_16_bit_tiles_is_the_upper_byte_also_in_codecs_of_opencv() -> None:
    stored = TILED["16 bit"]
    assert_array_equal(decode(tiff(stored, tile=(16, 16), compression="zlib")), stored >> 8)
    # LZW by hand: every byte a code of 9 bits, a clear code (256) before each hundred, the end (257) behind.
    tiles = [
        np.pad(stored, ((0, 11), (0, 11)))[y : y + 16, x : x + 16].tobytes()
        for y in range(0, 37, 16)
        for x in range(0, 53, 16)
    ]

    def lzw(data: bytes) -> bytes:
        codes = [code for i, byte in enumerate(data) for code in ((256, byte) if i % 100 == 0 else (byte,))]
        bits = "".join(f"{code:09b}" for code in [*codes, 257])
        return bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))

    plain = tiff(stored, tile=(16, 16), photometric="minisblack", metadata=None, byteorder="<")
    with tifffile.TiffFile(io.BytesIO(plain)) as file:
        tags = file.pages.first.tags
        places = [tags[name].valueoffset for name in ("Compression", "TileOffsets", "TileByteCounts")]
    parts = [lzw(tile) for tile in tiles]
    offsets = np.cumsum([len(plain), *map(len, parts[:-1])])
    data = bytearray(plain + b"".join(parts))
    struct.pack_into("<H", data, places[0], 5)
    struct.pack_into("<12I", data, places[1], *offsets)
    struct.pack_into("<12H", data, places[2], *map(len, parts))
    assert_array_equal(decode(bytes(data), "unchanged"), stored)
    assert_array_equal(decode(bytes(data), "gray"), stored >> 8)


def test_a_stack_of_bits_in_plain_tiles_is_read() -> None:
    bits = VOLUME % 2 == 1
    assert_array_equal(decode(tiff(bits, tile=(16, 16), photometric="minisblack"), "stack"), bits * np.uint8(255))


def test_several_directories_that_stand_for_several_planes_each_are_no_stack() -> None:
    """Each tells of its first plane: 2 of 8 would be read."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(VOLUME, photometric="minisblack", truncate=True)
        writer.write(VOLUME[:3], photometric="minisblack", truncate=True)
    with pytest.raises(ImageFormatError, match="2 directories, of which one stands for several planes"):
        decode(file.getvalue(), "stack")
