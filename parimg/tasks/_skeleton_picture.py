"""Pictures of skeletons in their images, for `SkeletonGraph`: wide lines, and dots where they end or meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parimg.images.display import stretched

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from parimg.kernels.skeletons.graph import PixelGraph

_TIP, _PATH, _JUNCTION = (114, 31, 129), (241, 96, 93), (252, 253, 191)
"""Red, green, blue: the ends and the middle of the colour map magma."""
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_LEAST_SIDE = 512  # px of the longer side; smaller images are enlarged by a whole number
_SIDE_A_LINE = 400  # px of the longer side for each of a line's width, so that it is seen in the whole picture
_MANY_DOTS = 50  # on axes; more of them are drawn smaller
_SHIFT = 4  # bits of OpenCV's coordinates behind the point


def draw_overlay(image: npt.NDArray[Any], graph: PixelGraph) -> npt.NDArray[np.uint8]:
    """Draw a skeleton into its image: paths red, dots at tips purple, at junctions yellow.

    Parameters
    ----------
    image : ndarray, shape (height, width) or (depth, height, width)
        Gray levels; of a volume the largest along the first axis.
    graph : PixelGraph

    Returns
    -------
    ndarray of uint8, shape (height * n, width * n, 3)
        Red, green, blue. Levels are stretched to the range of a byte. n is 1 for images of which a side has 512
        pixels or more; smaller ones are enlarged by a whole number.

    Examples
    --------
    >>> import numpy as np
    >>> from parimg.kernels.skeletons.graph import pixel_graph
    >>> image = np.eye(128)
    >>> picture = draw_overlay(image, pixel_graph(image))
    >>> picture.shape, picture[258, 258].tolist(), picture[2, 2].tolist()
    ((512, 512, 3), [241, 96, 93], [114, 31, 129])
    """
    import cv2
    import numpy as np

    gray = stretched(image.max(axis=0, initial=_lowest(image)) if image.ndim == 3 else image)
    longest = max(gray.shape)
    if not gray.size:
        return np.zeros((*gray.shape, 3), np.uint8)
    factor = -(-_LEAST_SIDE // longest)
    picture = np.repeat(np.kron(gray, np.ones((factor, factor), np.uint8))[:, :, None], 3, axis=2)
    width = max(2, round(longest * factor / _SIDE_A_LINE))
    centers = (graph.coordinates[:, :-3:-1] + 0.5) * factor - 0.5  # x, y
    points = np.rint(centers * 2**_SHIFT).astype(np.int32)
    starts = np.repeat(np.arange(len(graph)), graph.degrees)
    is_first = starts < graph.indices
    links = np.stack([points[starts[is_first]], points[graph.indices[is_first]]], axis=1)
    cv2.polylines(
        picture, list(links), isClosed=False, color=_PATH, thickness=width, lineType=cv2.LINE_8, shift=_SHIFT
    )
    for is_one, color, outline in ((graph.degrees < 2, _TIP, _WHITE), (graph.degrees > 2, _JUNCTION, _BLACK)):
        for radius, paint in ((1.5 * width + 1, outline), (1.5 * width, color)):
            for center in points[is_one].tolist():
                cv2.circle(picture, center, round(radius * 2**_SHIFT), paint, cv2.FILLED, cv2.LINE_8, _SHIFT)
    return picture


def plot_on_axes(ax: Axes, graph: PixelGraph, image: npt.NDArray[Any] | None = None) -> None:
    """Draw a skeleton on axes, over its image if given, in the colours of `draw_overlay`.

    Of a volume the first axis is looked along.
    """
    import numpy as np
    from matplotlib.collections import LineCollection

    from parimg.tasks._axes import show_image

    height, width = graph.shape[-2:]
    show_image(ax, np.zeros((height, width), np.uint8) if image is None else image)
    points = graph.coordinates[:, :-3:-1]  # x, y
    starts = np.repeat(np.arange(len(graph)), graph.degrees)
    is_first = starts < graph.indices
    links = np.stack([points[starts[is_first]], points[graph.indices[is_first]]], axis=1)
    ax.add_collection(LineCollection(list(links), colors=[_on_axes(_PATH)], linewidths=1.5), autolim=False)
    for is_one, color, edge, name in (
        (graph.degrees < 2, _TIP, "white", "tips"),
        (graph.degrees > 2, _JUNCTION, "black", "junctions"),
    ):
        if is_one.any():
            x, y = points[is_one].T
            size = 14 if len(x) < _MANY_DOTS else 7
            dots = ax.scatter(x, y, s=size, color=[_on_axes(color)], edgecolors=edge, linewidths=0.3, label=name)
            dots.set_zorder(3)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _on_axes(color: tuple[int, int, int]) -> tuple[float, ...]:
    return tuple(part / 255 for part in color)


def _lowest(image: npt.NDArray[Any]) -> Any:
    """What no level of an image without depth is above."""
    import numpy as np

    return -np.inf if image.dtype.kind == "f" else False if image.dtype == bool else np.iinfo(image.dtype).min
