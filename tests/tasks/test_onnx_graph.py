"""Cutting ONNX models behind a layer, against a network that is computed by hand."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import TinyModel

from parimg.tasks._onnx_graph import cut_model

PIXELS = np.random.default_rng(0).normal(size=(3, 8, 12)).astype(np.float32)


def run(cut: object, pixels: np.ndarray = PIXELS) -> np.ndarray:
    net = cv2.dnn.readNetFromONNX(np.frombuffer(cut.data, np.uint8))
    net.setInput(pixels[None], cut.input_name)
    return net.forward(cut.output_name)[0]


@pytest.mark.parametrize(
    ("layer", "output"),
    [
        (None, "features"),
        ("head", "features"),
        ("features", "features"),
        ("act", "act_output"),
        ("act_output", "act_output"),
        ("stem", "stem_output"),
        ("stem_output", "stem_output"),
    ],
)
def test_any_layer_or_tensor_becomes_the_output(tiny: TinyModel, layer: str | None, output: str) -> None:
    cut = cut_model(tiny.encode(), layer)
    assert (cut.input_name, cut.input_shape, cut.output_name) == ("image", (None, 3, None, None), output)
    np.testing.assert_allclose(run(cut), tiny.evaluate(PIXELS)[output], rtol=1e-5, atol=1e-5)


def test_what_lies_behind_the_layer_is_left_out(tiny: TinyModel) -> None:
    data = tiny.encode()
    cut = cut_model(data, "stem").data
    for gone in (b"Relu", b"GlobalAveragePool", b"act_output", tiny.head.tobytes()):
        assert gone in data
        assert gone not in cut
    assert tiny.stem.tobytes() in cut


def test_the_first_of_several_outputs_is_taken_unless_another_is_named(tiny: TinyModel) -> None:
    assert run(cut_model(tiny.encode())).shape == (2, 4, 6)
    assert run(cut_model(tiny.encode(), "pooled")).shape == (4, 1, 1)


def test_a_declared_size_is_told(tiny: TinyModel) -> None:
    assert cut_model(tiny.encode(shape=[1, 3, 224, 320])).input_shape == (1, 3, 224, 320)
    assert cut_model(tiny.encode(shape=[0, 3, "h", 320])).input_shape == (None, 3, None, 320)


def test_an_unknown_layer_is_told_with_close_names(tiny: TinyModel) -> None:
    with pytest.raises(ValueError, match=r"none of its 5 layers is named 'stem_out'; close to it: 'stem_output'"):
        cut_model(tiny.encode(), "stem_out")


def test_a_name_like_no_other_is_told_with_the_last_ones(tiny: TinyModel) -> None:
    with pytest.raises(ValueError, match=r"named 'xyz'; its last ones: .*'pooled', 'flat', 'vector'"):
        cut_model(tiny.encode(), "xyz")


def test_two_layers_of_one_name_are_told_apart_by_their_outputs(tiny: TinyModel) -> None:
    data = tiny.encode(act="stem")
    with pytest.raises(ValueError, match=r"2 of its layers are named 'stem'; .*: 'stem_output', 'act_output'"):
        cut_model(data, "stem")
    np.testing.assert_allclose(
        run(cut_model(data, "act_output")), tiny.evaluate(PIXELS)["act_output"], rtol=1e-5, atol=1e-5
    )


def test_weights_in_other_files_are_told(tiny: TinyModel) -> None:
    with pytest.raises(
        ValueError, match="keeps its weights in other files; save it again with the weights inside"
    ):
        cut_model(tiny.encode(elsewhere=True))


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"\xff\xd8\xff\xe0 JFIF", b"a,b,c\n1,2,3\n"]
)
def test_what_is_no_onnx_model_is_told_with_its_first_bytes(data: bytes) -> None:
    with pytest.raises(ValueError, match=f"no ONNX model: its {len(data)} bytes"):
        cut_model(data)


def test_a_truncated_model_is_told_wherever_it_ends(tiny: TinyModel) -> None:
    data = tiny.encode()
    for end in itertools.chain(range(0, len(data), 7), (len(data) - 1,)):
        with pytest.raises(ValueError, match="no ONNX model"):
            cut_model(data[:end])


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_byte_raises_nothing_else(position: int, byte: int) -> None:
    data = bytearray(TinyModel(*(np.ones(shape) for shape in ((4, 3, 3, 3), 4, (2, 4, 1, 1)))).encode())
    data[position % len(data)] = byte
    with suppress(ValueError):
        cut_model(bytes(data), "act")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(ValueError, match="no ONNX model"):
        cut_model(data)


def test_every_layer_of_the_real_model_can_be_cut(data_folder: Path) -> None:
    data = (data_folder / "models" / "efficientnet_lite0_features.onnx").read_bytes()
    assert run(cut_model(data, "/_conv_stem/Conv"), np.zeros((3, 64, 96), np.float32)).shape == (32, 32, 48)
    whole, last = cut_model(data), cut_model(data, "/_swish_1/Clip")
    assert whole == last
    pixels = np.random.default_rng(1).normal(size=(3, 64, 96)).astype(np.float32)
    before = run(cut_model(data, "/_conv_head/Conv"), pixels)
    assert before.min() < 0
    np.testing.assert_array_equal(np.clip(before, 0, 6), run(whole, pixels))
