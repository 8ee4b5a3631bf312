"""Pages and frames behind the first one: how many there are, and who is told that they were left out.

`decode` gives one image of a file. Called by it, and by whoever wants to know (`watch_frames`); everyone else
gets a warning of Python's. Loads Pillow only for files that may have frames.
"""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_watched: ContextVar[list[int] | None] = ContextVar("parimg_frames", default=None)


@contextmanager
def watch_frames() -> Iterator[list[int]]:
    """Collect the numbers of pages of the files that are decoded meanwhile and of which only the first is given.

    Examples
    --------
    >>> with watch_frames() as found:
    ...     note_frames(1), note_frames(3)
    (None, None)
    >>> found
    [3]
    """
    found: list[int] = []
    token = _watched.set(found)
    try:
        yield found
    finally:
        _watched.reset(token)


def note_frames(n: int) -> None:
    """Say how many pages a file has of which the first is given."""
    if n <= 1:
        return
    found = _watched.get()
    if found is not None:
        found.append(n)
    else:
        warnings.warn(
            "only the first page of an image of several was read; color='stack' gives all pages of a TIFF file",
            UserWarning,
            stacklevel=4,
        )


def count_frames(kind: str, data: bytes) -> int:
    """Frames of a GIF, and of PNG and WebP where they are animations; 1 where Pillow cannot tell."""
    # The plugins themselves: `PIL.Image.open` warns of large images, or refuses them.
    try:
        if kind == "GIF":
            from PIL import GifImagePlugin

            return GifImagePlugin.GifImageFile(io.BytesIO(data)).n_frames
        if kind == "PNG" and b"acTL" in data[:65536]:
            from PIL import PngImagePlugin

            return PngImagePlugin.PngImageFile(io.BytesIO(data)).n_frames
        if kind == "WebP" and data[12:16] == b"VP8X" and data[20] & 2:
            from PIL import WebPImagePlugin

            return int(getattr(WebPImagePlugin.WebPImageFile(io.BytesIO(data)), "n_frames", 1))
    except Exception:  # their errors have no common base; what is damaged, the decoder tells
        return 1
    return 1
