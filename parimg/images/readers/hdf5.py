"""HDF5: each data set of two or more axes of numbers is an image.

Called by the registry.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from parimg.errors import ImagePartError
from parimg.images.readers.address import Address
from parimg.images.readers.axes import guess_axes
from parimg.images.readers.opening import open_or_path
from parimg.images.readers.part import Index, OpenedFile, StoredImage
from parimg.images.readers.units import MICROMETRE, lengths

if TYPE_CHECKING:
    import numpy.typing as npt


def open_file(uri: str) -> OpenedFile:
    """Open an HDF5 file."""
    return _HDF5File(uri)


@contextmanager
def _without_collection(is_remote: bool) -> Iterator[None]:
    """Have Python collect no cycles while h5py waits for a store.

    It holds its lock then, and the thread that speaks to the store would wait for that lock for ever if it came to
    collect an object of h5py's, as was seen where requests had failed.
    """
    was_enabled = is_remote and gc.isenabled()
    if was_enabled:
        gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _HDF5File(OpenedFile):
    def __init__(self, uri: str) -> None:
        source = open_or_path(uri)
        self._is_remote = not isinstance(source, str)
        with _without_collection(self._is_remote):
            self._file = h5py.File(source, "r")
        self._paths: list[str] | None = None

    def _images(self) -> list[str]:
        if self._paths is None:
            found: list[str] = []

            def visit(name: str, node: object) -> None:
                if _is_image(node):
                    found.append(f"/{name}")

            with _without_collection(self._is_remote):
                self._file.visititems(visit)
            self._paths = found
        return self._paths

    def addresses(self) -> Sequence[Address]:
        return [Address(path) for path in self._images()]

    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        with _without_collection(self._is_remote):
            return _HDF5Image(self._node(address), self._is_remote), frozenset()

    def _node(self, address: Address) -> Any:
        if not address.path:
            if not self._images():
                raise ImagePartError("holds no data set of two or more axes of numbers")
            return self._file[self._images()[0]]
        try:
            node = self._file[address.path]
        except KeyError:
            node = None
        if not _is_image(node):
            what = "has no data set" if node is None else "has no numbers of two or more axes in"
            known = ", ".join(self._images()[:5])
            more = ", ..." if len(self._images()) > 5 else ""
            raise ImagePartError(f"{what} {address.path!r:.100}; its images are {known or 'none'}{more}")
        return node

    def close(self) -> None:
        self._file.close()


def _is_image(node: object) -> bool:
    return isinstance(node, h5py.Dataset) and len(node.shape or ()) >= 2 and node.dtype.kind in "biuf"


class _HDF5Image(StoredImage):
    def __init__(self, dataset: Any, is_remote: bool) -> None:
        self._dataset = dataset
        self._is_remote = is_remote
        self.shape = tuple(dataset.shape)
        self.dtype = np.dtype(dataset.dtype)
        labels = [dimension.label for dimension in dataset.dims]
        self.axes = guess_axes(self.shape, self.dtype, labels if any(labels) else None)
        # As Fiji's plugins, ilastik and elf write it: one number an axis, and its unit.
        sizes = np.atleast_1d(dataset.attrs.get("element_size_um", ()))
        spatial = [axis for axis in self.axes if axis in "ZYX"]
        if sizes.dtype.kind in "iuf" and 0 < len(spatial) <= len(sizes):
            told = dict(zip("ZYX"[-len(sizes) :], sizes.tolist(), strict=False))
            self.pixel_size = lengths(told, dict.fromkeys("ZYX", MICROMETRE))
            self.unit = MICROMETRE
        # A data set without chunks is read row by row.
        blocks = dict(zip(self.axes, dataset.chunks or self.shape, strict=True))
        self.tile_shape = (blocks["Y"], blocks["X"]) if dataset.chunks else (1, blocks["X"])
        self.metadata = {**_attributes(dataset.file), **_attributes(dataset.parent), **_attributes(dataset)}

    def read(self, index: Index) -> npt.NDArray[Any]:
        with _without_collection(self._is_remote):
            return np.asarray(self._dataset[index])


def _attributes(node: Any) -> dict[str, object]:
    """Of a group or data set, what is text or a number."""
    found: dict[str, object] = {}
    for name, value in node.attrs.items():
        plain = value.item() if isinstance(value, np.generic | np.ndarray) and np.size(value) == 1 else value
        if isinstance(plain, bytes):
            plain = plain.decode("utf-8", "replace")
        if isinstance(plain, str | int | float | bool):
            found[name] = plain
    return found
