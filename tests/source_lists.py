"""What tests of sources have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from parimg.sources.source import Source

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def keys(source: Source) -> list[str]:
    return [image.key for image in source]
