"""From an image of named axes to what a colour mode wants: a channel, a slice, gray levels, red, green and blue.

Pure. Nothing is scaled unless that was asked for: what a mode cannot be made of is refused, with the option that
would make it. Called by `described`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from parimg.images.damage import UnsuitableError
from parimg.images.losses import note_lost

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.images.decode import ColorMode
    from parimg.options import Reading


def chosen_places(
    axes: str, shape: Sequence[int], reading: Reading, metadata: Mapping[str, object]
) -> dict[str, int]:
    """The places along axes that a reading fixes, before anything is read; axes of length 1 are fixed, too.

    Raises
    ------
    UnsuitableError
        There is no such channel or slice.

    Examples
    --------
    >>> from parimg.options import Reading
    >>> chosen_places("CZYX", (2, 1, 9, 9), Reading(channel="GFP"), {"channel_names": ["DAPI", "GFP"]})
    {'Z': 0, 'C': 1}
    """
    lengths = dict(zip(axes, shape, strict=True))
    places = {axis: 0 for axis, length in lengths.items() if axis not in "YXS" and length == 1}
    wanted: list[tuple[str, str, int]] = []
    if reading.z is not None:
        wanted.append(("z", "Z", reading.z))
    if reading.channel is not None:
        axis = "C" if "C" in lengths or "S" not in lengths else "S"
        number = _number_of(reading.channel, metadata) if isinstance(reading.channel, str) else reading.channel
        wanted.append(("channel", axis, number))
    for name, axis, place in wanted:
        if axis not in lengths:
            if place:  # of an image without channels, the first is the image
                raise UnsuitableError(f"is asked for {name}={place}, but its axes are {axes}")
            continue
        if place >= lengths[axis]:
            raise UnsuitableError(
                f"is asked for {name}={place}, but has {lengths[axis]} of them, 0 to {lengths[axis] - 1}"
            )
        places[axis] = place
    return places


def _number_of(channel: str, metadata: Mapping[str, object]) -> int:
    names = metadata.get("channel_names") or []
    assert isinstance(names, list), "readers give lists"  # noqa: S101
    if channel not in names:
        told = ", ".join(map(repr, names[:10])) if names else "none, and channels have numbers alone"
        raise UnsuitableError(f"has no channel {channel!r:.80}; those that it names are {told}")
    return names.index(channel)


def as_levels(pixels: npt.NDArray[Any], percentile: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Levels of 8 bit: those at two percentiles of the image become 0 and 255, what is between them even steps.

    Of an image whose levels at both are the same, all above are 255, all others 0. NaN is 0, and counts nowhere.

    Examples
    --------
    >>> as_levels(np.array([[100, 200, 300, 1100]]), (0, 100)).tolist()
    [[0, 26, 51, 255]]
    """
    if pixels.dtype.kind not in "biuf":
        raise UnsuitableError(f"holds {pixels.dtype}, of which no percentile can be taken")
    finite = pixels if pixels.dtype.kind != "f" else pixels[np.isfinite(pixels)]
    if not finite.size:
        return np.zeros(pixels.shape, np.uint8)
    low, high = (float(level) for level in np.percentile(finite, percentile))
    if low == high:
        return np.where(pixels > high, np.uint8(255), np.uint8(0))
    # Half a million pixels take 4 ms so; in float64 it is twice that.
    scaled: npt.NDArray[Any] = pixels.astype(np.float32 if pixels.dtype.itemsize <= 2 else np.float64)
    np.subtract(scaled, low, out=scaled)
    np.multiply(scaled, 255 / (high - low), out=scaled)
    np.nan_to_num(scaled, copy=False, nan=0, posinf=255, neginf=0)
    np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled)
    return scaled.astype(np.uint8)


def present(pixels: npt.NDArray[Any], axes: str, color: ColorMode, reading: Reading) -> npt.NDArray[Any]:
    """What a colour mode is given.

    Parameters
    ----------
    pixels : ndarray
        Without the axes that `chosen_places` fixes.
    axes : str
        A letter for each axis, which `check_axes` has looked at.
    color : {"gray", "color", "unchanged", "stack"}
    reading : Reading

    Returns
    -------
    ndarray
        As `parimg.images.decode.decode` says: shape (h, w), (h, w, channels), or in ``"stack"`` mode (d, h, w).

    Raises
    ------
    UnsuitableError
        The mode cannot be made of it; the message goes on behind the image's name.
    """
    order = "".join(axis for axis in "ZYXCS" if axis in axes)
    pixels = pixels.transpose([axes.index(axis) for axis in order])
    if (
        color in {"gray", "color", "stack"}
        and pixels.ndim == 3
        and order[-1] == "S"
        and pixels.shape[-1] in {2, 4}
    ):
        pixels = pixels[..., :-1]
        note_lost("alpha")
    if order[-1] == "S" and pixels.shape[-1] == 1:
        pixels, order = pixels[..., 0], order[:-1]
    if order[-1] == "S" and color in {"gray", "stack"}:
        pixels = _gray(pixels, reading)
        note_lost("colours")
    if reading.percentile is not None:
        pixels = as_levels(pixels, reading.percentile)
    if color in {"gray", "color"}:
        pixels = _eight_bits(pixels)
        if color == "color" and pixels.ndim == 2:
            pixels = np.dstack([pixels] * 3)
    return np.require(pixels, requirements=["C", "W", "O"])


def check_axes(lengths: Mapping[str, int], color: ColorMode) -> None:
    """Refuse axes that a colour mode has no use for, before anything is read.

    Parameters
    ----------
    lengths : mapping of str to int
        By axis, without those that `chosen_places` fixes.
    color : {"gray", "color", "unchanged", "stack"}

    Raises
    ------
    UnsuitableError
    """
    for axis, n in lengths.items():
        if axis not in "YXSZC":
            raise UnsuitableError(
                f"holds {n} images along {axis}; name one of them by its part, as `parimg list` tells, or give "
                "the file's path alone, which stands for all"
            )
    if "Z" in lengths and color != "stack":
        raise UnsuitableError(
            f"is a volume of {lengths['Z']} slices; take one by z=0, or all by project='max'; volumes are read as "
            "they are with color='stack'"
        )
    if "C" in lengths and (color != "unchanged" or "S" in lengths):
        raise UnsuitableError(f"has {lengths['C']} channels, which are no colours; choose one by channel=0")
    if "S" in lengths and "Z" in lengths:
        raise UnsuitableError("is a volume in colours; choose one of them by channel=0")


def _gray(pixels: npt.NDArray[Any], reading: Reading) -> npt.NDArray[Any]:
    """Gray of red, green and blue, as OpenCV weights them; what is not 8 bit only on its way to that."""
    import cv2

    if pixels.dtype != np.uint8 and reading.percentile is None:
        _eight_bits(pixels)  # which refuses it
    if pixels.dtype in (np.uint8, np.uint16, np.float32):
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY))
    weights = np.array([0.299, 0.587, 0.114])
    return np.asarray(pixels[..., :3] @ weights)


def _eight_bits(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.view(np.uint8) * np.uint8(255)
    raise UnsuitableError(
        f"holds {pixels.dtype}, which is not made 8 bit unasked; percentile=(1, 99.8) says which levels become "
        "black and white"
    )
