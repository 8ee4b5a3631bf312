"""What the axes of an array are, where its file names them by words or not at all.

Called by the modules of formats that hold arrays of any number of axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from parimg.errors import ImagePartError

if TYPE_CHECKING:
    import numpy as np

_WORDS = {
    "time": "T", "times": "T", "t": "T", "frame": "T", "frames": "T",
    "channel": "C", "channels": "C", "c": "C", "band": "C", "bands": "C", "wavelength": "C",
    "depth": "Z", "z": "Z", "plane": "Z", "slice": "Z",
    "y": "Y", "row": "Y", "rows": "Y", "height": "Y", "lat": "Y", "latitude": "Y",
    "x": "X", "column": "X", "columns": "X", "width": "X", "lon": "X", "longitude": "X",
    "s": "S", "sample": "S", "samples": "S", "rgb": "S", "rgba": "S",
}  # fmt: skip
_FREE = "IJKLMNOPQR"


def guess_axes(shape: Sequence[int], dtype: np.dtype[Any], names: Sequence[str | None] | None = None) -> str:
    """Letters for the axes of an array.

    Parameters
    ----------
    shape : sequence of int
    dtype : numpy.dtype
    names : sequence of str, optional
        What the file calls them; what is no word for an axis is taken for a number of images.

    Returns
    -------
    str
        The last two axes are Y and X, where names do not say otherwise; before three or four samples of 8 or 16
        bits, those before. Others are I, J, and so on.

    Raises
    ------
    ImagePartError
        There are less than two axes.

    Examples
    --------
    >>> import numpy as np
    >>> guess_axes((9, 480, 640), np.dtype("u2")), guess_axes((480, 640, 3), np.dtype("u1"))
    ('IYX', 'YXS')
    >>> guess_axes((9, 480, 640), np.dtype("f4"), ["time", "lat", "lon"])
    'TYX'
    """
    if len(shape) < 2:
        raise ImagePartError(f"is an array of {len(shape)} axes, wanted an image of two or more")
    letters: list[str | None] = [None] * len(shape)
    for place, name in enumerate(names or ()):
        letter = _WORDS.get(str(name).lower())
        letters[place] = letter if letter not in letters else None
    if "Y" not in letters or "X" not in letters:
        letters = [letter if letter in {"Z", "C", "T"} else None for letter in letters]
        open_places = [place for place, letter in enumerate(letters) if letter is None]
        has_samples = (
            len(open_places) > 2 and open_places[-1] == len(shape) - 1 and shape[-1] in {3, 4}
            and dtype.kind == "u" and dtype.itemsize <= 2 and shape[-2] > 4
        )  # fmt: skip
        if has_samples:
            letters[open_places.pop()] = "S"
        if len(open_places) < 2:
            letters = [None] * len(shape)
            open_places = list(range(len(shape)))
        letters[open_places[-2]], letters[open_places[-1]] = "Y", "X"
    free = iter(_FREE)
    return "".join(letter or next(free) for letter in letters)
