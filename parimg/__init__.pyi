from .controller.controller import Controller
from .controller.starting import connect, start
from .job.job import Job, open_job
from .plots.hits import draw_hits
from .plots.matches import draw_matches
from .plots.records import plot_matches, plot_record, plot_region, plot_skeleton
from .record import Record
from .report.page import write_report
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
    "Record",
    "RegionSearch",
    "SkeletonGraph",
    "Task",
    "connect",
    "draw_hits",
    "draw_matches",
    "index_images",
    "open_job",
    "plot_matches",
    "plot_record",
    "plot_region",
    "plot_skeleton",
    "start",
    "write_report",
]

__version__: str
