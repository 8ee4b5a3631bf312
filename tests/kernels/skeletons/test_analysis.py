"""Pruned graphs, main branches and Sholl counts: small cases solved by eye, and peers' answers."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
import skan.csr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from skimage.data import binary_blobs
from skimage.morphology import skeletonize

import parimg.kernels as pk

COMB = [  # spurs of one and of two pixels
    [0, 0, 0, 0, 0, 1, 0, 0, 0],
    [0, 0, 1, 0, 0, 1, 0, 0, 0],
    [1, 1, 1, 1, 1, 1, 1, 1, 1],
]
STAR = [
    [0, 0, 1, 0, 0],
    [0, 0, 1, 0, 0],
    [1, 1, 1, 1, 1],
    [0, 0, 1, 0, 0],
    [0, 0, 1, 0, 0],
]
LADDER = [  # two ways around: 8 below, 6 + 2 sqrt 2 above
    [0, 0, 0, 1, 1, 1, 1, 0, 0, 0],
    [0, 0, 1, 0, 0, 0, 0, 1, 0, 0],
    [1, 1, 0, 0, 0, 0, 0, 0, 1, 1],
    [0, 0, 1, 1, 1, 1, 1, 1, 0, 0],
]

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, max_side=6))


def blobs(rng: int) -> npt.NDArray[Any]:
    return skeletonize(binary_blobs(128, volume_fraction=0.5, rng=rng))


# -- prune -------------------------------------------------------------------------------------------------------


def test_short_spurs_go_and_what_they_grew_from_becomes_one_branch() -> None:
    graph = pk.pixel_graph(COMB)
    assert sorted(pk.branches(graph)["branch_distance"].tolist()) == [1.0, 2.0, 2.0, 3.0, 3.0]
    pruned = pk.prune(graph, 2)
    table = pk.branches(pruned)
    assert sorted(table["branch_distance"].tolist()) == [2.0, 3.0, 5.0]
    assert len(pruned) == len(graph) - 1
    assert pk.branches(pk.prune(pruned, 2.5))["branch_distance"].tolist() == [8.0]


def test_only_the_named_types_go() -> None:
    graph = pk.pixel_graph([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 1, 0, 1], [0, 1, 0, 0, 0]])
    assert pk.branches(graph)["branch_type"].tolist() == [0, 3]
    assert pk.branches(pk.prune(graph, 100))["branch_type"].tolist() == [0, 3]
    assert pk.branches(pk.prune(graph, 100, types=[0]))["branch_type"].tolist() == [3]
    assert pk.branches(pk.prune(graph, 100, types=(3,)))["branch_type"].tolist() == [0]
    left = pk.prune(graph, 100, types=range(4))
    assert left.coordinates.tolist() == [[3, 4]]


def test_a_star_of_spurs_leaves_its_middle() -> None:
    left = pk.prune(pk.pixel_graph(STAR), 3)
    assert (left.coordinates.tolist(), left.degrees.tolist()) == ([[2, 2]], [0])


def test_a_branch_of_one_link_between_junctions_can_go() -> None:
    graph = pk.pixel_graph([[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]])
    table = pk.branches(pk.prune(graph, 1.2, types=[2]))
    assert len(table["branch_distance"]) < len(pk.branches(graph)["branch_distance"])
    assert (table["branch_distance"] >= 1.2).all()
    assert table["branch_distance"].sum() == pytest.approx(pk.branches(graph)["branch_distance"].sum() - 2)


@given(masks, st.sampled_from([0.0, 1.2, 2.0, 5.0]), st.sets(st.integers(0, 3)))
def test_pruning_takes_the_length_of_the_branches_that_go(
    mask: npt.NDArray[np.bool_], min_length: float, types: set[int]
) -> None:
    graph = pk.pixel_graph(mask)
    table = pk.branches(graph)
    goes = (table["branch_distance"] < min_length) & np.isin(table["branch_type"], list(types))
    pruned = pk.prune(graph, min_length, types)
    assert pruned.distances.sum() / 2 == pytest.approx(table["branch_distance"][~goes].sum())
    matrix = pruned.to_scipy()
    assert (matrix != matrix.T).nnz == 0
    assert matrix.has_canonical_format
    assert {tuple(place) for place in pruned.coordinates.tolist()} <= {
        tuple(p) for p in graph.coordinates.tolist()
    }


@pytest.mark.parametrize("min_length", [-1, float("nan")])
def test_a_length_below_zero_is_refused(min_length: float) -> None:
    with pytest.raises(ValueError, match="min_length must be at least 0"):
        pk.prune(pk.pixel_graph(STAR), min_length)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"types must be among 0, 1, 2 and 3 \(got 4\)"):
        pk.prune(pk.pixel_graph(STAR), 1, types=[1, 4])


# -- main branch -------------------------------------------------------------------------------------------------


def longest_by_networkx(graph: pk.PixelGraph) -> dict[int, float]:
    """Length of the longest shortest path of every skeleton, from all shortest paths between ends of branches."""
    table = pk.branches(graph)
    ends: nx.Graph[int] = nx.Graph()
    names = ("node_id_src", "node_id_dst", "branch_distance", "skeleton_id")
    skeletons = {}
    for src, dst, length, skeleton in zip(*(table[name].tolist() for name in names), strict=True):
        skeletons[src] = skeletons[dst] = skeleton
        if not ends.has_edge(src, dst) or ends.edges[src, dst]["weight"] > length:
            ends.add_edge(src, dst, weight=length)
    found: dict[int, float] = {}
    for src, lengths in nx.all_pairs_dijkstra_path_length(ends):
        found[skeletons[src]] = max(found.get(skeletons[src], 0.0), *lengths.values())
    return found


def length_of_main_branches(graph: pk.PixelGraph) -> dict[int, float]:
    table, is_main = pk.branches(graph), pk.main_branch(graph)
    return {
        int(skeleton): float(table["branch_distance"][is_main & (table["skeleton_id"] == skeleton)].sum())
        for skeleton in np.unique(table["skeleton_id"])
    }


def test_the_main_branch_goes_the_shorter_way_around() -> None:
    graph = pk.pixel_graph(LADDER)
    table, is_main = pk.branches(graph), pk.main_branch(graph)
    assert sorted(table["branch_distance"][is_main].round(3).tolist()) == pytest.approx([1.0, 1.0, 7.828])


@pytest.mark.parametrize("drawn", [[[0, 1, 0], [1, 0, 1], [0, 1, 0]], [[0, 0], [0, 1]], [[0, 0]]])
def test_a_lone_cycle_a_pixel_and_nothing_have_no_main_branch(drawn: list[list[int]]) -> None:
    assert not pk.main_branch(pk.pixel_graph(drawn)).any()


@pytest.mark.parametrize("rng", range(4))
def test_main_branches_are_as_long_as_the_longest_of_all_shortest_paths(rng: int) -> None:
    graph = pk.pixel_graph(blobs(rng), spacing=(1, 1.5))
    assert length_of_main_branches(graph) == pytest.approx(longest_by_networkx(graph))


@given(masks)
def test_main_branches_of_any_mask_are_as_long_as_the_longest_of_all_shortest_paths(
    mask: npt.NDArray[np.bool_],
) -> None:
    graph = pk.pixel_graph(mask)
    assert length_of_main_branches(graph) == pytest.approx(longest_by_networkx(graph))


def test_the_main_branch_of_a_tree_leads_from_tip_to_tip() -> None:
    graph = pk.pixel_graph(COMB)
    table, is_main = pk.branches(graph), pk.main_branch(graph)
    assert sorted(table["branch_distance"][is_main].tolist()) == [2.0, 3.0, 3.0]
    assert table["image_coord_dst_0"][is_main].tolist() == [2, 2, 2]


# -- sholl -------------------------------------------------------------------------------------------------------


def test_a_star_crosses_every_sphere_around_its_middle_four_times() -> None:
    graph = pk.pixel_graph(STAR)
    assert pk.sholl(graph, (2, 2), [0.5, 1, 1.5, 2, 2.5]).tolist() == [4, 4, 4, 4, 0]
    assert pk.sholl(graph, (2, 2), []).tolist() == []


@pytest.mark.parametrize("spacing", [1.0, (0.5, 2.0)])
def test_crossings_are_those_of_skan(spacing: Any) -> None:
    mask = blobs(5)
    center, radii = (30.0, 64.0), np.arange(3, 90, 3.0)
    expected = skan.csr.sholl_analysis(skan.csr.Skeleton(mask, spacing=spacing), center=center, shells=radii)[2]
    assert_array_equal(pk.sholl(pk.pixel_graph(mask, spacing), center, radii), expected)


def test_a_link_crosses_all_spheres_between_its_ends() -> None:
    assert pk.sholl(pk.pixel_graph([1, 1], spacing=10), [0], [2, 3, 10, 11]).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("center", [(1,), (1, 2, 3), 1.0, (np.nan, 0)])
def test_a_center_of_another_shape_is_refused(center: Any) -> None:
    with pytest.raises(ValueError, match="center must be 2 finite numbers"):
        pk.sholl(pk.pixel_graph(STAR), center, [1])


@pytest.mark.parametrize("radii", [1.0, [2, 1], [1, 1], [-1, 2], [1, np.inf], [[1, 2]]])
def test_radii_that_do_not_ascend_are_refused(radii: Any) -> None:
    with pytest.raises(ValueError, match="radii must be finite, at least 0, and ascend"):
        pk.sholl(pk.pixel_graph(STAR), (2, 2), radii)
