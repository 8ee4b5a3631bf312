"""Making an index of many images: a job of `FeatureMap`, whose files and descriptors are searched afterwards.

Also tells, for `retrieval.py`, which folder is such an index. Used by ``parimg index``.
"""

from __future__ import annotations

import ast
import inspect
import os
from typing import TYPE_CHECKING, Any, Literal

from parimg.errors import JobError
from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.sources.as_source import as_source
from parimg.tasks.feature_map import FeatureMap, PerChannel

if TYPE_CHECKING:
    from collections.abc import Callable

    from parimg.controller import Controller
    from parimg.job.job import Job
    from parimg.sources.as_source import Images
    from parimg.sources.source import Source

REGIONS = "regions"
"""Folder of the files of an index, in its directory."""

_JOB = "job"
_SIZE, _MEAN, _SCALE = 640, 127.0, 1 / 128


def index_images(
    controller: Controller,
    images: Images,
    directory: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str],
    layer: str | None = None,
    size: int | tuple[int, int] | None = _SIZE,
    mean: PerChannel = _MEAN,
    scale: PerChannel = _SCALE,
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
    each image; ``gathered-...``, all names and descriptors, is made by the first search, and again when images
    were added. With EfficientNet-Lite0 and ``pooling="max"`` it takes about 3 MB an image at 640 pixels, 8 MB at
    1024.
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
    return controller.submit(task, source, job_dir=job_dir, **options)


def _options_of(method: Callable[..., Job]) -> set[str]:
    """What users of an index may pass on."""
    parameters = inspect.signature(method).parameters.values()
    return {each.name for each in parameters if each.kind is each.KEYWORD_ONLY} - {"job_dir", "images", "retry"}


def check_index(
    directory: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str],
    layer: str | None = None,
    size: int | tuple[int, int] | None = _SIZE,
    mean: PerChannel = _MEAN,
    scale: PerChannel = _SCALE,
    pooling: Literal["sum", "max"] = "max",
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
        found, wanted = open_journal(folder).meta("task")["parameters"], task.describe()
        if not _is_same_folder(found["output"], wanted["output"]):
            raise JobError(
                f"the index {folder!r} was moved: its regions would be written to {found['output']}; it can be "
                "searched here, but added to only there"
            )
        for name in wanted.keys() - {"model", "output", "digest"}:  # a model may be called otherwise from here
            if found.get(name) != wanted[name]:
                raise JobError(f"the index {folder!r} was made with {name}={found.get(name)}, not {wanted[name]}")
        if found.get("digest") != wanted["digest"]:
            raise JobError(
                f"the index {folder!r} was made with another model, {found['model']} with digest "
                f"{found.get('digest')}; {os.fspath(model)!r} has {wanted['digest']}"
            )
    elif os.path.isdir(folder) and (others := sorted(set(os.listdir(folder)) - {_JOB, REGIONS})):
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


def open_journal(directory: str) -> Journal:
    """The journal of an index.

    Raises
    ------
    JobError
        If the directory holds none, or another job.
    """
    job_dir = _job_dir(directory)
    if not JobDirectory(job_dir).holds_job:
        raise JobError(f"{directory!r} is no index; `parimg index IMAGES --model M -o DIR` makes one")
    journal = Journal(job_dir)
    about = journal.meta("task")
    parameters = about["parameters"]
    if (
        about["name"] != FeatureMap.__name__
        or parameters.get("index") == "None"
        or parameters.get("rmac") != "True"
    ):
        raise JobError(f"{directory!r} is no index: {job_dir!r} is another job, of {about['name']}")
    return journal


def _job_dir(directory: str) -> str:
    return os.path.join(directory, _JOB)


def _is_same_folder(described: str, wanted: str) -> bool:
    """Whether two folders, as `Task.describe` writes them, are one, maybe by way of a link."""
    if described == wanted:
        return True
    try:
        first, second = (os.path.realpath(ast.literal_eval(text)) for text in (described, wanted))
    except (SyntaxError, ValueError):  # long paths are abridged
        return False
    return bool(first == second)
