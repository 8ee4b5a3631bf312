"""Kernels: numba and numpy on arrays, a folder a family; no I/O, no cluster. ``import parimg.kernels as pk``.

The public names stand in the stub beside this file; each family is loaded when its first name is used: an engine
loads, and compiles, only what its task needs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
