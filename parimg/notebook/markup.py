"""HTML of plain values, for ``_repr_html_``: boxes with facts, bars, tables and pictures.

Text from outside is escaped here and nowhere else: a `str` that is no `Markup` never becomes one. There are no
scripts, and colours are those of the notebook's theme.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from parimg.console import visible

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LEAST_SIDE = 256  # px, from which on pixels are seen
_LONGEST = 300  # characters of a text
_MUTED = "opacity:.7"
_BORDER = "border:1px solid rgba(128,128,128,.35)"
_CELL = "text-align:left;padding:1px 12px 1px 0;vertical-align:top"
_SECOND, _MINUTE, _HOUR, _DAY = 0.9995, 59.95, 3600, 86_400  # a little less where that is rounded up
_DONE, _FAILED = "#3b78b5", "#d03a2b"


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Any value as text: escaped, on one line, of at most 300 characters, numbers to five places; markup as it is.

    Examples
    --------
    >>> text("<b>")
    '&lt;b&gt;'
    """
    if isinstance(value, Markup):
        return value
    plain = f"{value:.5g}" if isinstance(value, float) else str(value)
    plain = plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."
    return Markup(escape(visible(plain)))


def box(title: object, state: object, parts: Iterable[object]) -> Markup:
    """One object: its title, its state beside it, and what there is to tell below."""
    inner = "".join(f"<div>{text(part)}</div>" for part in parts if part)
    return Markup(
        f'<div style="{_BORDER};border-radius:4px;padding:6px 10px;margin:2px 0;max-width:60em;line-height:1.4">'
        f'<div><b>{text(title)}</b> <span style="{_MUTED}">{text(state)}</span></div>{inner}</div>'
    )


def bar(ok: int, failed: int, total: int | None) -> Markup:
    """How much is done: what went well blue, what failed red; of an unknown total nothing."""
    if not total:
        return Markup()
    shares = ((_DONE, ok / total), (_FAILED, failed / total))
    # A failure among a million is seen, too.
    parts = "".join(
        f'<div style="background:{color};width:{min(share, 1):.2%};min-width:2px"></div>'
        for color, share in shares
        if share
    )
    style = (
        "display:flex;height:8px;border-radius:3px;overflow:hidden;margin:4px 0;background:rgba(128,128,128,.25)"
    )
    return Markup(f'<div style="{style}">{parts}</div>')


def facts(values: Mapping[str, object]) -> Markup:
    """Names and values, a line each; those that are None or empty are left out."""
    rows = "".join(
        _row([f'<td style="{_CELL};{_MUTED}">{text(name)}</td>', f'<td style="{_CELL}">{text(value)}</td>'])
        for name, value in values.items()
        if value is not None and value != ""
    )
    return _table(rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table; nothing without rows."""
    head = "".join(f'<th style="{_CELL};{_MUTED};font-weight:normal">{text(column)}</th>' for column in columns)
    body = "".join(_row(f'<td style="{_CELL}">{text(cell)}</td>' for cell in row) for row in rows)
    return _table(_row([head]) + body if body else "")


def picture(data: bytes, caption: object = "", *, width: int) -> Markup:
    """A JPEG or PNG file, so many pixels wide, with a caption; nothing of an empty one."""
    if not data:
        return Markup()
    shown = f'<img src="{address(data)}" alt="" style="display:block;width:{width}px;max-width:100%">'
    caption = f'<span style="{_MUTED};font-size:85%">{text(caption)}</span>' if caption else ""
    layout = "display:inline-block;margin:4px 8px 0 0;vertical-align:top;overflow-wrap:anywhere"
    style = f"{layout};width:{width}px;max-width:100%"
    return Markup(f'<div style="{style}">{shown}{caption}</div>')


def row(parts: Iterable[Markup]) -> Markup:
    """Pictures beside each other."""
    return Markup("".join(parts))


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Red, green and blue bytes of shape (height, width, 3) as a PNG file; small images are enlarged."""
    import cv2
    import numpy as np

    factor = max(1, _LEAST_SIDE // max(pixels.shape[:2]))
    larger = np.repeat(np.repeat(pixels[:, :, ::-1], factor, axis=0), factor, axis=1)
    return bytes(cv2.imencode(".png", larger)[1])


def address(data: bytes) -> str:
    """A JPEG or PNG file as an address that holds all of it; empty for an empty one."""
    if not data:
        return ""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def duration(seconds: float) -> str:
    """A time in units that fit.

    Examples
    --------
    >>> duration(0.0123), duration(75), duration(7260), duration(200_000)
    ('12.3 ms', '1 min 15 s', '2 h 1 min', '2 d 7 h')
    """
    if seconds < _SECOND:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < _MINUTE:
        return f"{seconds:.3g} s"
    seconds = round(seconds)
    if seconds < _HOUR:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h {seconds % _HOUR // 60} min"
    return f"{seconds // _DAY} d {seconds % _DAY // _HOUR} h"


def _row(cells: Iterable[str]) -> str:
    return f'<tr style="background:none">{"".join(cells)}</tr>'


def _table(rows: str) -> Markup:
    return Markup(f'<table style="border-collapse:collapse;margin:2px 0">{rows}</table>' if rows else "")
