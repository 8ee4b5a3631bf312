"""Which versions ran a job, for its journal: what a later reader needs to run an image again."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from parimg import __version__

_LIBRARIES = ("numpy", "numba", "scipy", "scikit-image", "opencv-python-headless", "tifffile", "ipyparallel")


@cache
def versions() -> dict[str, str]:
    """Versions of parimg, Python, the operating system, and the libraries that may change a value."""
    found = {"parimg": __version__, "python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # its module may be there under another name
            continue
    return found
