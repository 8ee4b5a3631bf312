"""Kernels: numba and numpy on arrays, one file a family; no I/O, no cluster. ``import parimg.kernels as pk``.

Each family is loaded when its first name is used: an engine loads, and compiles, only what its task needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parimg.kernels.descriptors import Matches, match_descriptors, nearest_descriptors
    from parimg.kernels.filters import (
        generic_filter,
        generic_filter1d,
        geometric_transform,
        jit_filter1d_function,
        jit_filter_function,
        jit_geometric_function,
    )
    from parimg.kernels.global_descriptors import expand_query, mac, region_vectors, rmac, rmac_regions
    from parimg.kernels.verification import Verification, verify_matches
    from parimg.kernels.whitening import Whitening, learn_whitening

_HOMES = {
    "Matches": "descriptors",
    "match_descriptors": "descriptors",
    "nearest_descriptors": "descriptors",
    "generic_filter": "filters",
    "generic_filter1d": "filters",
    "geometric_transform": "filters",
    "jit_filter1d_function": "filters",
    "jit_filter_function": "filters",
    "jit_geometric_function": "filters",
    "expand_query": "global_descriptors",
    "mac": "global_descriptors",
    "region_vectors": "global_descriptors",
    "rmac": "global_descriptors",
    "rmac_regions": "global_descriptors",
    "Whitening": "whitening",
    "learn_whitening": "whitening",
    "Verification": "verification",
    "verify_matches": "verification",
}

__all__ = [
    "Matches",
    "Verification",
    "Whitening",
    "expand_query",
    "generic_filter",
    "generic_filter1d",
    "geometric_transform",
    "jit_filter1d_function",
    "jit_filter_function",
    "jit_geometric_function",
    "learn_whitening",
    "mac",
    "match_descriptors",
    "nearest_descriptors",
    "region_vectors",
    "rmac",
    "rmac_regions",
    "verify_matches",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'parimg.kernels' has no attribute {name!r}")
    return getattr(import_module(f"parimg.kernels.{home}"), name)


def __dir__() -> list[str]:
    return list(__all__)
