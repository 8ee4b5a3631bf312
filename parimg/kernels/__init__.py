"""Kernels: numba and numpy on arrays, one file a family; no I/O, no cluster. ``import parimg.kernels as pk``."""

from parimg.kernels.descriptors import Matches, match_descriptors, nearest_descriptors

__all__ = ["Matches", "match_descriptors", "nearest_descriptors"]
