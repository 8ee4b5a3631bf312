"""Folders that are made for a trial only: what is checked leaves nothing behind."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def without_new_folders(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Remove afterwards the folders on the way to `path` that the body made, as far as they are empty."""
    folder = None if path is None else Path(os.path.abspath(path))
    above = [] if folder is None else [folder, *folder.parents]
    missing = list(itertools.takewhile(lambda one: not one.exists(), above))
    try:
        yield
    finally:
        for made in missing:
            with contextlib.suppress(OSError):  # it holds something by now, or was never made
                made.rmdir()
