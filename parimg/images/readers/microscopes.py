"""What nobody else reads, by bioio and its plugins: CZI, ND2, LIF and others of microscopes.

Called by the registry.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bioio import BioImage
from bioio_base.exceptions import UnsupportedFileFormatError

from parimg.images.damage import UnsuitableError
from parimg.images.read import local_path
from parimg.images.readers.address import Address
from parimg.images.readers.opened import numbered
from parimg.images.readers.part import Index, OpenedFile, StoredImage
from parimg.images.readers.units import MICROMETRE, lengths

if TYPE_CHECKING:
    import numpy.typing as npt

# That one of its plugins does not take a file is no news: another may, and else our error says so.
logging.getLogger("bioio.bio_image").addFilter(lambda record: not record.getMessage().startswith("Attempted file"))


def open_file(uri: str) -> OpenedFile:
    """Open a file by whichever of bioio's plugins takes it."""
    return _BioioFile(uri)


class _BioioFile(OpenedFile):
    def __init__(self, uri: str) -> None:
        try:
            self._image = BioImage(local_path(uri) or uri)
            self._scenes = list(self._image.scenes)
        except UnsupportedFileFormatError:
            raise UnsuitableError(
                "is of no format that is known here, nor of one that an installed plugin of bioio reads; install "
                "its plugin, such as bioio-czi, bioio-nd2 or bioio-lif, here and on the engines"
            ) from None

    def addresses(self) -> Sequence[Address]:
        n = len(self._scenes)
        return [Address()] if n == 1 else [Address(indices={"series": number}) for number in range(n)]

    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        return numbered("series", address, len(self._scenes), lambda number: _BioioImage(self._image, number))

    def close(self) -> None:
        """Plugins open the file for each reading."""


class _BioioImage(StoredImage):
    def __init__(self, image: Any, scene: int) -> None:
        self._image = image
        self._scene = scene
        image.set_scene(scene)
        pixels = image.dask_data
        # bioio always has five axes or six.
        order: str = image.dims.order
        self._kept = [place for place, axis in enumerate(order) if axis in "YX" or pixels.shape[place] > 1]
        self._n_axes = len(order)
        self.axes = "".join(order[place] if order[place] in "TCZYXS" else "I" for place in self._kept)
        self.shape = tuple(pixels.shape[place] for place in self._kept)
        self.dtype = np.dtype(pixels.dtype)
        sizes = image.physical_pixel_sizes
        self.pixel_size = lengths({axis: getattr(sizes, axis) for axis in "ZYX"}, dict.fromkeys("ZYX", MICROMETRE))
        self.unit = MICROMETRE if self.pixel_size else None
        self.metadata = {"name": image.current_scene}
        if names := image.channel_names:
            self.metadata["channel_names"] = list(names)

    def read(self, index: Index) -> npt.NDArray[Any]:
        self._image.set_scene(self._scene)
        whole: list[int | slice] = [0] * self._n_axes
        for place, at in zip(self._kept, index, strict=True):
            whole[place] = at
        return np.asarray(self._image.dask_data[tuple(whole)].compute(scheduler="synchronous"))
