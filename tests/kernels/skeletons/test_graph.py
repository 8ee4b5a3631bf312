"""Pixel graphs and branch tables: small cases solved by eye, skan's answers, and what must not change them."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skan.csr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from skimage.data import binary_blobs, horse
from skimage.morphology import skeletonize

import parimg.kernels as pk
from parimg.kernels.skeletons import graph as skeletons

ROOT_2 = 2**0.5

LINE = [0, 1, 1, 1, 0]
DIAMOND = [
    [0, 1, 0],
    [1, 0, 1],
    [0, 1, 0],
]  # fmt: skip
ROUND_CYCLE = [  # sides of four pixels
    [0, 1, 1, 1, 1, 0],
    [1, 0, 0, 0, 0, 1],
    [1, 0, 0, 0, 0, 1],
    [1, 0, 0, 0, 0, 1],
    [1, 0, 0, 0, 0, 1],
    [0, 1, 1, 1, 1, 0],
]
SQUARE_CYCLE = [  # the pixels beside each corner touch, too
    [1, 1, 1, 1],
    [1, 0, 0, 1],
    [1, 0, 0, 1],
    [1, 1, 1, 1],
]
TEE = [
    [1, 1, 1, 1, 1],
    [0, 0, 1, 0, 0],
    [0, 0, 1, 0, 0],
]
LASSO = [
    [0, 0, 0, 1, 0],
    [1, 1, 1, 0, 1],
    [0, 0, 0, 1, 0],
]
TWO_AND_A_DOT = [
    [1, 0, 0, 0, 0, 0, 1],
    [0, 1, 0, 0, 0, 0, 0],
    [0, 0, 1, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 1, 1, 0, 0],
]


def skan_table(skeleton: npt.NDArray[Any], spacing: Any = 1.0) -> dict[str, npt.NDArray[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas 3.1, for skan's own lines
        summary = skan.csr.summarize(skan.csr.Skeleton(skeleton, spacing=spacing), separator="_")
    return {name: summary[name].to_numpy() for name in summary.columns}


def assert_as_skan(skeleton: npt.NDArray[Any], spacing: Any = 1.0) -> None:
    """Links and branches are skan's; rows are compared in the order of their ends and lengths."""
    graph = pk.pixel_graph(skeleton, spacing)
    links, _ = skan.csr.skeleton_to_csgraph(skeleton, spacing=spacing)
    assert_array_equal(graph.indptr, links.indptr)
    assert_array_equal(graph.indices, links.indices)
    assert_array_equal(graph.distances, links.data)
    found = pk.branches(graph, None if skeleton.dtype == bool else skeleton)
    expected = skan_table(skeleton, spacing)
    assert list(found)[:-1] == list(expected)
    names = ("mean_pixel_value", "branch_distance", "node_id_dst", "node_id_src")
    order, their_order = (np.lexsort([table[name].round(9) for name in names]) for table in (found, expected))
    for name, column in expected.items():
        # Theirs is a difference of squares, with the root of their rounding left where all values are the same.
        tolerance = 2e-7 * max(1.0, float(np.abs(skeleton).max())) if name == "stdev_pixel_value" else 0.0
        assert_allclose(found[name][order], column[their_order], rtol=1e-11, atol=tolerance, err_msg=name)


def random_mask(shape: tuple[int, ...], share: float) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(len(shape)).random(shape) < share


# -- solved by eye -------------------------------------------------------------------------------------------


def test_a_line_is_one_branch_between_two_tips() -> None:
    table = pk.branches(pk.pixel_graph(LINE, spacing=0.5))
    assert {name: column.tolist() for name, column in table.items()} == {
        "skeleton_id": [0],
        "node_id_src": [0],
        "node_id_dst": [2],
        "branch_distance": [1.0],
        "branch_type": [0],
        "mean_pixel_value": [1.0],
        "stdev_pixel_value": [0.0],
        "image_coord_src_0": [1],
        "image_coord_dst_0": [3],
        "coord_src_0": [0.5],
        "coord_dst_0": [1.5],
        "euclidean_distance": [1.0],
        "tortuosity": [1.0],
    }


@pytest.mark.parametrize(("cycle", "length"), [(DIAMOND, 4 * ROOT_2), (ROUND_CYCLE, 12 + 4 * ROOT_2)])
def test_a_cycle_begins_and_ends_at_its_first_pixel(cycle: list[list[int]], length: float) -> None:
    graph = pk.pixel_graph(cycle)
    table = pk.branches(graph)
    assert table["branch_type"].tolist() == [3]
    assert table["branch_distance"] == pytest.approx([length])
    assert (table["node_id_src"].tolist(), table["node_id_dst"].tolist()) == ([0], [0])
    assert (table["euclidean_distance"].tolist(), table["tortuosity"].tolist()) == ([0.0], [np.inf])
    assert len(pk.branch_paths(graph).pixels) == len(graph) + 1


def test_three_pixels_that_touch_each_other_are_a_cycle() -> None:
    table = pk.branches(pk.pixel_graph([[1, 1], [1, 0]]))
    assert (table["branch_type"].tolist(), table["branch_distance"].tolist()) == ([3], [2 + ROOT_2])


def test_corners_of_a_square_cycle_are_short_cut_but_for_the_last() -> None:
    graph = pk.pixel_graph(SQUARE_CYCLE)
    table = pk.branches(graph)
    ends = zip(table["node_id_src"].tolist(), table["node_id_dst"].tolist(), table["branch_distance"], strict=True)
    assert sorted(ends) == [
        (1, 2, 1.0), (1, 4, ROOT_2), (1, 4, 2.0), (2, 5, ROOT_2), (2, 5, 2.0), (4, 6, 1.0), (5, 9, 4.0),
        (6, 9, ROOT_2), (6, 9, 2.0),
    ]  # fmt: skip
    assert set(table["branch_type"].tolist()) == {2}


def test_a_junction_of_four_pixels_becomes_one_pixel_with_three_branches() -> None:
    graph = pk.pixel_graph(TEE)
    assert graph.degrees.tolist() == [1, 2, 3, 2, 1, 2, 1]
    table = pk.branches(graph)
    assert table["node_id_src"].tolist() == [0, 2, 2]
    assert table["node_id_dst"].tolist() == [2, 4, 6]
    assert table["branch_distance"].tolist() == [2.0, 2.0, 2.0]
    assert table["branch_type"].tolist() == [1, 1, 1]


def test_a_cycle_at_the_end_of_a_line_begins_at_the_junction() -> None:
    graph = pk.pixel_graph(LASSO)
    table = pk.branches(graph)
    assert table["branch_type"].tolist() == [1, 3]
    assert table["branch_distance"] == pytest.approx([2, 4 * ROOT_2])
    assert graph.coordinates[table["node_id_src"]].tolist() == [[1, 0], [1, 2]]


def test_skeletons_are_numbered_by_their_first_pixels_and_an_isolated_pixel_is_one() -> None:
    graph = pk.pixel_graph(TWO_AND_A_DOT)
    assert graph.degrees.tolist() == [1, 0, 2, 1, 1, 1]
    table = pk.branches(graph)
    assert table["skeleton_id"].tolist() == [0, 2]
    assert table["branch_distance"].tolist() == [2 * ROOT_2, 1.0]
    assert (table["coord_src_1"].tolist(), table["coord_dst_1"].tolist()) == ([0.0, 3.0], [2.0, 4.0])


def test_steps_in_three_dimensions_are_as_long_as_the_spacing_says() -> None:
    volume = np.zeros((3, 3, 4), np.uint8)
    volume[0, 0, 0] = volume[1, 1, 1] = volume[1, 1, 2] = volume[2, 1, 3] = 1
    graph = pk.pixel_graph(volume, spacing=(2, 1, 0.5))
    table = pk.branches(graph)
    assert table["branch_distance"] == pytest.approx([5.25**0.5 + 0.5 + 4.25**0.5])
    assert table["euclidean_distance"] == pytest.approx([(16 + 1 + 2.25) ** 0.5])
    assert [table[f"coord_dst_{axis}"].tolist() for axis in range(3)] == [[4.0], [1.0], [1.5]]
    assert [table[f"image_coord_dst_{axis}"].tolist() for axis in range(3)] == [[2], [1], [3]]


def test_pixels_of_neighbouring_rows_do_not_touch_around_the_edge() -> None:
    assert pk.pixel_graph([[0, 0, 1], [1, 0, 0], [0, 0, 1]]).degrees.tolist() == [0, 0, 0]
    planes = np.zeros((2, 3, 3), bool)
    planes[0, 2, 1] = planes[1, 0, 1] = True
    assert pk.pixel_graph(planes).degrees.tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(0,), (3, 0), (4, 5), (2, 0, 2), (2, 3, 4)])
def test_a_graph_without_pixels_has_an_empty_table(shape: tuple[int, ...]) -> None:
    graph = pk.pixel_graph(np.zeros(shape, bool))
    assert (len(graph), graph.shape, graph.coordinates.shape) == (0, shape, (0, len(shape)))
    table = pk.branches(graph, np.zeros(shape))
    assert len(table) == 9 + 4 * len(shape)
    assert all(len(column) == 0 for column in table.values())
    assert_array_equal(pk.branch_label_image(graph), np.zeros(shape))


def test_a_single_pixel_has_no_branch() -> None:
    graph = pk.pixel_graph([[0, 0], [0, 1]])
    assert (len(graph), graph.degrees.tolist()) == (1, [0])
    assert len(pk.branches(graph)["branch_distance"]) == 0
    assert pk.branch_paths(graph).starts.tolist() == [0]


# -- skan's answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [DIAMOND, ROUND_CYCLE, SQUARE_CYCLE, TEE, LASSO, TWO_AND_A_DOT])
def test_drawn_skeletons_are_measured_as_skan_does(drawn: list[list[int]]) -> None:
    assert_as_skan(np.array(drawn, bool))
    assert_as_skan(np.array(drawn, bool), spacing=(0.7, 1.9))


@pytest.mark.parametrize("shape", [(9,), (40, 50), (1, 30), (2, 9), (12, 13, 14), (6, 2, 7), (4, 5, 4, 5)])
@pytest.mark.parametrize("share", [0.15, 0.4, 0.7, 1.0])
def test_random_and_dense_masks_are_measured_as_skan_does(shape: tuple[int, ...], share: float) -> None:
    mask = random_mask(shape, share)
    mask.ravel()[:2] = True  # skan wants a branch
    assert_as_skan(mask)
    assert_as_skan(mask, spacing=tuple(0.5 + 0.7 * np.arange(1, 1 + len(shape))))


def test_a_dense_image_and_a_dense_volume_are_measured_as_skan_does() -> None:
    assert_as_skan(np.ones((120, 90), bool))
    assert_as_skan(np.ones((20, 21, 22), bool))


def test_real_skeletons_are_measured_as_skan_does() -> None:
    assert_as_skan(skeletonize(horse() == 0))
    blobs = skeletonize(binary_blobs(256, volume_fraction=0.5, rng=0))
    assert_as_skan(blobs, spacing=0.37)
    volume = skeletonize(binary_blobs(64, blob_size_fraction=0.1, n_dim=3, volume_fraction=0.3, rng=0)).astype(
        bool
    )
    assert_as_skan(volume)
    assert_as_skan(volume, spacing=(3, 1, 1))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.int16, np.int64])
def test_pixel_values_are_averaged_as_skan_does(dtype: Any) -> None:
    mask = skeletonize(binary_blobs(96, volume_fraction=0.5, rng=1))
    values = (np.random.default_rng(0).uniform(1, 100, mask.shape) * mask).astype(dtype)
    assert_as_skan(values)


def test_label_images_are_those_of_skan() -> None:
    skeleton = skeletonize(binary_blobs(128, volume_fraction=0.5, rng=2))
    expected = skan.csr.Skeleton(skeleton).path_label_image()
    assert_array_equal(pk.branch_label_image(pk.pixel_graph(skeleton)), expected)


def test_paths_are_those_of_skan() -> None:
    skeleton = skeletonize(binary_blobs(128, volume_fraction=0.5, rng=3))
    expected = skan.csr.Skeleton(skeleton).paths
    starts, pixels = pk.branch_paths(pk.pixel_graph(skeleton))
    assert_array_equal(starts, expected.indptr)
    assert_array_equal(pixels, expected.indices)


# -- what must not change the answer ---------------------------------------------------------------------------

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, max_side=7))


@given(masks)
def test_transposing_keeps_pixels_links_and_their_length(mask: npt.NDArray[np.bool_]) -> None:
    graph, transposed = pk.pixel_graph(mask), pk.pixel_graph(mask.T)
    assert len(graph) == len(transposed)
    assert len(graph.indices) == len(transposed.indices)
    assert graph.distances.sum() == pytest.approx(transposed.distances.sum())
    n_skeletons = [len(np.unique(pk.branches(one)["skeleton_id"])) for one in (graph, transposed)]
    assert n_skeletons[0] == n_skeletons[1]


@given(masks, st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_a_scaled_spacing_scales_lengths_alone(mask: npt.NDArray[np.bool_], scale: float) -> None:
    table = pk.branches(pk.pixel_graph(mask))
    for name, column in pk.branches(pk.pixel_graph(mask, spacing=scale)).items():
        is_length = name.startswith("coord") or name.endswith("distance")
        assert_array_equal(column, table[name] * (scale if is_length else 1), err_msg=name)


@given(masks, st.data())
def test_a_translation_shifts_coordinates_alone(mask: npt.NDArray[np.bool_], data: st.DataObject) -> None:
    pads = [(data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))) for _ in range(mask.ndim)]
    table = pk.branches(pk.pixel_graph(mask))
    for name, column in pk.branches(pk.pixel_graph(np.pad(mask, pads))).items():
        shift = pads[int(name[-1])][0] if "coord" in name else 0
        assert_array_equal(column, table[name] + shift, err_msg=name)


@given(masks)
def test_every_link_belongs_to_one_branch(mask: npt.NDArray[np.bool_]) -> None:
    graph = pk.pixel_graph(mask)
    assert pk.branches(graph)["branch_distance"].sum() == pytest.approx(graph.distances.sum() / 2)
    starts, pixels = pk.branch_paths(graph)
    assert len(pixels) - (len(starts) - 1) == len(graph.indices) // 2
    assert_array_equal(np.unique(pixels), np.flatnonzero(graph.degrees))


@given(masks)
def test_the_matrix_of_links_is_symmetric(mask: npt.NDArray[np.bool_]) -> None:
    matrix = pk.pixel_graph(mask, spacing=np.arange(1, mask.ndim + 1)).to_scipy()
    assert (matrix != matrix.T).nnz == 0
    assert matrix.has_canonical_format


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64, np.float32, np.float64])
def test_the_dtype_of_a_skeleton_does_not_matter(dtype: Any) -> None:
    mask = random_mask((30, 40), 0.3)
    graph, other = pk.pixel_graph(mask), pk.pixel_graph(mask.astype(dtype) * dtype(3))
    assert_array_equal(graph.indices, other.indices)
    assert_array_equal(graph.coordinates, other.coordinates)


def test_read_only_strided_and_unaligned_skeletons_are_taken_and_left_as_they_are() -> None:
    mask = random_mask((37, 41), 0.3)
    expected = pk.pixel_graph(mask)
    frozen = mask.copy()
    frozen.flags.writeable = False
    strided = np.repeat(np.repeat(mask, 2, 0), 2, 1)[::2, ::2]
    unaligned = np.frombuffer(b"..." + mask.tobytes(), np.uint8, offset=3).reshape(mask.shape)
    for other in (frozen, strided, np.asfortranarray(mask), unaligned):
        before = other.copy()
        graph = pk.pixel_graph(other)
        assert_array_equal(graph.indices, expected.indices)
        assert_array_equal(graph.coordinates, expected.coordinates)
        assert_array_equal(other, before)


# -- the graph ---------------------------------------------------------------------------------------------------


def test_a_graph_goes_to_networkx() -> None:
    graph = pk.pixel_graph(TEE, spacing=(1, 2)).to_networkx()
    assert graph.number_of_nodes() == 7
    assert sorted(graph.edges) == [(0, 1), (1, 2), (2, 3), (2, 5), (3, 4), (5, 6)]
    assert graph.edges[0, 1]["weight"] == 2.0
    assert graph.nodes[6]["coordinates"] == (2, 2)


def test_a_graph_survives_pickling_and_its_arrays_cannot_be_written() -> None:
    graph = pk.pixel_graph(TEE, spacing=(1, 2))
    again = pickle.loads(pickle.dumps(graph))
    assert again.shape == (3, 5)
    for name in ("indptr", "indices", "distances", "coordinates", "spacing", "degrees"):
        assert_array_equal(getattr(again, name), getattr(graph, name))
        assert not getattr(again, name).flags.writeable
    assert_array_equal(pk.branches(again)["branch_distance"], [4.0, 4.0, 2.0])


def test_numbers_of_64_bits_give_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = random_mask((20, 30), 0.4)
    narrow = pk.pixel_graph(mask)
    table = pk.branches(narrow)
    monkeypatch.setattr(skeletons, "_LEAST_WIDE", 2)
    wide = pk.pixel_graph(mask)
    assert (narrow.indices.dtype, wide.indices.dtype, wide.coordinates.dtype) == (np.int32, np.int64, np.int64)
    assert_array_equal(narrow.to_scipy().toarray(), wide.to_scipy().toarray())
    for name, column in pk.branches(wide).items():
        assert_array_equal(column, table[name])
        assert column.dtype == table[name].dtype
    assert_array_equal(pk.branch_paths(wide).pixels, pk.branch_paths(narrow).pixels)


# -- values and mistakes -----------------------------------------------------------------------------------------


def test_values_are_an_image_or_one_a_pixel() -> None:
    graph = pk.pixel_graph([[1, 0, 0], [0, 1, 1]])
    image = np.array([[3, 9, 9], [9, 6, 0]])
    for values in (image, image[[0, 1, 1], [0, 1, 2]]):
        table = pk.branches(graph, values)
        assert table["mean_pixel_value"].tolist() == [3.0]
        assert table["stdev_pixel_value"] == pytest.approx([6**0.5])


def test_a_nan_among_the_values_is_seen_in_its_branch_only() -> None:
    graph = pk.pixel_graph(TWO_AND_A_DOT)
    table = pk.branches(graph, [1.0, 1.0, np.nan, 1.0, 2.0, 4.0])
    assert_array_equal(table["mean_pixel_value"], [np.nan, 3.0])
    assert_array_equal(table["stdev_pixel_value"], [np.nan, 1.0])


@pytest.mark.parametrize("values", [np.zeros((5, 6)), np.zeros(5), 1.0, np.zeros((6, 1))])
def test_values_of_another_shape_are_refused(values: Any) -> None:
    with pytest.raises(ValueError, match=r"must have the image's shape \(5, 7\), or one value for each of 6"):
        pk.branches(pk.pixel_graph(TWO_AND_A_DOT), values)


def test_values_that_are_no_real_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match="values must be bools or real numbers"):
        pk.branches(pk.pixel_graph(LINE), np.zeros(5, complex))


@pytest.mark.parametrize("skeleton", [np.zeros((2, 2), complex), np.array([["a"]]), np.array([None])])
def test_a_skeleton_that_holds_no_real_numbers_is_refused(skeleton: npt.NDArray[Any]) -> None:
    with pytest.raises(TypeError, match="must hold bools or real numbers"):
        pk.pixel_graph(skeleton)


def test_nan_in_a_skeleton_is_refused() -> None:
    with pytest.raises(ValueError, match="the skeleton has 2 NaN"):
        pk.pixel_graph([[np.nan, 1.0], [0.0, np.nan]])


@pytest.mark.parametrize("shape", [(), (1,) * 9])
def test_a_skeleton_without_axes_or_with_too_many_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have 1 to 8 axes"):
        pk.pixel_graph(np.ones(shape, bool))


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1,), [[1, 1]], ()])
def test_a_spacing_of_another_length_is_refused(spacing: Any) -> None:
    with pytest.raises(ValueError, match="one for each of 2 axes"):
        pk.pixel_graph(TEE, spacing=spacing)


@pytest.mark.parametrize("spacing", [0, -1, np.nan, np.inf, (1, 0)])
def test_a_spacing_that_is_not_positive_is_refused(spacing: Any) -> None:
    with pytest.raises(ValueError, match="spacing must be positive and finite"):
        pk.pixel_graph(TEE, spacing=spacing)


@pytest.mark.parametrize("seed", range(30))
def test_pixels_that_come_in_parts_make_the_graph_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(side) for side in rng.integers(1, 12, rng.integers(1, 4)))
    skeleton = rng.random(shape) < 0.4
    coordinates = np.argwhere(skeleton)
    shuffled = rng.permutation(len(coordinates))
    parts = np.array_split(coordinates[shuffled], rng.integers(1, 5))
    whole = pk.pixel_graph(skeleton, 0.5)
    joined, order = pk.join_pixels(parts, shape, 0.5)
    for name in ("indptr", "indices", "distances", "coordinates", "spacing"):
        found, wanted = getattr(joined, name), getattr(whole, name)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(coordinates[shuffled][order], whole.coordinates)


def test_pixels_outside_the_image_or_twice_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pixels must lie within the image of shape \(3, 4\)"):
        pk.join_pixels([np.array([[3, 0]])], (3, 4))
    with pytest.raises(ValueError, match="each pixel must come once"):
        pk.join_pixels([np.array([[1, 1]]), np.array([[1, 1]])], (3, 4))
    assert len(pk.join_pixels([], (3, 4))[0]) == 0
