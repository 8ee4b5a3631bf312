"""Each format: what is read is what the format's own library reads from the same file."""

from __future__ import annotations

import warnings
from pathlib import Path

import av
import bioio
import format_files as files
import h5py
import nibabel
import numpy as np
import pillow_heif
import pydicom
import pytest
import rawpy
import tifffile
import zarr
from astropy.io import fits
from PIL import Image

from parimg.errors import ImageError, ImageFormatError, ImagePartError
from parimg.images.described import read_described
from parimg.images.readers import open_file, open_part
from parimg.images.readers.opened import close_files
from parimg.options import Reading


@pytest.fixture(autouse=True)
def _no_file_stays_open():
    yield
    close_files()


def read(uri: str) -> np.ndarray:
    with open_part(uri) as part:
        return part.read()


def addresses(path: str) -> list[str]:
    with open_file(path) as file:
        return [str(address) for address in file.addresses()]


# -- microscopes -----------------------------------------------------------------------------------------------


def test_an_ome_tiff_tells_its_pixel_size_channels_and_time(tmp_path):
    path = str(tmp_path / "a.ome.tif")
    metadata = {"axes": "CYX", "PhysicalSizeX": 65, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.13}
    metadata |= {"AcquisitionDate": "2024-05-17T12:30:01", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, files.VOLUME[0, :2], metadata=metadata, photometric="minisblack")
    with open_part(path) as part:
        assert part.pixel_size == {"Y": 0.13, "X": 0.065}
        assert part.unit == "µm"
        assert part.metadata["channel_names"] == ["DAPI", "GFP"]
        assert part.metadata["acquisition_time"] == "2024-05-17T12:30:01"


def test_imagej_tells_micrometres_and_printers_dots_are_no_pixel_size(tmp_path):
    imagej, print_out = str(tmp_path / "imagej.tif"), str(tmp_path / "print.tif")
    tifffile.imwrite(
        imagej,
        files.VOLUME[:, 0],
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 3},
    )
    tifffile.imwrite(print_out, files.VOLUME[0, 0], resolution=(300, 300), resolutionunit="INCH")
    with open_part(imagej) as part:
        assert part.pixel_size == {"Z": 3.0, "Y": 0.5, "X": 0.25}
        np.testing.assert_array_equal(part.read(), tifffile.imread(imagej))
    with open_part(print_out) as part:
        assert part.pixel_size == {}
        assert part.unit is None


def test_an_imagej_stack_behind_one_directory_is_read_by_planes(tmp_path):
    path = str(tmp_path / "stack.tif")
    tifffile.imwrite(path, files.VOLUME[:, 0], metadata={"axes": "ZYX"}, truncate=True)
    with open_part(f"{path}#z=1") as part:
        np.testing.assert_array_equal(part.read(), files.VOLUME[1, 0])
        np.testing.assert_array_equal(part.read_region(2, 3, 9, 40), files.VOLUME[1, 0, 2:9, 3:40])


def test_levels_of_pyramids_are_parts_whose_pixels_are_larger(tmp_path):
    path = str(tmp_path / "slide.ome.tif")
    plane = files.VOLUME[0, 0]
    with tifffile.TiffWriter(path) as file:
        size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        file.write(plane, subifds=1, tile=(16, 16), metadata=size)
        file.write(plane[::2, ::2], subfiletype=1, tile=(16, 16))
    with open_part(f"{path}#level=1") as part:
        np.testing.assert_array_equal(part.read(), plane[::2, ::2])
        assert part.pixel_size == {"Y": 1.0, "X": 1.0}


def test_min_is_white_is_inverted_in_parts_as_in_the_whole(tmp_path):
    path = str(tmp_path / "white.tif")
    tifffile.imwrite(path, np.array([[0, 200], [3, 4]], np.uint8), photometric="miniswhite")
    assert read(path).tolist() == [[255, 55], [252, 251]]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plates_of_ome_zarr_are_listed_by_well_and_field(tmp_path, version):
    path = files.plate(tmp_path / "p.zarr", version)
    assert addresses(path) == ["A/1/0", "A/1/1", "B/03/0", "B/03/1"]
    assert read(f"{path}#B/03/1?t=1&c=0").tolist() == np.full((20, 30), 11).tolist()
    assert read(f"{path}#B/03")[0, 0, 0, 0] == 10, "a well is its first field"
    with open_part(f"{path}#B/03/1") as part:
        assert part.pixel_size == {"Y": 0.5, "X": 0.5}
        assert part.metadata["channel_names"] == ["DAPI", "GFP", "RFP"]
    with pytest.raises(ImagePartError, match="has no group or array 'C/1/0'; its images are A/1/0, A/1/1, B/03/0"):
        open_part(f"{path}#C/1/0")


def test_plain_zarr_arrays_are_images_with_their_dimensions_names(tmp_path):
    path = str(tmp_path / "weather.zarr")
    group = zarr.open_group(path, mode="w")
    group.create_array("wind", data=files.VOLUME[:, 0], dimension_names=["time", "lat", "lon"])
    group.create_array("alone", data=files.VOLUME[0, 0], shards=(64, 64), chunks=(32, 32))
    assert addresses(path) == ["wind", "alone"] or addresses(path) == ["alone", "wind"]
    with open_part(f"{path}#wind?t=1") as part:
        np.testing.assert_array_equal(part.read(), files.VOLUME[1, 0])
    with open_part(f"{path}#alone") as part:
        assert part.tile_shape == (64, 64), "of shards, which are read whole"
    np.testing.assert_array_equal(read(f"{path}/alone"), files.VOLUME[0, 0])


# -- arrays, skies, bodies -------------------------------------------------------------------------------------


def test_hdf5_is_what_h5py_reads(tmp_path):
    path = files.hdf5(tmp_path / "r.h5")
    assert addresses(path) == ["/entry/data/images", "/entry/tiled"]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(read(f"{path}#/entry/data/images?i=1"), file["/entry/data/images"][1])
    with pytest.raises(
        ImagePartError, match="no numbers of two or more axes in '/entry/table'; its images are /entry"
    ):
        open_part(f"{path}#/entry/table")


def test_hdf5_names_axes_by_labels_of_dimensions(tmp_path):
    path = str(tmp_path / "r.h5")
    with h5py.File(path, "w") as file:
        data = file.create_dataset("volume", data=files.VOLUME[0])
        for dimension, label in zip(data.dims, "zyx", strict=True):
            dimension.label = label
        data.attrs["element_size_um"] = [2.0, 0.5, 0.25]
    with open_part(path) as part:
        assert part.axes == "ZYX"
        assert part.pixel_size == {"Z": 2.0, "Y": 0.5, "X": 0.25}


def test_fits_is_what_astropy_reads_with_offsets_and_tiles_undone(tmp_path):
    path = files.fits_file(tmp_path / "i.fits")
    assert addresses(path) == ["hdu=0", "hdu=1", "hdu=3"]
    with fits.open(path) as hdus:
        for number in (0, 1, 3):
            found, wanted = read(f"{path}#hdu={number}"), hdus[number].data
            assert found.dtype == wanted.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(read(f"{path}#SCI"), read(f"{path}#hdu=1"))
    with open_part(path) as part:
        assert part.metadata["EXPTIME"] == 30.5
        assert part.metadata["acquisition_time"] == "2024-05-17T12:30:01"
        assert (part.pixel_size, part.unit) == ({"X": 0.001, "Y": 0.001}, "deg")
        np.testing.assert_array_equal(part.read_region(1, 2, 30, 40), part.read()[1:30, 2:40])


def test_fits_hdus_without_an_image_are_told_with_those_that_have_one(tmp_path):
    path = files.fits_file(tmp_path / "i.fits")
    with pytest.raises(
        ImagePartError, match=r"names hdu=2, but has no image; its images are hdu=0 PRIMARY, hdu=1 SCI"
    ):
        open_part(f"{path}#hdu=2")
    with pytest.raises(ImagePartError, match="names hdu=9, but has 4 HDUs, 0 to 3"):
        open_part(f"{path}#hdu=9")


@pytest.mark.parametrize("compression", [None, "rle", "jpeg2000"])
def test_dicom_frames_are_what_pydicom_reads_compressed_or_not(tmp_path, compression):
    path = files.dicom(tmp_path / "s.dcm", compression=compression)
    wanted = pydicom.dcmread(path).pixel_array
    np.testing.assert_array_equal(wanted, files.VOLUME[:, 0])
    for number in range(2):
        np.testing.assert_array_equal(read(f"{path}#frame={number}"), wanted[number])
    np.testing.assert_array_equal(read(f"{path}#axes=ZYX"), wanted)
    with open_part(f"{path}#axes=ZYX") as part:
        assert part.pixel_size == {"Z": 2000.0, "Y": 250.0, "X": 500.0}
        assert part.metadata["KVP"] == 120.0
        assert part.metadata["acquisition_time"] == "2024-05-17T12:30:01"


def test_a_dicom_file_without_an_ending_is_known_by_its_bytes(tmp_path):
    path = files.dicom(tmp_path / "IM0001")
    np.testing.assert_array_equal(read_described(f"{path}#frame=1", "unchanged").pixels, files.VOLUME[1, 0])
    single = files.dicom(tmp_path / "IM0002", files.VOLUME[:1, 0])
    np.testing.assert_array_equal(read_described(single, "unchanged").pixels, files.VOLUME[0, 0])


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_nifti_is_what_nibabel_reads_with_x_last(tmp_path, name):
    path = files.nifti(tmp_path / name)
    with open_part(path) as part:
        assert (part.axes, part.shape) == ("ZYX", (3, 50, 70))
        assert part.pixel_size == {"Z": 2000.0, "Y": 500.0, "X": 500.0}
        np.testing.assert_array_equal(part.read(), np.asarray(nibabel.load(path).dataobj).T)
        np.testing.assert_array_equal(part.read_region(1, 2, 30, 40), part.read()[:, 1:30, 2:40])
    np.testing.assert_array_equal(read(f"{path}#z=2"), np.asarray(nibabel.load(path).dataobj)[:, :, 2].T)


def test_nifti_values_are_those_after_the_files_own_scale(tmp_path):
    path = str(tmp_path / "scaled.nii")
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.float64).reshape(2, 3, 4) / 7, np.eye(4))
    image.set_data_dtype(np.int16)
    nibabel.save(image, path)
    np.testing.assert_array_equal(read(path), nibabel.load(path).get_fdata().T)


# -- pictures of cameras ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("m.mp4", {}),
        ("m.mkv", {}),
        ("frames_that_refer_to_later_ones.mp4", {"codec": "libx264", "gop": 30}),
        ("each_alone.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}),
        ("m.mpg", {"codec": "mpeg1video"}),
    ],
)
def test_frames_of_videos_are_those_of_pyav_by_number_in_any_order(tmp_path, name, options):
    path = files.video(tmp_path / name, **options)
    with av.open(path) as container:
        wanted = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with open_part(path) as part:
        assert part.shape == (len(wanted), 48, 64, 3)
    order = [*range(len(wanted)), *np.random.default_rng(1).permutation(len(wanted)), 0, len(wanted) - 1]
    for number in order:
        np.testing.assert_array_equal(read(f"{path}#frame={number}"), wanted[number], err_msg=f"frame {number}")


def test_a_time_in_a_video_is_the_frame_that_is_shown_then(tmp_path):
    path = files.video(tmp_path / "m.mp4", rate=25)
    for seconds, number in (("0s", 0), ("0.039s", 0), ("0.04s", 1), ("0.5s", 12), ("1.56s", 39), ("1.6s", 39)):
        np.testing.assert_array_equal(read(f"{path}#t={seconds}"), read(f"{path}#frame={number}"), err_msg=seconds)
    with pytest.raises(ImagePartError, match=r"names t=12\.5s, but is 1\.600 s long"):
        open_part(f"{path}#t=12.5s")
    with pytest.raises(ImagePartError, match="names frame=40, but frame has 40 places, 0 to 39"):
        open_part(f"{path}#frame=40")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_what_pillow_heif_reads_and_is_turned_or_not_as_asked(tmp_path, orientation):
    path = files.heif(tmp_path / "h.heic", orientation)
    upright = np.asarray(pillow_heif.read_heif(path))
    assert upright.shape == ((64, 48, 3) if orientation in {6, 8} else (48, 64, 3))
    np.testing.assert_array_equal(read_described(path, "color").pixels, upright)
    stored = read_described(path, "unchanged").pixels
    assert abs(stored.astype(int) - files.gradient(100)).mean() < 5, "but for what its codec loses"
    np.testing.assert_array_equal(
        read_described(path, "unchanged", reading=Reading(orientation="upright")).pixels, upright
    )
    np.testing.assert_array_equal(
        read_described(path, "color", reading=Reading(orientation="stored")).pixels, stored
    )
    with open_part(path) as part:
        assert part.metadata["acquisition_time"] == "2024-05-17T12:30:01"


def test_raw_files_are_developed_as_rawpy_does_or_give_their_sensor(tmp_path):
    path = files.dng(tmp_path / "r.dng")
    with rawpy.imread(path) as raw:
        developed = raw.postprocess(use_camera_wb=True, no_auto_bright=True, output_bps=8)
        np.testing.assert_array_equal(read(path), developed)
        np.testing.assert_array_equal(read(f"{path}#sensor"), raw.raw_image_visible)
    np.testing.assert_array_equal(read_described(path, "color").pixels, developed)


def test_a_raw_file_that_is_to_be_turned_is_stored_as_the_sensor_lies(tmp_path):
    path = files.dng(tmp_path / "r.dng", flip=6)
    assert read_described(path, "color").pixels.shape == (64, 48, 3)
    assert read_described(path, "unchanged").pixels.shape == (48, 64, 3)


def test_what_nobody_knows_is_read_by_plugins_of_bioio(tmp_path):
    path = str(tmp_path / "old.icb")
    Image.fromarray(files.COLORS).save(path, "TGA")
    wanted = bioio.BioImage(path).data
    np.testing.assert_array_equal(read_described(path, "unchanged").pixels, np.squeeze(wanted))
    np.testing.assert_array_equal(read_described(path, "unchanged").pixels, files.COLORS)


def test_a_file_that_not_even_a_plugin_knows_is_told_with_the_way_out(tmp_path):
    path = tmp_path / "cells.czi"
    path.write_bytes(b"ZISRAWFILE" + bytes(600))
    with pytest.raises(ImageFormatError, match="install its plugin, such as bioio-czi"):
        read_described(str(path), "gray")


# -- what is cut -----------------------------------------------------------------------------------------------


def halved_zarr(path: str) -> None:
    """Cut every chunk of an array in half."""
    chunks = [
        file for file in Path(path).rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr."))
    ]
    assert chunks
    for chunk in chunks:
        chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])


CUT = {
    "a.ome.tif": files.ome_tiff,
    "packed.ome.tif": lambda path: files.ome_tiff(path, compression="zlib"),
    "tiled.ome.tif": lambda path: files.ome_tiff(path, tile=(16, 16), compression="zlib"),
    "r.h5": files.hdf5,
    "i.fits": files.fits_file,
    "s.dcm": files.dicom,
    "rle.dcm": lambda path: files.dicom(path, compression="rle"),
    "jpeg2000.dcm": lambda path: files.dicom(path, compression="jpeg2000"),
    "v.nii": files.nifti,
    "v.nii.gz": files.nifti,
    "m.mp4": files.video,
    "h.heic": files.heif,
    "r.dng": files.dng,
}


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
@pytest.mark.parametrize("name", sorted(CUT))
def test_a_file_that_is_cut_is_an_error_of_ours_not_another_image(tmp_path, name, share):
    path = Path(CUT[name](tmp_path / name))
    wanted = [f"{path}#{address}" if address else str(path) for address in addresses(str(path))]
    close_files()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ImageError) as error:
            list(map(read, wanted))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_zarr_chunk_that_is_cut_is_an_error_of_ours(tmp_path, version):
    path = files.ome_zarr(tmp_path / "a.zarr", version)
    halved_zarr(path)
    with pytest.raises(ImageError, match="truncated"):
        read(path)


def test_frames_before_the_cut_of_a_video_without_an_index_are_read_and_others_are_not_there(tmp_path):
    path = Path(files.video(tmp_path / "m.mkv"))
    whole = [read(f"{path}#frame={number}") for number in range(10)]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    for number in range(10):
        np.testing.assert_array_equal(read(f"{path}#frame={number}"), whole[number])
    with pytest.raises(ImageError, match="names frame=39, but frame has"):
        read(f"{path}#frame=39")
