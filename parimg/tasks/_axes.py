"""What tasks draw on matplotlib's axes: images in their own pixels, boxes, captions that are no formulas.

It imports no matplotlib: whoever gives axes has it.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from parimg.console import visible

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from parimg.record import Record

BOX_COLOR = "#ff5a1f"
_LONGEST = 1000  # px that are drawn of an image; a figure on a screen has no more
_VALUES = 3  # of a record in its caption
_NAME = 40  # characters of a caption's name
_LINE, _LINES = 36, 8  # characters and lines of what is said where an image is missing


def show_image(ax: Axes, image: npt.NDArray[Any] | None, missing: str = "the image is not at hand") -> None:
    """Show an image, whatever its dtype, in coordinates of its own pixels; where there is none, say so."""
    ax.set_axis_off()
    if image is None:
        said = "\n".join(textwrap.wrap(missing, _LINE)[:_LINES])
        written = ax.text(0.5, 0.5, said, ha="center", va="center", color="gray", fontsize=8, parse_math=False)
        written.set_transform(ax.transAxes)
        written.set_in_layout(False)  # else a long text would take the room of all other axes
        return
    from parimg.images.display import displayed

    picture = displayed(image, _LONGEST)
    height, width = image.shape[-2:] if image.ndim == 2 or image.shape[-1] > 4 else image.shape[-3:-1]
    ax.imshow(picture, extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def draw_box(ax: Axes, box: Sequence[int], label: str = "") -> None:
    """Draw a box ``(y1, x1, y2, x2)``, half open, into an image."""
    from matplotlib.patches import Rectangle

    y1, x1, y2, x2 = box
    ax.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=BOX_COLOR, linewidth=2))
    if label:
        ax.text(x1, y1, label, color="white", backgroundcolor=BOX_COLOR, fontsize=7, va="bottom", parse_math=False)


def set_caption(ax: Axes, text: str) -> None:
    """Write above axes, character by character: a name like ``$x$.png`` is no formula."""
    ax.set_title(visible(text, lines=True), fontsize=8, parse_math=False)


def caption_of(record: Record) -> str:
    """An image's name, and the first of its values, or why it failed."""
    name = os.path.basename(record.key.rstrip("/")) or record.key
    name = name if len(name) <= _NAME else f"...{name[-_NAME:]}"
    if not record.ok:
        return f"{name}\n{record.error}"
    values = [(column, value) for column, value in record.columns.items() if isinstance(value, int | float)]
    said = ", ".join(
        f"{column} {value:.4g}" if isinstance(value, float) else f"{column} {value}"
        for column, value in values[:_VALUES]
    )
    return f"{name}\n{said}" if said else name
