from .convolution.convolve import convolve, correlate
from .descriptors.matching import Matches, match_descriptors, nearest_descriptors
from .descriptors.verification import Verification, verify_matches
from .filters.generic_filter import generic_filter
from .filters.generic_filter1d import generic_filter1d
from .filters.geometric_transform import geometric_transform
from .filters.low_level_callables import jit_filter1d_function, jit_filter_function, jit_geometric_function
from .pooling.global_descriptors import expand_query, mac, region_vectors, rmac, rmac_regions
from .pooling.whitening import Whitening, learn_whitening
from .regions.many_indexes import search_indexes
from .regions.region_index import (
    RegionIndex,
    RegionMatch,
    RegionMatches,
    integral_image,
    region_descriptor,
)
from .sift.features import SIFTFeatures, detect_sift
from .skeletons.analysis import SkeletonCounts, main_branch, prune, sholl, skeleton_counts
from .skeletons.graph import (
    BranchPaths,
    PixelGraph,
    branch_label_image,
    branch_paths,
    branches,
    join_pixels,
    pixel_graph,
)

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
    "join_pixels",
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
