"""Image kernels over very many images on an IPython Parallel cluster.

The public names stand in the stub beside this file; each is loaded when first used, so that ``import parimg``
costs next to nothing.
"""

import lazy_loader

try:
    from parimg._version import __version__
except ImportError:  # a source tree that was never installed
    __version__ = "0+unknown"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
