"""How an `ImageTransform` is run by tiles: its image tile by tile, then the smaller levels, then one file.

Step ``level-0`` transforms the tiles and makes the smaller levels that consist of one tile's blocks; the other
levels are a step each, which halves the level before. Called by `image_transform` on engines.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from parimg.errors import TaskError
from parimg.files.naming import is_collecting, make_parents
from parimg.images.encode import EXTENSIONS, ImageFormat, channels_of, check_format, fitting_format, save_image
from parimg.images.levels import BlockFiles, Picture, shrink
from parimg.record import LARGEST_ARRAY
from parimg.tasks.statistics import Moments, joined
from parimg.tasks.tiled_image import Step, TiledImage
from parimg.tasks.tiling import NO_HALO, Box, Grid, Place

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.images.ome_zarr import ZarrPicture
    from parimg.tasks.image_transform import ImageTransform

_STEP = "level-{}"
_PROBE_SIDE = 8
_LARGEST_TILE = 2048  # of images that are all there, a multiple of all blocks


def next_step(task: ImageTransform, image: TiledImage, after: str | None) -> Step | Mapping[str, object]:
    """What is to be done next, or the values of the image; see `Task.next_step`."""
    if after is None:
        _begin(task, image)
    picture = _picture(image)
    level = 0
    if after is not None:
        level = max(int(after.rpartition("-")[2]), picture.levels_at_once) + 1
    if level < len(picture.shapes):
        return Step(_STEP.format(level), len(Grid(picture.shapes[level], picture.tile_of(level))))
    return _finish(task, image, picture)


def run_tile(task: ImageTransform, image: TiledImage, step: str, index: int) -> None:
    """Make one tile of a level, of the first with what lies below it."""
    import numpy as np

    level = int(step.rpartition("-")[2])
    picture = _picture(image)
    target = _target(task, image, picture)
    box = Grid(picture.shapes[level], picture.tile_of(level))[index]
    if level:
        part = shrink(target.read(level - 1, *_twice(box, picture.shapes[level - 1])))
        target.write(level, box.y1, box.x1, part)
        image.save(step, index)
        return
    alignment = task.alignment(image.shape, image.pixels.dtype)
    region, core = image.read(box, task.halo() or NO_HALO, task.wraps, alignment)
    result = task.transform_part(region, Place(image.shape, box, core))
    result = result[(slice(None),) * (result.ndim - region.ndim) + core.slices]
    part = result.reshape(picture.planes, *box.shape, picture.channels)
    target.write(0, box.y1, box.x1, part)
    for smaller in range(1, picture.levels_at_once + 1):
        part = shrink(part)
        target.write(smaller, box.y1 >> smaller, box.x1 >> smaller, part)
    image.save(step, index, moments=np.array(Moments.of(result)))


def _begin(task: ImageTransform, image: TiledImage) -> None:
    """Find out what comes out, refuse what cannot be kept, and make what tiles are written into."""
    if "picture" in image.noted():
        return
    import numpy as np

    height, width = (min(_PROBE_SIDE, side) for side in image.shape[:2])
    probe = task.transform(np.zeros((height, width, *image.shape[2:]), image.pixels.dtype))
    pages = probe.ndim > len(image.shape)
    picture = Picture(
        planes=probe.shape[0] if pages else 1,
        height=image.shape[0],
        width=image.shape[1],
        channels=image.shape[2] if len(image.shape) > 2 else 1,
        dtype=probe.dtype.name,
        tile=image.grid.tile,
        pixel_size=image.pixel_size,
        unit=image.unit,
    )
    if task.folder is None:
        chosen: ImageFormat | None = None
        if not task.statistics_only and picture.nbytes > LARGEST_ARRAY:
            raise TaskError(
                f"the result has {picture.nbytes} bytes, a record holds {LARGEST_ARRAY}; give output, a folder or "
                "URL"
            )
    else:
        formats: tuple[ImageFormat, ...] = ("ome-tiff", "tiff", "npy")
        chosen = task.format or fitting_format(formats, picture.dtype, picture.channels, pages=pages)
        check_format(chosen, picture.dtype, picture.channels, pages=pages)
    picture = dataclasses.replace(picture, pyramid=chosen in {"ome-tiff", "ome-zarr"})
    if chosen == "ome-zarr":
        _new_zarr(task, image.key, picture)
    image.note(picture=dataclasses.asdict(picture), format=chosen, pages=pages)


def _picture(image: TiledImage) -> Picture:
    found = dict(image.noted()["picture"])
    size = found.pop("pixel_size")
    return Picture(**{**found, "tile": tuple(found["tile"]), "pixel_size": size and tuple(size)})


def _target(task: ImageTransform, image: TiledImage, picture: Picture) -> BlockFiles | ZarrPicture:
    if image.noted()["format"] == "ome-zarr":
        return _zarr(task, image.key, picture)
    return BlockFiles(picture, image.folder)


def _zarr(task: ImageTransform, key: str, picture: Picture) -> ZarrPicture:
    from parimg.images.ome_zarr import ZarrPicture

    return ZarrPicture(picture, task.path_below(key, EXTENSIONS["ome-zarr"]), key.rpartition("/")[2])


def _new_zarr(task: ImageTransform, key: str, picture: Picture) -> ZarrPicture:
    if is_collecting():
        raise TaskError(
            "an engine that does not see the output folder cannot send an OME-Zarr back, which is many files; "
            "give a URL as output, or format='ome-tiff'"
        )
    found = _zarr(task, key, picture)
    if task.local_folder is not None:
        make_parents(task.local_folder, found.place)
    found.create()
    return found


def _twice(box: Box, shape: tuple[int, int]) -> Box:
    return Box(2 * box.y1, 2 * box.x1, min(2 * box.y2, shape[0]), min(2 * box.x2, shape[1]))


def _finish(task: ImageTransform, image: TiledImage, picture: Picture) -> dict[str, object]:
    """Make one file of all tiles, or the array."""
    notes = image.noted()
    first = _STEP.format(0)
    moments = joined(Moments(*image.load(first, index)["moments"].tolist()) for index in range(len(image.grid)))
    values: dict[str, object] = dict(moments.columns())
    target = _target(task, image, picture)
    chosen: ImageFormat | None = notes["format"]
    if chosen is None:
        if task.statistics_only:
            return values
        return {**values, "image": _whole(target, picture, pages=notes["pages"])}
    if not isinstance(target, BlockFiles):
        return {**values, "path": target.finish()}

    def write(file: BinaryIO) -> None:
        if chosen == "ome-tiff":
            from parimg.images.ome_tiff import write_ome_tiff

            write_ome_tiff(file, target)
        elif chosen == "npy":
            _write_npy(file, target, picture, pages=notes["pages"])
        else:
            save_image(file, _whole(target, picture, pages=notes["pages"]), chosen, pages=notes["pages"])

    return {**values, "path": task.write_below(image.key, EXTENSIONS[chosen], write)}


def write_with_levels(
    task: ImageTransform, key: str, result: npt.NDArray[Any], chosen: ImageFormat, *, pages: bool
) -> str:
    """Write an image that is all there with its smaller levels, as one file."""
    check_format(chosen, result.dtype, channels_of(result, pages=pages), pages=pages)
    planes = result if pages else result[None]
    level = planes if planes.ndim == 4 else planes[..., None]
    n_planes, height, width, channels = level.shape
    tile = (min(height, _LARGEST_TILE), min(width, _LARGEST_TILE))
    picture = Picture(n_planes, height, width, channels, result.dtype.name, tile)
    with tempfile.TemporaryDirectory(prefix="parimg-") as folder:
        target: BlockFiles | ZarrPicture = BlockFiles(picture, folder)
        if chosen == "ome-zarr":
            target = _new_zarr(task, key, picture)
        for number, shape in enumerate(picture.shapes):
            level = shrink(level) if number else level
            for box in Grid(shape, picture.tile_of(number)):
                target.write(number, box.y1, box.x1, level[:, *box.slices])
        if not isinstance(target, BlockFiles):
            return target.finish()
        from parimg.images.ome_tiff import write_ome_tiff

        return task.write_below(key, EXTENSIONS[chosen], lambda file: write_ome_tiff(file, target))


def _shape(picture: Picture, height: int, *, pages: bool) -> tuple[int, ...]:
    channels = (picture.channels,) if picture.channels > 1 else ()
    return (*((picture.planes,) if pages else ()), height, picture.width, *channels)


def _whole(target: Any, picture: Picture, *, pages: bool) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = target.read(0, 0, 0, picture.height, picture.width)
    return found.reshape(_shape(picture, picture.height, pages=pages))


def _write_npy(file: BinaryIO, target: BlockFiles, picture: Picture, *, pages: bool) -> None:
    """A row of tiles at a time."""
    import numpy as np

    header = {
        "descr": np.dtype(picture.dtype).str,
        "fortran_order": False,
        "shape": _shape(picture, picture.height, pages=pages),
    }
    np.lib.format.write_array_header_1_0(file, header)
    for plane in range(picture.planes):
        for y in range(0, picture.height, picture.tile[0]):
            rows = target.read(0, y, 0, min(y + picture.tile[0], picture.height), picture.width)
            file.write(np.ascontiguousarray(rows[plane]).tobytes())
