from .controller.controller import Controller
from .controller.starting import connect, start
from .images.zarr_passes import shard_ome_zarr, stack_ome_zarr
from .job.comparison import compare_jobs
from .job.job import Job, open_job
from .job.merging import merge_jobs
from .job.repro import write_repro
from .magics.extension import load_ipython_extension
from .pairs.matching import match_pairs
from .pairs.pair_job import PairJob, open_pairs
from .pairs.pictures import plot_match_graph, plot_pair
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
    "PairJob",
    "Record",
    "RegionSearch",
    "SkeletonGraph",
    "Task",
    "compare_jobs",
    "connect",
    "draw_hits",
    "draw_matches",
    "index_images",
    "load_ipython_extension",
    "match_pairs",
    "merge_jobs",
    "open_job",
    "open_pairs",
    "plot_match_graph",
    "plot_matches",
    "plot_pair",
    "plot_record",
    "plot_region",
    "plot_skeleton",
    "shard_ome_zarr",
    "stack_ome_zarr",
    "start",
    "write_report",
    "write_repro",
]

__version__: str
