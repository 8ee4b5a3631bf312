"""Kernels: numba and numpy on arrays, one file a family; no I/O, no cluster. ``import parimg.kernels as pk``.

Each family is loaded when its first name is used: an engine loads, and compiles, only what its task needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parimg.kernels.descriptors import Matches, match_descriptors, nearest_descriptors
    from parimg.kernels.verification import Verification, verify_matches

_HOMES = {
    "Matches": "descriptors",
    "match_descriptors": "descriptors",
    "nearest_descriptors": "descriptors",
    "Verification": "verification",
    "verify_matches": "verification",
}

__all__ = ["Matches", "Verification", "match_descriptors", "nearest_descriptors", "verify_matches"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'parimg.kernels' has no attribute {name!r}")
    return getattr(import_module(f"parimg.kernels.{home}"), name)


def __dir__() -> list[str]:
    return list(__all__)
