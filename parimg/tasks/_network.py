"""A convolutional network of an ONNX file: read, cut behind a layer, and run by OpenCV.

Called by `feature_map` on the client, which reads it, and on engines, which run it.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from parimg.errors import ImageError, TaskError

if TYPE_CHECKING:
    import cv2
    import numpy as np
    import numpy.typing as npt

N_COLORS = 3
"""Channels of the images that a network is given."""


class Model(NamedTuple):
    """An ONNX model with one input and one output; an array, because large arrays become shared objects."""

    label: str
    data: npt.NDArray[np.uint8]
    input_name: str
    output_name: str


def read_model(name: str, layer: str | None) -> Model:
    """Read the model of a path or URL, cut behind a layer.

    Raises
    ------
    TaskError
        If it cannot be read, has no such layer, or is not for RGB images.
    """
    import numpy as np

    from parimg.images.read import read_bytes
    from parimg.tasks._onnx_graph import cut_model

    try:
        data = read_bytes(name if "://" in name else os.path.abspath(name))
    except ImageError as error:
        raise TaskError(f"the model cannot be read: {error}") from error
    try:
        cut = cut_model(data, layer)
    except ValueError as error:
        raise TaskError(f"the model {name!r} cannot be used: {error}") from error
    if len(cut.input_shape) > 1 and cut.input_shape[1] not in {None, N_COLORS}:
        raise TaskError(
            f"the model {name!r} cannot be used: its input {cut.input_name!r} has {cut.input_shape[1]} "
            "channels, wanted 3, an RGB image"
        )
    label = repr(name) if layer is None else f"{name!r}, layer {layer!r}"
    return Model(label, np.frombuffer(cut.data, np.uint8), cut.input_name, cut.output_name)


class Network:
    """OpenCV's network of a model; one image at a time, whichever thread it comes from."""

    def __init__(self, model: Model) -> None:
        import cv2

        self._model = model
        self._one_at_a_time = threading.Lock()
        try:
            self._net: cv2.dnn.Net = cv2.dnn.readNetFromONNX(model.data)
        except cv2.error as error:
            raise TaskError(
                f"the model {model.label} cannot be loaded by OpenCV {cv2.__version__}: {_reason(error)}"
            ) from None

    def run(self, blob: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map of a batch of one image of shape ``(1, 3, height, width)``."""
        import cv2
        import numpy as np

        name = self._model.label
        size = f"{blob.shape[2]} x {blob.shape[3]}"
        try:
            with self._one_at_a_time:
                self._net.setInput(blob, self._model.input_name)
                # Its memory is the network's, which the next image may write over.
                found = np.array(self._net.forward(self._model.output_name), np.float32)
        except cv2.error as error:
            raise TaskError(f"the model {name} cannot be run on an image of {size}: {_reason(error)}") from None
        if found.ndim != 4 or found.shape[0] != 1 or not found.size:
            raise TaskError(
                f"the model {name} gives an array of shape {found.shape} for an image of {size}, wanted a feature "
                "map, (1, channels, height, width); name a layer before its pooling"
            )
        return np.asarray(found[0])


def _reason(error: Exception) -> str:
    """What OpenCV says, without the place in its source."""
    return " ".join((getattr(error, "err", "") or str(error)).split())
