"""Passes over OME-Zarr that were written by many: fewer files of each, and one array of many images.

Used by hand once a job has ended; nothing here needs a cluster. zarr is an extra.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from parimg.errors import ImageError, TaskError
from parimg.files.stores import is_url
from parimg.images.levels import Picture, shrink
from parimg.images.ome_zarr import ZarrPicture, check_zarr, store_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import zarr

SHARD = 4096
_LARGEST_BLOCK = 2048  # pixels a side, of which blocks are a part
_MOST_CHANNELS = 4  # that may stand last


def shard_ome_zarr(
    place: str | os.PathLike[str], target: str | os.PathLike[str] | None = None, *, side: int = SHARD
) -> str:
    """Write an OME-Zarr again with many chunks in one file each: disks and stores like thousands, not millions.

    Parameters
    ----------
    place : path or URL
        Of the group.
    target : path or URL, optional
        Of the new one; by default it takes the place of the old one, which a URL cannot.
    side : int, default 4096
        Pixels a side of what becomes one file, rounded up to whole chunks. So much is in memory at once.

    Returns
    -------
    str
        Path or URL of the new one.

    Raises
    ------
    TaskError
        If it cannot be written.
    ImageError
        If it is no OME-Zarr.
    """
    check_zarr()
    import zarr

    source, new = str(place).rstrip("/"), str(target or place).rstrip("/")
    if target is None and is_url(source):
        raise TaskError(f"{source!r:.300} is a URL, where nothing is replaced in one go; give a target")
    old = _opened(source)
    written = _begun(new)
    group = zarr.create_group(store_of(written), overwrite=True)
    for path in _levels(old):
        array = _array(old, path)
        shards = (*array.shape[:-2], *(_up(side, chunk) for chunk in array.chunks[-2:]))
        shards = tuple(_up(one, chunk) for one, chunk in zip(shards, array.chunks, strict=True))
        made = _like(group, path, array, array.shape, array.chunks, shards)
        for start in product(*(range(0, length, step) for length, step in zip(array.shape, shards, strict=True))):
            ends = (min(a + step, length) for a, step, length in zip(start, shards, array.shape, strict=True))
            at = tuple(slice(a, b) for a, b in zip(start, ends, strict=True))
            made[at] = array[at]
    return _ended(group, dict(old.attrs), written, new)


def stack_ome_zarr(
    places: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
) -> str:
    """Make one OME-Zarr of those of many images of one size: its first axis, ``t``, counts them.

    Parameters
    ----------
    places : sequence of path or URL
        Of groups, such as a job's column ``path``.
    target : path or URL
        Of the new one. The others stay.
    names : sequence of str, optional
        What the images are called, in the new group's attribute ``parimg``; by default their places.

    Returns
    -------
    str
        Path or URL of the new one.

    Raises
    ------
    TaskError
        If they differ in shape, chunks or dtype, there is none, or it cannot be written.
    ImageError
        If one is no OME-Zarr.
    """
    check_zarr()
    import zarr

    if not len(places):  # a column of a data frame has no truth value
        raise TaskError("there is no OME-Zarr to be stacked")
    groups = [_opened(str(place).rstrip("/")) for place in places]
    kinds = {tuple(_kind(group)) for group in groups}
    if len(kinds) > 1:
        first = " and ".join(kind[0] for kind in sorted(kinds)[:2])
        raise TaskError(f"images of {len(kinds)} kinds do not make one array: {first}")
    new = str(target).rstrip("/")
    written = _begun(new)
    made = zarr.create_group(store_of(written), overwrite=True)
    for path in _levels(groups[0]):
        one = _array(groups[0], path)
        stack = _like(made, path, one, (len(groups), *one.shape), (1, *one.chunks), None)
        for number, group in enumerate(groups):
            array = _array(group, path)
            # A row of chunks is in memory at a time.
            step = array.chunks[-2]
            for y in range(0, array.shape[-2], step):
                at = (*(slice(None),) * (array.ndim - 2), slice(y, min(y + step, array.shape[-2])), slice(None))
                stack[(number, *at)] = array[at]
    attributes: dict[str, Any] = dict(groups[0].attrs)
    return _ended(made, _with_times(attributes, list(map(str, names or places))), written, new)


def stack_images(images: Iterable[tuple[str, npt.NDArray[Any]]], n: int, target: str | os.PathLike[str]) -> str:
    """Make one OME-Zarr with smaller levels of images of one size; its first axis, ``t``, counts them.

    Parameters
    ----------
    images : iterable of (str, ndarray)
        Name and pixels, of shape (h, w), (h, w, channels) with up to four channels, or (planes, h, w). One is in
        memory at a time.
    n : int
        How many there are, at least one.
    target : path or URL
        Of the group.

    Returns
    -------
    str
        Path or URL of the group.

    Raises
    ------
    TaskError
        If they differ in shape or dtype, or it cannot be written.
    """
    check_zarr()
    import zarr

    new = str(target).rstrip("/")
    written = _begun(new)
    made: zarr.Group | None = None
    picture: Picture | None = None
    names: list[str] = []
    try:
        for number, (name, image) in enumerate(images):
            level = _channels_first(name, image)
            n_channels, height, width = level.shape
            tile = (min(height, _LARGEST_BLOCK), min(width, _LARGEST_BLOCK))
            found = Picture(n_channels, height, width, 1, image.dtype.name, tile)
            if made is None or picture is None:
                picture, made = found, zarr.create_group(store_of(written), overwrite=True)
                axes = ("t", "c", "y", "x") if n_channels > 1 else ("t", "y", "x")
                inner = (n_channels,) if n_channels > 1 else ()
                for path, shape in enumerate(picture.shapes):
                    chunks = (1, *inner, *picture.block)
                    made.create_array(
                        str(path), shape=(n, *inner, *shape), chunks=chunks, dtype=image.dtype,
                        dimension_names=axes,
                    )  # fmt: skip
            elif found != picture:
                kinds = [f"{one.dtype} of {one.planes} x {one.height} x {one.width}" for one in (picture, found)]
                raise TaskError(
                    f"images of several kinds do not make one array: {names[0]!r:.200} is {kinds[0]}, "
                    f"{name!r:.200} is {kinds[1]}"
                )
            names.append(name)
            for path in range(len(picture.shapes)):
                level = shrink(level[..., None])[..., 0] if path else level
                _array(made, str(path))[number] = level if n_channels > 1 else level[0]
    except BaseException:
        if written != new:
            shutil.rmtree(written, ignore_errors=True)
        raise
    if made is None or picture is None:
        raise TaskError("there is no image to be stacked")
    about = ZarrPicture(picture, new, os.path.basename(new)).about()
    return _ended(made, _with_times({"ome": about}, names), written, new)


def _channels_first(name: str, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if image.ndim == 2:
        return image[None]
    if image.ndim != 3:
        raise TaskError(f"{name!r:.200} has {image.ndim} axes, wanted (h, w), (h, w, channels) or (planes, h, w)")
    return image.transpose(2, 0, 1) if image.shape[2] <= _MOST_CHANNELS < image.shape[0] else image


def _with_times(attributes: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """What a group says of itself once its images are one array, and which is which."""
    for multiscale in attributes["ome"]["multiscales"]:
        multiscale["axes"].insert(0, {"name": "t", "type": "time"})
        for dataset in multiscale["datasets"]:
            for change in dataset["coordinateTransformations"]:
                change[change["type"]].insert(0, 1.0 if change["type"] == "scale" else 0.0)
    return {**attributes, "parimg": {"images": names}}


def _begun(new: str) -> str:
    """Where a group is written until it is whole; what is replaced is Zarr, and no folder of something else."""
    if is_url(new):
        return new
    if os.path.lexists(new) and not os.path.isfile(os.path.join(new, "zarr.json")):
        raise TaskError(f"{new!r:.300} is there already, and no Zarr that would be replaced; name a new folder")
    return f"{new}.unfinished"


def _opened(place: str) -> zarr.Group:
    import zarr

    try:
        group = zarr.open_group(store_of(place, read_only=True), mode="r")
        _levels(group)
    except (KeyError, IndexError, TypeError, OSError, ValueError) as error:
        raise ImageError(f"{place!r:.300} is no OME-Zarr 0.5: {type(error).__name__}: {error!s:.300}") from error
    return group


def _levels(group: zarr.Group) -> list[str]:
    ome: Any = group.attrs["ome"]
    return [str(dataset["path"]) for dataset in ome["multiscales"][0]["datasets"]]


def _array(group: zarr.Group, path: str) -> Any:
    return group[path]


def _kind(group: zarr.Group) -> list[str]:
    arrays = [_array(group, path) for path in _levels(group)]
    return [f"{array.dtype} of shape {array.shape} in chunks of {array.chunks}" for array in arrays]


def _like(
    group: zarr.Group,
    path: str,
    array: Any,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
) -> Any:
    names = array.metadata.dimension_names
    first = ("t",) * (len(shape) - array.ndim)
    return group.create_array(
        path, shape=shape, chunks=chunks, shards=shards, dtype=array.dtype, dimension_names=(*first, *names)
    )


def _up(side: int, chunk: int) -> int:
    return -(-side // chunk) * chunk


def _ended(group: zarr.Group, attributes: dict[str, Any], written: str, new: str) -> str:
    """What says that it is an image is written last; on a disk it takes its name when all is there."""
    group.update_attributes(attributes)
    if written != new:
        if os.path.isdir(new):
            shutil.rmtree(new)
        os.replace(written, new)
    return new
