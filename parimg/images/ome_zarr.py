"""A large picture as OME-Zarr 0.5: one chunk a block, so that no two engines write the same one.

On a disk the folder is moved to its name when all is there; in a store, where nothing can be moved, what says that
it is an image is written last. Used by tasks that make images, on engines; zarr is an extra.
"""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from typing import TYPE_CHECKING, Any

from parimg.errors import TaskError
from parimg.files.stores import again_if_it_fails, is_url

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.images.levels import Picture

VERSION = "0.5"
_UNITS = {"µm": "micrometer", "nm": "nanometer", "mm": "millimeter", "cm": "centimeter", "m": "meter"}


def check_zarr() -> None:
    """Refuse to go on without the package.

    Raises
    ------
    TaskError
    """
    try:
        import zarr
    except ImportError:
        raise TaskError("OME-Zarr needs the package zarr; install it by: pip install 'parimg[zarr]'") from None
    if int(zarr.__version__.partition(".")[0]) < 3:
        raise TaskError(f"OME-Zarr {VERSION} needs zarr 3 (got {zarr.__version__}): pip install 'parimg[zarr]'")


def store_of(place: str, *, read_only: bool = False) -> Any:
    """The store of a path or URL, as zarr has it."""
    import zarr

    if is_url(place):
        return zarr.storage.FsspecStore.from_url(place, read_only=read_only)
    return zarr.storage.LocalStore(place, read_only=read_only)


class ZarrPicture:
    """The levels of a picture in one OME-Zarr group, written by tiles in any order, from several engines.

    Parameters
    ----------
    picture : Picture
    place : str
        Path or URL of the group.
    name : str
        What viewers call the image.
    """

    def __init__(self, picture: Picture, place: str, name: str = "") -> None:
        self.picture = picture
        self.place = place
        self._name = name
        self._written = place if is_url(place) else f"{place}.unfinished"

    def create(self) -> None:
        """Make the arrays of all levels, empty; what an earlier attempt left is removed.

        Raises
        ------
        TaskError
            If it cannot be written.
        """
        check_zarr()
        again_if_it_fails(self._create, f"writing {self.place!r:.300}")

    def _create(self) -> None:
        import zarr

        picture = self.picture
        store = store_of(self._written)
        zarr.create_group(store, overwrite=True)
        names = ("c", "y", "x")
        for level, (height, width) in enumerate(picture.shapes):
            count = max(picture.planes, picture.channels)
            zarr.create_array(
                store,
                name=str(level),
                shape=(count, height, width) if count > 1 else (height, width),
                chunks=(picture.channels, *picture.block) if count > 1 else picture.block,
                dtype=picture.dtype,
                dimension_names=names if count > 1 else names[1:],
                overwrite=True,
            )

    def write(self, level: int, y: int, x: int, part: npt.NDArray[Any]) -> None:
        """Write the tile that begins at row `y` and column `x`, ``(planes, height, width, channels)``."""
        height, width = part.shape[1:3]
        array, at = self._array(level), (slice(y, y + height), slice(x, x + width))
        if array.ndim == 2:
            values = part[0, ..., 0]
        else:
            values = part[..., 0] if part.shape[3] == 1 else part[0].transpose(2, 0, 1)

        def put() -> None:
            array[at if array.ndim == 2 else (slice(None), *at)] = values

        again_if_it_fails(put, f"writing {self.place!r:.300}")

    def read(self, level: int, y1: int, x1: int, y2: int, x2: int) -> npt.NDArray[Any]:
        """A part of a level, ``(planes, height, width, channels)``."""
        import numpy as np

        array, at = self._array(level), (slice(y1, y2), slice(x1, x2))
        found: npt.NDArray[Any] = again_if_it_fails(
            lambda: np.asarray(array[at if array.ndim == 2 else (slice(None), *at)]),
            f"reading {self.place!r:.300}",
        )
        if array.ndim == 2:
            return found[None, ..., None]
        return found[..., None] if self.picture.channels == 1 else found.transpose(1, 2, 0)[None]

    def finish(self) -> str:
        """Say what it is, and move it to its name; give that.

        Raises
        ------
        TaskError
            If it cannot be written.
        """
        import zarr

        def describe() -> None:
            zarr.open_group(store_of(self._written), mode="r+").update_attributes({"ome": self.about()})

        again_if_it_fails(describe, f"writing {self.place!r:.300}")
        if self._written != self.place:
            if os.path.isdir(self.place):
                shutil.rmtree(self.place)
            os.replace(self._written, self.place)
        return self.place

    def about(self) -> dict[str, Any]:
        """What a group's attribute ``ome`` says of such a picture."""
        picture = self.picture
        unit = _UNITS.get(picture.unit or "", picture.unit)
        named: dict[str, str] = {"unit": unit} if unit else {}
        axes = [{"name": name, "type": "space", **named} for name in "yx"]
        size = picture.pixel_size or (1.0, 1.0)
        n_first = int(max(picture.planes, picture.channels) > 1)
        axes[:0] = [{"name": "c", "type": "channel"}] * n_first
        levels = [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0] * n_first + [side * 2.0**level for side in size]},
                    # A pixel's centre moves: the first of level 1 lies between the first two.
                    {
                        "type": "translation",
                        "translation": [0.0] * n_first + [side * (2.0**level - 1) / 2 for side in size],
                    },
                ],
            }
            for level in range(len(picture.shapes))
        ]
        multiscale = {"name": self._name, "axes": axes, "datasets": levels, "type": "mean"}
        return {"version": VERSION, "multiscales": [multiscale]}

    @cached_property
    def _arrays(self) -> dict[int, Any]:
        return {}

    def _array(self, level: int) -> Any:
        if level not in self._arrays:
            import zarr

            self._arrays[level] = again_if_it_fails(
                lambda: zarr.open_array(store_of(self._written), path=str(level), mode="r+"),
                f"opening {self.place!r:.300}",
            )
        return self._arrays[level]
