from .controller.controller import Controller
from .controller.starting import connect, start
from .job.job import Job, open_job
from .pairs.matching import match_pairs
from .pairs.pair_job import PairJob, open_pairs
from .pairs.pictures import plot_match_graph, plot_pair
from .plots import draw_hits, draw_matches
from .record import Record
from .retrieval.image_index import ImageIndex
from .retrieval.indexing import index_images
from .tasks.convolve import Convolve
from .tasks.feature_map import FeatureMap
from .tasks.function import Function
from .tasks.match_sift import MatchSIFT
from .tasks.neighbourhood_filter import NeighbourhoodFilter
from .tasks.region_search import RegionSearch
from .tasks.skeleton_graph import SkeletonGraph
from .tasks.task import Task

__all__ = [
    "Controller",
    "Convolve",
    "FeatureMap",
    "Function",
    "ImageIndex",
    "Job",
    "MatchSIFT",
    "NeighbourhoodFilter",
    "PairJob",
    "Record",
    "RegionSearch",
    "SkeletonGraph",
    "Task",
    "connect",
    "draw_hits",
    "draw_matches",
    "index_images",
    "match_pairs",
    "open_job",
    "open_pairs",
    "plot_match_graph",
    "plot_pair",
    "start",
]

__version__: str
