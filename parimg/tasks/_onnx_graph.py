"""Make any layer of an ONNX model its only output, by reading the file's own encoding.

OpenCV 5 refuses names of layers, and for the names of inner tensors it gives whatever lies in their reused
memory by the end of the run, without a word. So the model is cut instead: only the nodes that the layer needs
are kept, and the layer becomes the output. Names are those of the file, as model viewers show them, whatever
OpenCV calls them, and the part behind the layer is not run. Called by `FeatureMap`; `parimg.demo` writes a model.
"""

# Strategy: an ONNX file is one protocol buffer. A message is a row of fields, each a key (number and kind) and
# its content; text and messages inside are byte strings with their length before them. So a message is read
# as a list of fields, filtered, and written again; the content of what is kept is never looked into further
# than needed. The numbers are those of ONNX's published `onnx.proto`, and never change.

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE_INITIALIZER = 1, 5, 15
_GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUE_INFO = 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_ATTRIBUTE = 1, 2, 3, 5
_ATTRIBUTE_GRAPHS = (6, 11)  # bodies of If and Loop: one, several
_TENSOR_NAME, _TENSOR_LOCATION = 8, 14
_SPARSE_VALUES = 1
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _TENSOR_ELEMENT, _TENSOR_SHAPE, _SHAPE_DIMENSION, _DIMENSION_VALUE = 1, 1, 2, 1, 1
_FLOAT32 = 1
_LENGTH_DELIMITED = 2
_FIXED_WIDTHS = {1: 8, 5: 4}
_LONGEST_NUMBER = 10  # bytes
_SHOWN_NAMES = 8


Bytes: TypeAlias = "bytes | memoryview"
"""Weights are most of a model: views of the file go around, and are joined once."""


class Field(NamedTuple):
    """One field of a message: its number, its kind on the wire, its content."""

    number: int
    kind: int
    content: Bytes | int


class CutModel(NamedTuple):
    """An ONNX model with one input and one output.

    Attributes
    ----------
    data : bytes
        The model as a file.
    input_name : str
    input_shape : tuple of (int or None)
        As the file declares it, usually (n, channels, height, width); None where any number goes. Empty if it
        declares none.
    output_name : str
        Name of the tensor that the layer gives.
    """

    data: bytes
    input_name: str
    input_shape: tuple[int | None, ...]
    output_name: str


def cut_model(data: bytes, layer: str | None = None) -> CutModel:
    """Cut an ONNX model behind one of its layers.

    Parameters
    ----------
    data : bytes
        An ONNX file.
    layer : str, optional
        Name of a node, or of a tensor that a node gives. None: the model's own output, the first if it has
        several.

    Returns
    -------
    CutModel

    Raises
    ------
    ValueError
        `data` is no ONNX model, keeps its weights in other files, has no such layer or two nodes of that name,
        or needs another number of inputs than one.
    """
    try:
        return _cut(data, layer)
    except (_DamagedError, UnicodeDecodeError):
        raise ValueError(
            f"it is no ONNX model: its {len(data)} bytes begin with {data[:16]!r}; is the file complete?"
        ) from None


class _DamagedError(Exception):
    """The bytes are no protocol buffer, or not one that holds what it should."""


def _cut(data: bytes, layer: str | None) -> CutModel:
    model = list(read_fields(memoryview(data)))
    graph = list(read_fields(read_last(model, _MODEL_GRAPH)))
    nodes = [_Node.read(read_bytes(field)) for field in graph if field.number == _GRAPH_NODE]
    own_outputs = [read_text(read_bytes(field), _VALUE_NAME) for field in graph if field.number == _GRAPH_OUTPUT]
    input_fields = [field for field in graph if field.number == _GRAPH_INPUT]
    own_inputs = {read_text(read_bytes(field), _VALUE_NAME): field for field in input_fields}
    initializers = {_initializer_name(field): field for field in graph if _is_initializer(field)}
    if not nodes or not own_outputs:
        raise ValueError(f"it is no ONNX model that can be run: {len(nodes)} nodes, {len(own_outputs)} outputs")
    output = own_outputs[0] if layer is None else _output_of(layer, nodes)
    kept_nodes, needed = _ancestors(nodes, output)
    if any(_is_elsewhere(field) for name, field in initializers.items() if name in needed):
        raise ValueError("it keeps its weights in other files; save it again with the weights inside")
    inputs = {name: field for name, field in own_inputs.items() if name in needed - initializers.keys()}
    if len(inputs) != 1:
        raise ValueError(f"it takes {len(inputs)} inputs ({', '.join(map(repr, inputs))}), wanted one, an image")
    ((input_name, input_field),) = inputs.items()

    kept: list[Field] = []
    output_type: list[Field] = []
    position = -1
    for field in graph:
        if field.number == _GRAPH_NODE:
            position += 1
            if position in kept_nodes:
                kept.append(field)
        elif _is_initializer(field):
            if _initializer_name(field) in needed:
                kept.append(field)
        elif field.number in {_GRAPH_INPUT, _GRAPH_VALUE_INFO, _GRAPH_OUTPUT}:
            name = read_text(read_bytes(field), _VALUE_NAME)
            if name == output:
                output_type += [field] if _shape(read_bytes(field)) else []
            elif field.number != _GRAPH_OUTPUT and name in needed:
                kept.append(field)
        else:
            kept.append(field)
    declared = read_bytes(output_type[0]) if output_type else _map_declaration(output)
    kept.append(message_field(_GRAPH_OUTPUT, declared))
    rest = [field for field in model if field.number != _MODEL_GRAPH]
    cut = encode_fields([*rest, message_field(_MODEL_GRAPH, encode_fields(kept))])
    return CutModel(cut, input_name, _shape(read_bytes(input_field)), output)


# -- the graph ------------------------------------------------------------------------------------------------


class _Node(NamedTuple):
    name: str
    inputs: frozenset[str]
    outputs: tuple[str, ...]

    @classmethod
    def read(cls, data: Bytes) -> _Node:
        name = ""
        inputs: set[str] = set()
        outputs: list[str] = []
        for field in read_fields(data):
            if field.number == _NODE_INPUT:
                inputs.add(read_string(read_bytes(field)))
            elif field.number == _NODE_OUTPUT:
                outputs.append(read_string(read_bytes(field)))
            elif field.number == _NODE_NAME:
                name = read_string(read_bytes(field))
            elif field.number == _NODE_ATTRIBUTE:
                inputs.update(_inputs_of_bodies(read_bytes(field)))
        return cls(name, frozenset(inputs - {""}), tuple(outputs))


def _inputs_of_bodies(attribute: Bytes) -> Iterator[str]:
    """Names that the graphs inside a node refer to; those of their own do no harm."""
    for body in read_fields(attribute):
        if body.number in _ATTRIBUTE_GRAPHS and body.kind == _LENGTH_DELIMITED:
            for field in read_fields(read_bytes(body)):
                if field.number == _GRAPH_NODE:
                    yield from _Node.read(read_bytes(field)).inputs
                elif field.number == _GRAPH_OUTPUT:
                    yield read_text(read_bytes(field), _VALUE_NAME)


def _output_of(layer: str, nodes: list[_Node]) -> str:
    tensors = {output for node in nodes for output in node.outputs if output}
    if layer in tensors:
        return layer
    named = [node for node in nodes if node.name == layer and node.outputs]
    if len(named) == 1:
        return named[0].outputs[0]
    if named:
        outputs = ", ".join(repr(node.outputs[0]) for node in named)
        raise ValueError(f"{len(named)} of its layers are named {layer!r}; name one by its output: {outputs}")
    names = list(dict.fromkeys(name for node in nodes for name in (node.name, *node.outputs) if name))
    close = difflib.get_close_matches(layer, names, n=_SHOWN_NAMES, cutoff=0.5)
    hint = f"close to it: {_listed(close)}" if close else f"its last ones: {_listed(names[-_SHOWN_NAMES:])}"
    raise ValueError(f"none of its {len(nodes)} layers is named {layer!r}; {hint}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _ancestors(nodes: list[_Node], output: str) -> tuple[set[int], set[str]]:
    """Positions of the nodes that `output` needs, and names of all tensors on the way."""
    kept: set[int] = set()
    needed = {output}
    # ONNX wants nodes in an order in which each comes behind those that it needs.
    for position in range(len(nodes) - 1, -1, -1):
        node = nodes[position]
        if not needed.isdisjoint(node.outputs):
            kept.add(position)
            needed |= node.inputs
    return kept, needed


def _is_initializer(field: Field) -> bool:
    return field.number in {_GRAPH_INITIALIZER, _GRAPH_SPARSE_INITIALIZER}


def _initializer_name(field: Field) -> str:
    tensor = read_bytes(field)
    if field.number == _GRAPH_SPARSE_INITIALIZER:
        tensor = read_last(list(read_fields(tensor)), _SPARSE_VALUES)
    return read_text(tensor, _TENSOR_NAME)


def _is_elsewhere(field: Field) -> bool:
    return any(part.number == _TENSOR_LOCATION and part.content == 1 for part in read_fields(read_bytes(field)))


def _map_declaration(name: str) -> bytes:
    """Declaration of a float32 tensor of four sides; without their number OpenCV refuses the file."""
    shape = encode_fields([message_field(_SHAPE_DIMENSION, b"")] * 4)
    tensor = encode_fields([Field(_TENSOR_ELEMENT, 0, _FLOAT32), message_field(_TENSOR_SHAPE, shape)])
    of_type = encode_fields([message_field(_TYPE_TENSOR, tensor)])
    return encode_fields([message_field(_VALUE_NAME, name.encode()), message_field(_VALUE_TYPE, of_type)])


def _shape(value: Bytes) -> tuple[int | None, ...]:
    """Shape in the declaration of a tensor."""
    inner = value
    for number in (_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE):
        found = [field for field in read_fields(inner) if field.number == number]
        if not found:
            return ()
        inner = read_bytes(found[-1])
    sides: list[int | None] = []
    for dimension in read_fields(inner):
        if dimension.number == _SHAPE_DIMENSION:
            told = [part.content for part in read_fields(read_bytes(dimension)) if part.number == _DIMENSION_VALUE]
            side = told[-1] if told else None
            # Zero and negative numbers stand for "any", too, in what some exporters write.
            sides.append(side if isinstance(side, int) and 0 < side < 2**31 else None)
    return tuple(sides)


# -- the encoding ---------------------------------------------------------------------------------------------


def read_fields(data: Bytes) -> Iterator[Field]:
    """Fields of a message."""
    position, end = 0, len(data)
    while position < end:
        key, position = _number(data, position)
        number, kind = key >> 3, key & 7
        if not number:
            raise _DamagedError(key)
        if kind == 0:
            value, position = _number(data, position)
            yield Field(number, kind, value)
            continue
        if kind == _LENGTH_DELIMITED:
            length, position = _number(data, position)
        else:
            length = _FIXED_WIDTHS.get(kind, end)
        if length > end - position:
            raise _DamagedError(length)
        yield Field(number, kind, data[position : position + length])
        position += length


def _number(data: Bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the position behind it."""
    value = shift = 0
    for byte in data[position : position + _LONGEST_NUMBER]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _DamagedError(value)


def encode_fields(fields: Iterable[Field]) -> bytes:
    """A message of these fields."""
    parts: list[Bytes] = []
    for number, kind, content in fields:
        parts.append(_encode_number(number << 3 | kind))
        if isinstance(content, int):
            parts.append(_encode_number(content))
        else:
            if kind == _LENGTH_DELIMITED:
                parts.append(_encode_number(len(content)))
            parts.append(content)
    return b"".join(parts)


def message_field(number: int, content: Bytes) -> Field:
    """A field that holds text, or a message."""
    return Field(number, _LENGTH_DELIMITED, content)


def _encode_number(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_bytes(field: Field) -> Bytes:
    if isinstance(field.content, int):
        raise _DamagedError(field)
    return field.content


def read_last(fields: list[Field], number: int) -> Bytes:
    """Content of the field of that number; the last one counts, as protocol buffers have it."""
    found = [field for field in fields if field.number == number]
    if not found:
        raise _DamagedError(number)
    return read_bytes(found[-1])


def read_text(message: Bytes, number: int) -> str:
    found = [field for field in read_fields(message) if field.number == number]
    return read_string(read_bytes(found[-1])) if found else ""


def read_string(content: Bytes) -> str:
    return str(content, "utf-8")
