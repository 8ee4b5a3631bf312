"""Zarr: OME-Zarr of versions 0.4 and 0.5, plates and fields among them, and plain arrays, on disks and in stores.

Called by the registry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import FsspecStore

from parimg.errors import ImagePartError
from parimg.files.retrying import retried_async
from parimg.images.damage import DamagedError
from parimg.images.read import local_path
from parimg.images.readers.address import Address
from parimg.images.readers.axes import guess_axes
from parimg.images.readers.part import Index, OpenedFile, StoredImage
from parimg.images.readers.units import MICROMETRE, lengths

if TYPE_CHECKING:
    import numpy.typing as npt
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

_LABELS = "labels"  # OME's group of masks: named, not listed


def open_file(uri: str) -> OpenedFile:
    """Open a Zarr group or array."""
    return _ZarrFile(uri)


class _PatientStore(FsspecStore):
    """A store of objects, each of which is asked for again where that failed for now: there are very many."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        ask = super().get
        return await retried_async(lambda: ask(key, prototype, byte_range))

    async def exists(self, key: str) -> bool:
        ask = super().exists
        return await retried_async(lambda: ask(key))

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        ask = super().list_dir

        async def every() -> list[str]:
            return [name async for name in ask(prefix)]

        for name in await retried_async(every):
            yield name


class _ZarrFile(OpenedFile):
    def __init__(self, uri: str) -> None:
        path = local_path(uri)
        try:
            store = _PatientStore.from_url(uri, read_only=True) if path is None else path
            self._root = zarr.open(store=store, mode="r")
        except zarr.errors.NodeNotFoundError:
            raise DamagedError("there is no Zarr group or array in it") from None

    def addresses(self) -> Iterator[Address]:
        return (Address(path) for path in _image_paths(self._root, ""))

    def image(self, address: Address) -> tuple[StoredImage, frozenset[str]]:
        path = address.path.strip("/")
        if not path:
            path = next(_image_paths(self._root, ""), "")
        node = _node(self._root, path)
        if isinstance(node, zarr.Array):
            return self._array(node, path), frozenset()
        found = next(_image_paths(node, ""), None)
        if found is None:
            raise ImagePartError(f"has no image in the group {path!r:.100}")
        if found:  # the first field of a well, the first image of a group
            node = _node(node, found)
            path = f"{path}/{found}".strip("/")
        if isinstance(node, zarr.Array):
            return self._array(node, path), frozenset()
        level = address.indices.get("level", 0)
        levels = _ome(node)["multiscales"][0]["datasets"]
        if level >= len(levels):
            raise ImagePartError(f"names level={level}, but has {len(levels)} levels, 0 to {len(levels) - 1}")
        return _ZarrImage(node[levels[level]["path"]], _ome(node), level), frozenset(["level"])

    def _array(self, array: zarr.Array[Any], path: str) -> StoredImage:
        """An array, as a level of the image that the group above it describes if there is one."""
        above, _, name = path.rpartition("/")
        if path:
            group = _node(self._root, above)
            ome = _ome(group)
            for level, dataset in enumerate((ome.get("multiscales") or [{"datasets": []}])[0]["datasets"]):
                if dataset["path"] == name:
                    return _ZarrImage(array, ome, level)
        return _ZarrImage(array, {}, 0)

    def close(self) -> None:
        self._root.store.close()


class _ZarrImage(StoredImage):
    def __init__(self, array: zarr.Array[Any], ome: Mapping[str, Any], level: int) -> None:
        self._array = array
        self.shape = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        scale = (ome.get("multiscales") or [None])[0]
        units: dict[str, object] = {}
        if scale is None:
            named: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
            self.axes = guess_axes(self.shape, self.dtype, named)
        else:
            # Version 0.3 names axes by letters alone.
            told = [axis if isinstance(axis, dict) else {"name": axis} for axis in scale.get("axes", "tczyx")]
            self.axes = guess_axes(self.shape, self.dtype, [str(axis["name"]) for axis in told])
            units = {axis: one.get("unit") for axis, one in zip(self.axes, told, strict=True)}
            sizes = _scales(scale, level, len(self.axes))
            self.pixel_size = lengths(
                {axis: size for axis, size in zip(self.axes, sizes, strict=True) if axis in "ZYX"}, units
            )
        self.unit = MICROMETRE if self.pixel_size else None
        blocks = getattr(array, "shards", None) or array.chunks
        by_axis = dict(zip(self.axes, blocks, strict=True))
        self.tile_shape = int(by_axis["Y"]), int(by_axis["X"])
        self.metadata = {**_plain(array.attrs.asdict()), **_told(ome)}

    def read(self, index: Index) -> npt.NDArray[Any]:
        return np.asarray(self._array[index])


def _node(root: Any, path: str) -> Any:
    if not path:
        return root
    try:
        if isinstance(root, zarr.Array):
            raise KeyError(path)
        return root[path]
    except KeyError:
        first = [found or "." for found, _ in zip(_image_paths(root, ""), range(5), strict=False)]
        raise ImagePartError(
            f"has no group or array {path!r:.100}; its images are {', '.join(first) or 'none'}"
            + (", ..." if len(first) == 5 else "")
        ) from None


def _ome(group: Any) -> Mapping[str, Any]:
    """OME's attributes, which version 0.5 has one level deeper."""
    attributes = group.attrs.asdict() if not isinstance(group, zarr.Array) else {}
    found: Mapping[str, Any] = attributes.get("ome", attributes)
    return found


def _image_paths(node: Any, path: str) -> Iterator[str]:
    """The images below a node: fields of plates, series, multiscale images, arrays that belong to none."""
    if isinstance(node, zarr.Array):
        if node.ndim >= 2 and node.dtype.kind in "biuf":
            yield path
        return
    ome = _ome(node)
    below = f"{path}/" if path else ""
    if ome.get("multiscales"):
        yield path
    elif "plate" in ome:
        for well in ome["plate"]["wells"]:
            if (found := _child(node, well["path"])) is None:
                yield below + well["path"]  # which the plate names, but has not: to be told where it is read
            else:
                yield from _image_paths(found, below + well["path"])
    elif "well" in ome:
        yield from (f"{below}{field['path']}" for field in ome["well"]["images"])
    else:
        for name in sorted(node.keys(), key=lambda name: (len(name), name) if name.isdigit() else (99, name)):
            if name not in {_LABELS, "OME"}:
                yield from _image_paths(_child(node, name), below + name)


def _child(node: Any, path: str) -> Any:
    """A group or array below a group; None if it is not there."""
    try:
        return node[path]
    except KeyError:
        return None


def _scales(scale: Mapping[str, Any], level: int, n_axes: int) -> list[float]:
    """Size of a pixel along each axis, from the level's own transformations and those of all levels."""
    found = [1.0] * n_axes
    is_told = False
    levels = scale["datasets"][level].get("coordinateTransformations") or []
    for step in (*levels, *(scale.get("coordinateTransformations") or [])):
        if step.get("type") == "scale" and len(step["scale"]) == n_axes:
            found = [a * b for a, b in zip(found, step["scale"], strict=True)]
            is_told = True
    return found if is_told else [0.0] * n_axes


def _told(ome: Mapping[str, Any]) -> dict[str, object]:
    found = _plain(ome)
    names = [channel.get("label", "") for channel in (ome.get("omero") or {}).get("channels", [])]
    if any(names):
        found["channel_names"] = names
    if scales := ome.get("multiscales"):
        found |= {"name": scales[0].get("name")} if scales[0].get("name") else {}
    return found


def _plain(values: Mapping[str, Any]) -> dict[str, object]:
    return {name: value for name, value in values.items() if isinstance(value, str | int | float | bool)}
