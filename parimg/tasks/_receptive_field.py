"""What of an image a cell of a network's map depends on, by the layers of its ONNX file.

Called by `FeatureMap` for images that are run by tiles: how far around a tile to look, and where its cells begin.
"""

from __future__ import annotations

from typing import NamedTuple

from parimg.tasks._onnx_graph import Bytes, Field, read_bytes, read_fields, read_last, read_string, read_text

_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER = 7, 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TEXT, _ATTRIBUTE_INTS = 1, 3, 4, 8
_TENSOR_SIDES, _TENSOR_NAME = 1, 8
# Each value depends on those at its own place.
_LOCAL = frozenset(
    ("Abs", "Add", "BatchNormalization", "Cast", "Clip", "Concat", "Div", "Dropout", "Elu", "Erf", "Exp",
     "HardSigmoid", "HardSwish", "Identity", "LRN", "LeakyRelu", "Log", "Max", "Min", "Mul", "Neg", "PRelu", "Pow",
     "Relu", "Selu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Sum", "Tanh")
)  # fmt: skip
_WINDOWED = frozenset(("Conv", "MaxPool", "AveragePool"))


class Reach(NamedTuple):
    """Along one axis: cell i depends on the pixels from ``i * step + first`` to ``i * step + last``."""

    step: int = 1
    first: int = 0
    last: int = 0


class _Layer(NamedTuple):
    kind: str
    inputs: list[str]
    outputs: list[str]
    numbers: dict[str, list[int]]
    texts: dict[str, str]


def reach_of_cells(model: bytes) -> tuple[Reach, Reach]:
    """Reach of a cell of the output, along height and width.

    Parameters
    ----------
    model : bytes
        An ONNX file with one input and one output, as `parimg.tasks._onnx_graph.cut_model` gives it.

    Raises
    ------
    ValueError
        If a cell depends on all of the image, or on what cannot be told.
    """
    graph = list(read_fields(read_last(list(read_fields(model)), _MODEL_GRAPH)))
    weights = dict(_sides(read_bytes(field)) for field in graph if field.number == _GRAPH_INITIALIZER)
    layers = [_layer(read_bytes(field)) for field in graph if field.number == _GRAPH_NODE]
    made = {output for layer in layers for output in layer.outputs}
    known: dict[str, tuple[Reach, Reach]] = {}
    last = (Reach(), Reach())
    for layer in layers:
        # What no layer makes and no weight is, is the image.
        named = [name for name in layer.inputs if name in known or _is_image(name, weights, made)]
        given = [known.get(name, (Reach(), Reach())) for name in named]
        if not given:
            continue  # a constant
        last = _through(layer, given, weights)
        known |= dict.fromkeys(layer.outputs, last)
    return last


def _is_image(name: str, weights: dict[str, list[int]], made: set[str]) -> bool:
    return bool(name) and name not in weights and name not in made


def _through(
    layer: _Layer, given: list[tuple[Reach, Reach]], weights: dict[str, list[int]]
) -> tuple[Reach, Reach]:
    """Reach behind a layer."""
    if layer.kind in _WINDOWED:
        return _windowed(layer, given[0], 0, weights), _windowed(layer, given[0], 1, weights)
    is_joined = layer.kind == "Concat" and layer.numbers.get("axis", [0]) not in ([1], [-3])
    if layer.kind not in _LOCAL or is_joined:
        raise ValueError(f"its layer {layer.outputs[0]!r} ({layer.kind}) looks at the whole image, or may")
    merged = []
    for axis in range(2):
        reaches = [reach[axis] for reach in given]
        if len({reach.step for reach in reaches}) > 1:
            raise ValueError(f"its layer {layer.outputs[0]!r} ({layer.kind}) joins maps of several sizes")
        first, last = min(reach.first for reach in reaches), max(reach.last for reach in reaches)
        merged.append(Reach(reaches[0].step, first, last))
    return merged[0], merged[1]


def _windowed(layer: _Layer, given: tuple[Reach, Reach], axis: int, weights: dict[str, list[int]]) -> Reach:
    numbers = layer.numbers
    if layer.texts.get("auto_pad", "NOTSET") not in {"NOTSET", "VALID"} or numbers.get("ceil_mode", [0]) != [0]:
        raise ValueError(f"its layer {layer.outputs[0]!r} ({layer.kind}) pads by the size of the image")
    sides = numbers.get("kernel_shape") or weights.get(layer.inputs[1], [])[-2:]
    if len(sides) != 2:
        raise ValueError(f"its layer {layer.outputs[0]!r} ({layer.kind}) has no window of two sides")
    stride = numbers.get("strides", [1, 1])[axis]
    dilation = numbers.get("dilations", [1, 1])[axis]
    padding = numbers.get("pads", [0, 0, 0, 0])[axis]
    step, first, last = given[axis]
    begin = -padding * step
    return Reach(step * stride, first + begin, last + begin + (sides[axis] - 1) * dilation * step)


def _layer(data: Bytes) -> _Layer:
    layer = _Layer(read_text(data, _NODE_KIND), [], [], {}, {})
    for field in read_fields(data):
        if field.number == _NODE_INPUT:
            layer.inputs.append(read_string(read_bytes(field)))
        elif field.number == _NODE_OUTPUT:
            layer.outputs.append(read_string(read_bytes(field)))
        elif field.number == _NODE_ATTRIBUTE:
            attribute = list(read_fields(read_bytes(field)))
            name = read_string(read_last(attribute, _ATTRIBUTE_NAME))
            for part in attribute:
                if part.number in {_ATTRIBUTE_INT, _ATTRIBUTE_INTS}:
                    layer.numbers.setdefault(name, []).extend(_integers(part))
                elif part.number == _ATTRIBUTE_TEXT:
                    layer.texts[name] = str(read_bytes(part), "utf-8", "replace")
    return layer


def _sides(tensor: Bytes) -> tuple[str, list[int]]:
    """Name and shape of a weight."""
    fields = [field for field in read_fields(tensor) if field.number == _TENSOR_SIDES]
    return read_text(tensor, _TENSOR_NAME), [side for field in fields for side in _integers(field)]


def _integers(field: Field) -> list[int]:
    """One, or several that are packed."""
    if isinstance(field.content, int):
        return [field.content - 2**64 if field.content >= 2**63 else field.content]
    found, value, shift = [], 0, 0
    for byte in bytes(field.content):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
    return found
