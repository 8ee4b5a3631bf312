"""TiledImage: one image that is run by tiles, as its task sees it: its pixels, its tiles, what they left behind.

An engine makes one for each tile that it runs (`parimg.engine.tiles`). What tiles leave lies as files in one
folder that all engines of the image see; a tile of a step is done when its file is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from parimg.errors import ImageError
from parimg.files.atomic import write_whole
from parimg.tasks.tiling import ANY, NO_HALO, Alignment, Box, Grid, Halo, read_around

if TYPE_CHECKING:
    import numpy.typing as npt


class Step(NamedTuple):
    """Something that is done to all tiles, in any order, before anything else is."""

    name: str
    """Letters, digits and ``-``; names the files."""
    n_tiles: int
    """Tiles, which are those of the image or others that the task numbers."""


class Pixels(Protocol):
    """An image that can be read in part."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(height, width)`` or ``(height, width, channels)``, as the task is given it."""

    @property
    def dtype(self) -> Any:
        """NumPy dtype, as the task is given it."""

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Height and width of a pixel, where the file says that."""

    @property
    def unit(self) -> str | None:
        """Of the pixel size."""

    def read_region(self, y1: int, x1: int, y2: int, x2: int) -> npt.NDArray[Any]:
        """``image[y1:y2, x1:x2]``."""


class TiledImage:
    """One image that is run by tiles.

    Parameters
    ----------
    key : str
        Names its files.
    pixels : Pixels
    tile : (int, int)
        Height and width of tiles.
    folder : str
        For what tiles leave behind; see `folder_of`.

    Attributes
    ----------
    grid : Grid
        Its tiles.
    """

    def __init__(self, key: str, pixels: Pixels, tile: tuple[int, int], folder: str) -> None:
        self.key = key
        self.pixels = pixels
        self.grid = Grid((pixels.shape[0], pixels.shape[1]), tile)
        self.folder = folder

    @property
    def shape(self) -> tuple[int, ...]:
        """``(height, width)`` or ``(height, width, channels)``."""
        return self.pixels.shape

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Height and width of a pixel in `unit`, where the file says that."""
        return self.pixels.pixel_size

    @property
    def unit(self) -> str | None:
        """Of the pixel size."""
        return self.pixels.unit

    def read(
        self,
        box: Box,
        halo: Halo = NO_HALO,
        wraps: Sequence[bool] = (False, False),
        alignment: Alignment = ANY,
    ) -> tuple[npt.NDArray[Any], Box]:
        """Read a tile with what lies around it; see `parimg.tasks.tiling.read_around`.

        Raises
        ------
        ImageError
            If it cannot be read.
        """
        read = self.pixels.read_region
        return read_around(lambda part: read(*part), box, halo, self.grid.shape, wraps, alignment)

    def save(self, step: str, index: int, **arrays: npt.ArrayLike) -> None:
        """Leave arrays behind for the steps that follow; the tile is done."""
        import numpy as np

        # Uncompressed: what is large is compressed already, or a mask of bits.
        write_whole(self._path(step, index), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]

    def load(self, step: str, index: int) -> dict[str, npt.NDArray[Any]]:
        """What a tile left behind."""
        import numpy as np

        with np.load(self._path(step, index), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def note(self, **values: object) -> None:
        """Leave plain values for all tiles of the steps that follow; see `noted`."""
        text = json.dumps({**self.noted(), **values})
        write_whole(os.path.join(self.folder, "notes.json"), lambda file: file.writelines([text.encode()]))

    def noted(self) -> dict[str, Any]:
        """What was noted so far."""
        try:
            with open(os.path.join(self.folder, "notes.json"), encoding="utf-8") as file:
                found: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            return {}
        return found

    def is_done(self, step: str, index: int) -> bool:
        """Whether a tile has done a step."""
        return os.path.exists(self._path(step, index))

    def missing(self, step: Step) -> list[int]:
        """Tiles that are not done; on a disk that hosts share others may be, too."""
        there = set(os.listdir(self.folder))
        names = (os.path.basename(self._path(step.name, index)) for index in range(step.n_tiles))
        return [index for index, name in enumerate(names) if name not in there]

    def _path(self, step: str, index: int) -> str:
        return os.path.join(self.folder, f"{step}-{index:07d}.npz")

    def begin(self, about: Mapping[str, object]) -> None:
        """Make the folder; empty it, if what lies there is of another image or of other tiles."""
        text = json.dumps([about, self.pixels.shape, str(self.pixels.dtype), self.grid.tile])
        path = os.path.join(self.folder, "about.json")
        with contextlib.suppress(OSError):
            with open(path, encoding="utf-8") as file:
                if file.read() == text:
                    return
            shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        write_whole(path, lambda file: file.writelines([text.encode()]))

    def check_unchanged(self, about: Mapping[str, object]) -> None:
        """Refuse to go on with an image that was written anew.

        Raises
        ------
        ImageError
        """
        with open(os.path.join(self.folder, "about.json"), encoding="utf-8") as file:
            begun: dict[str, object] = json.load(file)[0]
        if begun != dict(about):
            raise ImageError(
                f"the file changed while its tiles were run: it was {_size(begun)}, now it is {_size(about)}; run "
                "it again when it is written to the end"
            )


def folder_of(folder: str, key: str) -> str:
    """Folder of one image below that of all; keys may be long and hold any character."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", key)[-40:].strip("-")
    return os.path.join(folder, f"{stem}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}")


def fit_tile(tile: tuple[int, int], shape: Sequence[int], stored: tuple[int, int] | None) -> tuple[int, int]:
    """The tiles that an image is run by.

    Parameters
    ----------
    tile : (int, int)
        What the user asked for.
    shape : sequence of int
        Height and width of the image.
    stored : (int, int) or None
        What the file is read by at least; None where any part is read alike.

    Returns
    -------
    (int, int)
        At least as large as what is decoded at once. Of a file of strips, which are as wide as the image, strips
        with about as many pixels.

    Examples
    --------
    >>> fit_tile((2048, 2048), (30000, 30000), (256, 256)), fit_tile((2048, 2048), (30000, 30000), (4, 30000))
    ((2048, 2048), (144, 30000))
    """
    if stored is None:
        return tile
    if stored[1] >= shape[1] > tile[1]:
        return _up(max(stored[0], tile[0] * tile[1] // shape[1])), shape[1]
    return max(tile[0], _up(stored[0])), max(tile[1], _up(stored[1]))


def _up(side: int) -> int:
    """The next multiple of 16, which sides of tiles are."""
    return -(-side // 16) * 16


def _size(about: Mapping[str, object]) -> str:
    return f"{about.get('bytes')} bytes of {about.get('modified')}"
