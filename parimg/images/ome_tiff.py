"""A large picture's blocks to one OME-TIFF file, tiled and with its smaller levels inside.

Blocks are copied as they are, so that memory does not grow with the picture. Used by tasks that make images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from parimg.images.levels import BlockFiles, Picture

_BIG = 2**32 - 2**25  # bytes, above which offsets of 32 bits may not do


def write_ome_tiff(file: BinaryIO, blocks: BlockFiles) -> None:
    """Write a picture whose tiles are all there.

    Parameters
    ----------
    file : binary file
        Open to write, and to seek in.
    blocks : BlockFiles

    Notes
    -----
    Smaller levels are SubIFDs of their page, where readers of OME-TIFF look for them; compression is zlib's.
    """
    import tifffile

    picture = blocks.picture
    levels = picture.shapes
    options: dict[str, Any] = {
        "dtype": picture.dtype,
        "tile": picture.block,
        "compression": "zlib",
        "photometric": "rgb" if picture.channels in {3, 4} else "minisblack",
        "planarconfig": "contig" if picture.channels > 1 else None,
        "extrasamples": ["unassalpha"] if picture.channels in {2, 4} else None,
    }
    big = 4 * picture.nbytes > 3 * _BIG
    with tifffile.TiffWriter(file, ome=True, bigtiff=big) as writer:
        for level, size in enumerate(levels):
            writer.write(
                blocks.encoded(level),
                shape=_shape(picture, size),
                subifds=len(levels) - 1 if level == 0 else None,
                subfiletype=1 if level else 0,
                metadata=_metadata(picture) if level == 0 else None,
                **options,
            )


def _shape(picture: Picture, size: tuple[int, int]) -> tuple[int, ...]:
    planes = (picture.planes,) if picture.planes > 1 else ()
    return (*planes, *size, *((picture.channels,) if picture.channels > 1 else ()))


def _metadata(picture: Picture) -> dict[str, object]:
    axes = ("C" if picture.planes > 1 else "") + "YX" + ("S" if picture.channels > 1 else "")
    if picture.pixel_size is None:
        return {"axes": axes}
    size: dict[str, object] = {"PhysicalSizeY": picture.pixel_size[0], "PhysicalSizeX": picture.pixel_size[1]}
    if picture.unit is not None:
        size |= {"PhysicalSizeYUnit": picture.unit, "PhysicalSizeXUnit": picture.unit}
    return {"axes": axes, **size}
