"""Small files of every format, each written by the format's own library; for tests of readers and sources."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import av
import h5py
import nibabel
import numpy as np
import pillow_heif
import tifffile
import zarr
from astropy.io import fits
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 60_000, (2, 3, 50, 70)).astype(np.uint16)
"""Two slices or times of three channels."""
COLORS = RNG.integers(0, 255, (50, 70, 3)).astype(np.uint8)


def gradient(level: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A smooth picture, which lossy codecs keep apart from the others."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.stack([(rows * 4) % 256, (columns * 3) % 256, np.full(shape, level % 256)], -1).astype(np.uint8)


def ome_tiff(path: Path, pixels: np.ndarray = VOLUME, axes: str = "ZCYX", **options) -> str:
    metadata = {"axes": axes, "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 500}
    metadata |= {"PhysicalSizeYUnit": "nm", "Channel": {"Name": ["DAPI", "GFP", "RFP"]}} if "C" in axes else {}
    tifffile.imwrite(path, pixels, metadata=metadata, photometric="minisblack", ome=True, **options)
    return str(path)


def _describe(pixels: np.ndarray, axes: str) -> dict[str, object]:
    kinds = {"t": "time", "c": "channel"}
    named = [
        {"name": one, "type": kinds.get(one, "space"), **({} if one in kinds else {"unit": "micrometer"})}
        for one in axes
    ]
    scale = [1.0 if one in kinds else 2.0 if one == "z" else 0.5 for one in axes]
    return {
        "axes": named,
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
    }


def fill_ome_zarr(group: zarr.Group, pixels: np.ndarray, axes: str, version: str) -> None:
    """Make an image of a group, with one level."""
    chunks = (*(1,) * (pixels.ndim - 2), 16, 32)
    group.create_array("0", data=pixels, chunks=chunks)
    scale = _describe(pixels, axes)
    omero = {"channels": [{"label": name} for name in ("DAPI", "GFP", "RFP")]}
    if version == "0.4":
        group.attrs.update({"multiscales": [{"version": "0.4", **scale}], "omero": omero})
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [scale], "omero": omero}


def ome_zarr(path: Path | str, version: str = "0.5", pixels: np.ndarray = VOLUME, axes: str = "zcyx") -> str:
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    fill_ome_zarr(group, pixels, axes, version)
    return str(path)


def plate(path: Path | str, version: str = "0.4") -> str:
    """A plate of two wells with two fields each; the level of every pixel of field f of well w is 10 w + f."""
    root = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    told = {"plate": {"wells": [{"path": "A/1"}, {"path": "B/03"}]}}
    root.attrs.update(told if version == "0.4" else {"ome": {"version": "0.5", **told}})
    for number, well in enumerate(("A/1", "B/03")):
        group = root.create_group(well)
        fields = {"well": {"images": [{"path": "0"}, {"path": "1"}]}}
        group.attrs.update(fields if version == "0.4" else {"ome": {"version": "0.5", **fields}})
        for field in range(2):
            pixels = np.full((2, 2, 20, 30), 10 * number + field, np.uint8)
            fill_ome_zarr(group.create_group(str(field)), pixels, "tcyx", version)
    return str(path)


def hdf5(path: Path) -> str:
    with h5py.File(path, "w") as file:
        file.attrs["acquisition_time"] = "2024-05-17T12:30:01"
        file["/entry/data/images"] = VOLUME[:, 0]
        file.create_dataset("/entry/tiled", data=VOLUME[0, 0], chunks=(16, 32), compression="gzip")
        file["/entry/table"] = np.arange(5.0)
    return str(path)


def fits_file(path: Path) -> str:
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -0.001, "CDELT2": 0.001})
    header["DATE-OBS"] = "2024-05-17T12:30:01"
    header["EXPTIME"] = 30.5
    signed = fits.ImageHDU(VOLUME[0, 0].astype(np.float32), name="SCI")
    packed = fits.CompImageHDU(VOLUME[1, 0], name="RAW", tile_shape=(16, 70))
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.arange(3.0))])
    fits.HDUList([fits.PrimaryHDU(VOLUME[0, 1], header), signed, table, packed]).writeto(path)
    return str(path)


def _filled(thing: Any, **elements: object) -> Any:
    for name, value in elements.items():
        setattr(thing, name, value)
    return thing


def dicom(path: Path, frames: np.ndarray = VOLUME[:, 0], compression: str | None = None) -> str:
    """A multi-frame file of gray frames, plain, or compressed by ``"rle"`` or ``"jpeg2000"``."""
    bits = 8 * frames.dtype.itemsize
    kind, instance = "1.2.840.10008.5.1.4.1.1.7.3", generate_uid()  # multi-frame gray secondary capture
    syntax = JPEG2000Lossless if compression == "jpeg2000" else ExplicitVRLittleEndian
    meta = _filled(
        FileMetaDataset(),
        MediaStorageSOPClassUID=kind,
        MediaStorageSOPInstanceUID=instance,
        TransferSyntaxUID=syntax,
    )
    file = _filled(
        Dataset(),
        file_meta=meta,
        SOPClassUID=kind,
        SOPInstanceUID=instance,
        Rows=frames.shape[1],
        Columns=frames.shape[2],
        NumberOfFrames=len(frames),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=0,
        PixelSpacing=[0.25, 0.5],
        SliceThickness=2.0,
        AcquisitionDate="20240517",
        AcquisitionTime="123001",
        KVP=120.0,
        PatientID="someone",
    )
    if compression == "jpeg2000":
        import imagecodecs

        encoded = [
            imagecodecs.jpeg2k_encode(frame, codecformat="j2k", reversible=True, level=0) for frame in frames
        ]
        _filled(file, PixelData=encapsulate(encoded))
        _filled(file["PixelData"], VR="OB")
        _filled(file["PixelData"], is_undefined_length=True)
    else:
        _filled(file, PixelData=frames.tobytes())
        _filled(file["PixelData"], VR="OW")
        if compression == "rle":
            file.compress(RLELossless, frames)
    file.save_as(path, enforce_file_format=True)
    return str(path)


def nifti(path: Path) -> str:
    """A volume of 3 slices of 50 x 70, of half a millimetre, slices two apart."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(VOLUME[0].T).astype(np.int16), np.diag([0.5, 0.5, 2, 1]))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return str(path)


def video(
    path: Path, n_frames: int = 40, codec: str = "mpeg4", gop: int = 12, rate: int = 25, pixels: str = "yuv420p"
) -> str:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        _filled(stream, width=64, height=48, pix_fmt=pixels, gop_size=gop)
        for number in range(n_frames):
            frame = av.VideoFrame.from_ndarray(gradient(6 * number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def heif(path: Path, orientation: int = 1) -> str:
    image = Image.fromarray(gradient(100))
    exif = image.getexif()
    exif[274], exif[306] = orientation, "2024:05:17 12:30:01"
    pillow_heif.register_heif_opener()
    image.save(path, quality=-1, exif=exif.tobytes())
    return str(path)


def dng(path: Path, flip: int = 1) -> str:
    """A raw file of a sensor of 48 x 64 pixels, as a camera would write it."""
    mosaic = RNG.integers(1000, 60_000, (48, 64)).astype(np.uint16)
    ones = [10_000, 10_000] * 3
    tags = [
        (274, "H", 1, flip, True),
        (33421, "H", 2, (2, 2), True),  # the pattern of its colours
        (33422, "B", 4, b"\x00\x01\x01\x02", True),
        (50706, "B", 4, b"\x01\x04\x00\x00", True),  # DNG 1.4
        (50708, "s", 0, "parimg test", True),
        (
            50721,
            "2i",
            9,
            (10_000, 10_000, 0, 1, 0, 1, 0, 1, 10_000, 10_000, 0, 1, 0, 1, 0, 1, 10_000, 10_000),
            True,
        ),
        (50728, "2I", 3, tuple(ones), True),
        (50778, "H", 1, 21, True),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tifffile.imwrite(
            path,
            mosaic,
            photometric=32803,
            extratags=tags,
            metadata=None,
            software="",
            subfiletype=0,
            rowsperstrip=48,
        )
    return str(path)
