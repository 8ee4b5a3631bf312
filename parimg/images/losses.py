"""What the modes of 8 bit leave out of an image: lower bits, colours, alpha; and who is told of it.

`decode`, `tiff`, `presenting` and readers note what they left out of an image that they give; whoever wants to
know asks by `watch_losses`, as engines do, and nobody else pays for it. `Stored` is read from headers, in
microseconds.
"""

from __future__ import annotations

import re
import struct
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from parimg.images.damage import JPEG_FRAMES, jpeg_segments

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Loss = Literal["levels", "colours", "alpha", "video"]
"""More levels than 8 bit hold; red, green and blue; transparency; levels of videos, 8 bit in every mode."""

_HEADER = 65536  # bytes, in which every format below says what it holds
_PNM = re.compile(rb"P(?P<kind>[1-6Ff])(?:(?:\s|#[^\n]*\n)+(?:\d+)){2}(?:\s|#[^\n]*\n)+(?P<most>\d+)\s")
_PAM = re.compile(rb"(?ms)(?=.*?^DEPTH\s+(?P<depth>\d+)\s)(?=.*?^MAXVAL\s+(?P<most>\d+)\s)")
_MOST_8_BIT = 255


@dataclass(slots=True)
class Losses:
    """What was left out of the images that were decoded meanwhile."""

    wanted: frozenset[Loss]
    """What is looked for."""
    found: set[Loss] = field(default_factory=set)


_watched: ContextVar[Losses | None] = ContextVar("parimg_losses", default=None)


class Stored(NamedTuple):
    """What a file holds."""

    bits: int
    """Of a level."""
    has_colours: bool
    has_alpha: bool


@contextmanager
def watch_losses(wanted: Collection[Loss]) -> Iterator[set[Loss]]:
    """Collect what is left out of images that are decoded meanwhile.

    Examples
    --------
    >>> with watch_losses({"levels", "alpha"}) as found:
    ...     note_lost("alpha"), note_lost("colours")
    (None, None)
    >>> found
    {'alpha'}
    """
    losses = Losses(frozenset(wanted))
    token = _watched.set(losses)
    try:
        yield losses.found
    finally:
        _watched.reset(token)


def note_lost(*kinds: Loss) -> None:
    """Say that this was left out of an image."""
    if (losses := _watched.get()) is not None:
        losses.found.update(losses.wanted.intersection(kinds))


def note_losses_of_file(image_format: str, data: bytes, color: str, *, keeps_gray: bool = False) -> None:
    """Say what a colour mode left out of a file of another format than TIFF; see `note_losses`."""
    if color == "unchanged" or not _looks_for_more():
        return
    try:
        stored = stored_in(image_format, data)
    except (struct.error, IndexError):  # the decoder made something of it
        return
    note_losses(stored, color, keeps_gray=keeps_gray)


def note_losses(stored: Stored, color: str, *, keeps_gray: bool = False) -> None:
    """Say what a colour mode left out of an image.

    Parameters
    ----------
    stored : Stored
    color : {"gray", "color", "unchanged", "stack"}
    keeps_gray : bool
        Whether gray without alpha was given as stored.
    """
    if color == "unchanged" or not _looks_for_more():
        return
    if stored.bits > 8 and not (keeps_gray and not stored.has_colours and not stored.has_alpha):
        note_lost("levels")
    if stored.has_colours and color != "color":
        note_lost("colours")
    if stored.has_alpha:
        note_lost("alpha")


def _looks_for_more() -> bool:
    losses = _watched.get()
    return losses is not None and losses.found != losses.wanted


def stored_in(image_format: str, data: bytes) -> Stored:
    """What the header of a file says, as far as it does: a palette, or a format that has none, is no colour.

    Examples
    --------
    >>> stored_in("PNM", b"P5 4 4 4095 ")
    Stored(bits=12, has_colours=False, has_alpha=False)
    """
    if image_format == "PNG":
        bits, kind = data[24:26]
        return Stored(bits, kind in {2, 6}, kind in {4, 6} or b"tRNS" in data[: data.find(b"IDAT")])
    if image_format == "JPEG":
        for marker, position in jpeg_segments(data):
            if marker in JPEG_FRAMES:
                return Stored(data[position + 2], data[position + 7] >= 3, False)
    if image_format == "WebP":
        has_alpha = data[12:16] == b"VP8X" and bool(data[20] & 0x10)
        return Stored(8, False, has_alpha or (data[12:16] == b"VP8L" and bool(data[24] & 0x10)))
    if image_format == "PNM" and data[1:2] in b"Ff":
        return Stored(32, data[1:2] == b"F", False)
    if image_format == "PNM" and (found := _PNM.match(data[:_HEADER])):
        most = int(found["most"][:12]) if found["kind"] not in b"14" else 1
        return Stored(most.bit_length(), found["kind"] in b"36", False)
    if image_format == "PAM" and (found := _PAM.match(data[:_HEADER])):
        depth = int(found["depth"][:12])
        return Stored(int(found["most"][:12]).bit_length(), depth >= 3, depth in {2, 4})
    if image_format == "JPEG 2000" and (start := data.find(b"\xff\x51", 0, _HEADER)) >= 0:
        n, depth = struct.unpack_from(">HB", data, start + 38)
        return Stored((depth & 0x7F) + 1, n >= 3, n in {2, 4})
    if image_format == "AVIF" and (start := data.find(b"av1C", 0, _HEADER)) >= 0:
        flags = data[start + 6]
        return Stored(10 if flags & 0x40 else 8, not flags & 0x10, b"auxiliary:alpha" in data[:_HEADER])
    if image_format == "Radiance HDR":
        return Stored(32, True, False)
    if image_format == "BMP":
        return Stored(8, struct.unpack_from("<H", data, 28)[0] in {24, 32}, False)
    return Stored(8, False, False)
