"""Kernels: numba and numpy on arrays, one file a family; no I/O, no cluster. ``import parimg.kernels as pk``.

Each family is loaded when its first name is used: an engine loads, and compiles, only what its task needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parimg.kernels.convolution.convolve import convolve, correlate
    from parimg.kernels.descriptors.matching import Matches, match_descriptors, nearest_descriptors
    from parimg.kernels.descriptors.verification import Verification, verify_matches
    from parimg.kernels.filters.scipy_filters import (
        generic_filter,
        generic_filter1d,
        geometric_transform,
        jit_filter1d_function,
        jit_filter_function,
        jit_geometric_function,
    )
    from parimg.kernels.pooling.global_descriptors import expand_query, mac, region_vectors, rmac, rmac_regions
    from parimg.kernels.pooling.whitening import Whitening, learn_whitening
    from parimg.kernels.regions.region_index import (
        RegionIndex,
        RegionMatch,
        RegionMatches,
        integral_image,
        region_descriptor,
        search_indexes,
    )
    from parimg.kernels.sift.features import SIFTFeatures, detect_sift
    from parimg.kernels.skeletons.analysis import SkeletonCounts, main_branch, prune, sholl, skeleton_counts
    from parimg.kernels.skeletons.graph import (
        BranchPaths,
        PixelGraph,
        branch_label_image,
        branch_paths,
        branches,
        pixel_graph,
    )

_HOMES = {
    "convolve": "convolution.convolve",
    "correlate": "convolution.convolve",
    "Matches": "descriptors.matching",
    "match_descriptors": "descriptors.matching",
    "nearest_descriptors": "descriptors.matching",
    "generic_filter": "filters.scipy_filters",
    "generic_filter1d": "filters.scipy_filters",
    "geometric_transform": "filters.scipy_filters",
    "jit_filter1d_function": "filters.scipy_filters",
    "jit_filter_function": "filters.scipy_filters",
    "jit_geometric_function": "filters.scipy_filters",
    "expand_query": "pooling.global_descriptors",
    "mac": "pooling.global_descriptors",
    "region_vectors": "pooling.global_descriptors",
    "rmac": "pooling.global_descriptors",
    "rmac_regions": "pooling.global_descriptors",
    "RegionIndex": "regions.region_index",
    "RegionMatch": "regions.region_index",
    "RegionMatches": "regions.region_index",
    "integral_image": "regions.region_index",
    "region_descriptor": "regions.region_index",
    "search_indexes": "regions.region_index",
    "SIFTFeatures": "sift.features",
    "detect_sift": "sift.features",
    "SkeletonCounts": "skeletons.analysis",
    "main_branch": "skeletons.analysis",
    "prune": "skeletons.analysis",
    "sholl": "skeletons.analysis",
    "skeleton_counts": "skeletons.analysis",
    "BranchPaths": "skeletons.graph",
    "PixelGraph": "skeletons.graph",
    "branch_label_image": "skeletons.graph",
    "branch_paths": "skeletons.graph",
    "branches": "skeletons.graph",
    "pixel_graph": "skeletons.graph",
    "Verification": "descriptors.verification",
    "verify_matches": "descriptors.verification",
    "Whitening": "pooling.whitening",
    "learn_whitening": "pooling.whitening",
}

__all__ = [
    "BranchPaths",
    "Matches",
    "PixelGraph",
    "RegionIndex",
    "RegionMatch",
    "RegionMatches",
    "SIFTFeatures",
    "SkeletonCounts",
    "Verification",
    "Whitening",
    "branch_label_image",
    "branch_paths",
    "branches",
    "convolve",
    "correlate",
    "detect_sift",
    "expand_query",
    "generic_filter",
    "generic_filter1d",
    "geometric_transform",
    "integral_image",
    "jit_filter1d_function",
    "jit_filter_function",
    "jit_geometric_function",
    "learn_whitening",
    "mac",
    "main_branch",
    "match_descriptors",
    "nearest_descriptors",
    "pixel_graph",
    "prune",
    "region_descriptor",
    "region_vectors",
    "rmac",
    "rmac_regions",
    "search_indexes",
    "sholl",
    "skeleton_counts",
    "verify_matches",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'parimg.kernels' has no attribute {name!r}")
    return getattr(import_module(f"parimg.kernels.{home}"), name)


def __dir__() -> list[str]:
    return list(__all__)
