"""A convolutional network that is small enough to compute by hand, as an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

RNG = np.random.default_rng(3)


def number(value: int) -> bytes:
    low = value & 0x7F
    return bytes([low | 0x80]) + number(value >> 7) if value > 0x7F else bytes([low])


def message(field_number: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return number(field_number << 3 | 2) + number(len(content)) + content


def integer(field_number: int, value: int) -> bytes:
    return number(field_number << 3) + number(value)


def ints(name: str, values: list[int]) -> bytes:
    return message(5, message(1, name) + b"".join(integer(8, value) for value in values) + integer(20, 7))


def node(kind: str, name: str, inputs: list[str], outputs: list[str], attributes: bytes = b"") -> bytes:
    ends = b"".join(message(1, end) for end in inputs) + b"".join(message(2, end) for end in outputs)
    return message(1, ends + message(3, name) + message(4, kind) + attributes)


def tensor(name: str, values: np.ndarray, *, elsewhere: bool = False) -> bytes:
    shape = b"".join(integer(1, side) for side in values.shape)
    content = integer(14, 1) if elsewhere else message(9, values.astype("<f4").tobytes())
    return message(5, shape + integer(2, 1) + message(8, name) + content)


def value(field_number: int, name: str, shape: list[int | str]) -> bytes:
    sides = b"".join(message(1, integer(1, side) if isinstance(side, int) else message(2, side)) for side in shape)
    return message(field_number, message(1, name) + message(2, message(1, integer(1, 1) + message(2, sides))))


@dataclass
class TinyModel:
    """A convolution with stride 2 (layer "stem"), what is positive of it ("act"), two sums of channels ("head").

    The output is the tensor "features" of the head; "pooled" is a second one, the mean of every channel of "act",
    and "vector" the same without its axes of length 1.
    """

    stem: np.ndarray = field(default_factory=lambda: RNG.normal(size=(4, 3, 3, 3)).astype(np.float32))
    bias: np.ndarray = field(default_factory=lambda: RNG.normal(size=4).astype(np.float32))
    head: np.ndarray = field(default_factory=lambda: RNG.normal(size=(2, 4, 1, 1)).astype(np.float32))

    def encode(self, *, shape: list[int | str] | None = None, elsewhere: bool = False, act: str = "act") -> bytes:
        square = ints("kernel_shape", [3, 3]) + ints("strides", [2, 2]) + ints("pads", [1, 1, 1, 1])
        graph = (
            node("Conv", "stem", ["image", "w", "b"], ["stem_output"], square)
            + node("Relu", act, ["stem_output"], ["act_output"])
            + node("Conv", "head", ["act_output", "v"], ["features"], ints("kernel_shape", [1, 1]))
            + node("GlobalAveragePool", "mean", ["act_output"], ["pooled"])
            + node("Flatten", "flat", ["pooled"], ["vector"])
            + message(2, "tiny")
            + tensor("w", self.stem, elsewhere=elsewhere)
            + tensor("b", self.bias)
            + tensor("v", self.head)
            + value(11, "image", shape or ["n", 3, "h", "w"])
            + value(12, "features", ["n", 2, "p", "q"])
            + value(12, "pooled", ["n", 4, 1, 1])
        )
        return integer(1, 8) + message(8, message(1, "") + integer(2, 13)) + message(7, graph)

    def evaluate(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Values of all tensors in float64, from pixels of shape (3, h, w), h and w even."""
        padded = np.pad(pixels.astype(float), ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
        stem = np.einsum("ocij,chwij->ohw", self.stem, windows) + self.bias[:, None, None]
        act = np.maximum(stem, 0)
        head = np.einsum("oc,chw->ohw", self.head[:, :, 0, 0], act)
        return {"stem_output": stem, "act_output": act, "features": head}
