"""Making an index of many images: a job of `FeatureMap`, whose files and descriptors are searched afterwards.

Also tells, for `image_index`, which folder is such an index. Used by ``parimg index``.
"""

from __future__ import annotations

import inspect
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from parimg.errors import JobError
from parimg.files.atomic import whole_file
from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.retrieval.descriptor_table import DESCRIPTORS_FILE
from parimg.sources.as_source import as_source
from parimg.tasks.feature_map import FeatureMap, PerChannel

if TYPE_CHECKING:
    from collections.abc import Callable

    from parimg.controller.controller import Controller
    from parimg.job.job import Job
    from parimg.sources.as_source import Images
    from parimg.sources.source import Source

REGIONS = "regions"
"""Folder of the files of an index, in its directory."""

_JOB = "job"
_DESCRIPTION = "index.json"
_FORMAT = 2
_MAKE_ONE = "`parimg index IMAGES --model M -o DIR` makes one"


@dataclass(frozen=True)
class IndexDescription:
    """What an index was made with: the content of its ``index.json``."""

    model: str
    digest: str
    """Of the model up to the layer."""
    layer: str | None
    size: int | tuple[int, int] | None
    mean: PerChannel
    scale: PerChannel
    pooling: str
    regions: str
    """Folder that regions are written to, real path."""
    format: int = _FORMAT

    @classmethod
    def of(cls, task: FeatureMap) -> IndexDescription:
        """That of the index which a task makes.

        Raises
        ------
        TaskError
            If its model cannot be read.
        """
        regions = os.path.realpath(task.folder or "")
        numbers = task.size, task.mean, task.scale
        return cls(os.fspath(task.model), task.digest, task.layer, *numbers, task.index or "", regions)

    @classmethod
    def read(cls, directory: str) -> IndexDescription:
        """That of an index there is.

        Raises
        ------
        JobError
            If there is none, or one of another format.
        """
        try:
            with open(os.path.join(directory, _DESCRIPTION), encoding="utf-8") as file:
                found = json.load(file)
            if found["format"] == _FORMAT:
                return cls(**found)
            problem = f"has format {found['format']}, this parimg reads {_FORMAT}"
        except FileNotFoundError:
            problem = f"has no {_DESCRIPTION}: it is no index, or one that an older parimg made"
        except (OSError, ValueError, TypeError, KeyError) as error:
            problem = f"has a damaged {_DESCRIPTION} ({type(error).__name__}: {error})"
        raise JobError(f"{directory!r} {problem}; {_MAKE_ONE}, in a new folder")

    def write(self, directory: str) -> None:
        """Write it, whole."""
        os.makedirs(directory, exist_ok=True)
        with whole_file(os.path.join(directory, _DESCRIPTION)) as path, open(path, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=2)


def index_images(
    controller: Controller,
    images: Images,
    directory: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str],
    layer: str | None = None,
    size: int | tuple[int, int] | None = 640,
    mean: PerChannel = 127.0,
    scale: PerChannel = 1 / 128,
    pooling: Literal["sum", "max"] = "max",
    **options: Any,
) -> Job:
    """Index images for retrieval, or go on with an index.

    Parameters
    ----------
    controller : Controller
        Whose engines see `directory`.
    images : see `Controller.submit`
        Those that are in the index already are left as they are; those that failed are tried again.
    directory : path
        New, or that of an index made with the same parameters.
    model, layer, size, mean, scale
        As for `FeatureMap`. Files grow with the square of `size`.
    pooling : {"max", "sum"}
        How regions become vectors.
    **options
        As for `Controller.submit`, without `job_dir`. An index that exists keeps those it was made with: of it
        only `column` and `listeners` may be given.

    Returns
    -------
    Job
        Of `FeatureMap`, at once; what it has recorded can be searched while it runs.

    Raises
    ------
    JobError
        If the directory holds something else, or an index made with other parameters or another model; if an
        option is given that the index cannot change.
    SourceError, TaskError
        As `Controller.submit`.
    TypeError
        If there is no such option.

    Notes
    -----
    Local images are named by their absolute paths, so that they are the same from whatever directory they are
    added.

    In the directory, ``job`` is the job, which can be resumed like any other; ``regions`` has a `RegionIndex` for
    each image; ``index.json`` says what the index was made with; ``descriptors.arrow``, all names and
    descriptors, is made by the first search, and again when images were added. With
    EfficientNet-Lite0 and ``pooling="max"`` it takes about 3 MB an image at 640 pixels, 8 MB at 1024.
    """
    for name in options.keys() - _options_of(controller.submit):
        raise TypeError(f"index_images() got an unexpected keyword argument {name!r}")
    task = check_index(directory, model=model, layer=layer, size=size, mean=mean, scale=scale, pooling=pooling)
    job_dir = _job_dir(os.path.realpath(directory))
    grows = JobDirectory(job_dir).holds_job
    for name in options.keys() - _options_of(controller.resume) if grows else ():
        raise JobError(
            f"{name} must be left out for the index {os.fspath(directory)!r}: it exists, and keeps the one it was "
            f"made with (got {name}={options[name]!r})"
        )
    source = as_source(images, column=options.pop("column", None), absolute_keys=True)
    if grows:
        return controller.resume(job_dir, images=source, retry="failed", **options)
    IndexDescription.of(task).write(os.path.dirname(job_dir))
    return controller.submit(task, source, job_dir=job_dir, **options)


def _options_of(method: Callable[..., Job]) -> set[str]:
    """What users of an index may pass on."""
    parameters = inspect.signature(method).parameters.values()
    return {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} - {"job_dir", "images", "retry"}


def check_index(
    directory: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str],
    layer: str | None,
    size: int | tuple[int, int] | None,
    mean: PerChannel,
    scale: PerChannel,
    pooling: Literal["sum", "max"],
) -> FeatureMap:
    """The task that `index_images` would submit, if it may be: the directory is new, or has such an index.

    Raises
    ------
    JobError, TaskError
        As `index_images`.
    """
    folder = os.path.realpath(directory)
    task = FeatureMap(
        model, layer, size, mean, scale, output=os.path.join(folder, REGIONS), index=pooling, rmac=True
    )
    if JobDirectory(_job_dir(folder)).holds_job:
        open_journal(folder)
        found, wanted = IndexDescription.read(folder), IndexDescription.of(task)
        if os.path.realpath(found.regions) != wanted.regions:
            raise JobError(
                f"the index {folder!r} was moved: its regions would be written to {found.regions!r}; it can be "
                "searched here, but added to only there"
            )
        for name in ("layer", "size", "mean", "scale", "pooling"):  # a model may be called otherwise from here
            before, now = getattr(found, name), getattr(wanted, name)
            if json.dumps(before) != json.dumps(now):  # a tuple comes back as a list
                raise JobError(f"the index {folder!r} was made with {name}={before!r}, not {now!r}")
        if found.digest != wanted.digest:
            raise JobError(
                f"the index {folder!r} was made with another model, {found.model!r} with digest {found.digest}; "
                f"{wanted.model!r} has {wanted.digest}"
            )
    elif os.path.isdir(folder) and (
        others := sorted(set(os.listdir(folder)) - {_JOB, REGIONS, _DESCRIPTION, DESCRIPTORS_FILE})
    ):
        raise JobError(f"{folder!r} is no index: it holds {others[0]!r}; choose a new folder")
    return task


def lacks_images(directory: str | os.PathLike[str], source: Source) -> bool:
    """Whether `index_images` would find something to do: an image that is new, or failed, or an unfinished job."""
    if not JobDirectory(_job_dir(os.fspath(directory))).holds_job:
        return True
    journal = open_journal(os.fspath(directory))
    if journal.last_run().state != "finished" or journal.count_by_status()["failed"]:
        return True
    return journal.lacks_any(image.key for image in source)


def index_job(directory: str | os.PathLike[str]) -> JobDirectory:
    """Where the job of an index lies, or will lie."""
    return JobDirectory(_job_dir(os.path.realpath(directory)))


def open_journal(directory: str) -> Journal:
    """The journal of an index.

    Raises
    ------
    JobError
        If the directory holds none, or one of another format.
    """
    job_dir = _job_dir(directory)
    if not JobDirectory(job_dir).holds_job:
        raise JobError(f"{directory!r} is no index; {_MAKE_ONE}")
    IndexDescription.read(directory)
    return Journal(job_dir)


def _job_dir(directory: str) -> str:
    return os.path.join(directory, _JOB)
