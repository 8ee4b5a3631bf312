"""Image kernels over very many images on an IPython Parallel cluster.

The public names, loaded when first used, so that ``import parimg`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from parimg.controller import Controller, connect, start
    from parimg.job.job import Job, open_job
    from parimg.plots import draw_hits, draw_matches
    from parimg.record import Record
    from parimg.retrieval.image_index import ImageIndex
    from parimg.retrieval.indexing import index_images
    from parimg.tasks.convolve import Convolve
    from parimg.tasks.feature_map import FeatureMap
    from parimg.tasks.function import Function
    from parimg.tasks.match_sift import MatchSIFT
    from parimg.tasks.neighbourhood_filter import NeighbourhoodFilter
    from parimg.tasks.region_search import RegionSearch
    from parimg.tasks.skeleton_graph import SkeletonGraph
    from parimg.tasks.task import Task

_HOMES = {
    "Controller": "parimg.controller",
    "Convolve": "parimg.tasks.convolve",
    "FeatureMap": "parimg.tasks.feature_map",
    "Function": "parimg.tasks.function",
    "ImageIndex": "parimg.retrieval.image_index",
    "Job": "parimg.job.job",
    "MatchSIFT": "parimg.tasks.match_sift",
    "NeighbourhoodFilter": "parimg.tasks.neighbourhood_filter",
    "Record": "parimg.record",
    "RegionSearch": "parimg.tasks.region_search",
    "SkeletonGraph": "parimg.tasks.skeleton_graph",
    "Task": "parimg.tasks.task",
    "connect": "parimg.controller",
    "draw_hits": "parimg.plots",
    "draw_matches": "parimg.plots",
    "index_images": "parimg.retrieval.indexing",
    "open_job": "parimg.job.job",
    "start": "parimg.controller",
}

__all__ = [
    "Controller",
    "Convolve",
    "FeatureMap",
    "Function",
    "ImageIndex",
    "Job",
    "MatchSIFT",
    "NeighbourhoodFilter",
    "Record",
    "RegionSearch",
    "SkeletonGraph",
    "Task",
    "connect",
    "draw_hits",
    "draw_matches",
    "index_images",
    "open_job",
    "start",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'parimg' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
