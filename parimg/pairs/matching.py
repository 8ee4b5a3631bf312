"""`match_pairs`: features of every image, then matches of every pair, as two jobs in one directory.

Takes whatever submits jobs; called by the controller, the command line and users.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

from parimg.errors import JobError, SourceError
from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.pairs.directory import Description, PairDirectory, PairOptions
from parimg.pairs.image_table import ImageTable, add_images, no_images, read_images, write_images
from parimg.pairs.pair_job import PairJob, block_task
from parimg.pairs.planning import COLUMN, add_pairs
from parimg.pairs.selection import (
    Index,
    Selection,
    check_selection,
    not_indexed,
    read_selection,
    select_pairs,
    unknown_names,
    write_selection,
)
from parimg.sources.as_source import as_source, source_from_spec

if TYPE_CHECKING:
    from parimg.job.job import Job
    from parimg.options import Projection
    from parimg.pairs.selection import Pairs
    from parimg.pairs.two_view import Verify
    from parimg.sources.as_source import Images, Source

_OF_IMAGES = {"timeout", "max_pixels"}  # options that make no sense for a block


class Submits(Protocol):
    """What runs jobs: a `parimg.Controller`."""

    @property
    def submit(self) -> Any:
        """Run a task on every image of a source."""

    @property
    def resume(self) -> Any:
        """Run what an earlier run of a job did not record."""


def match_pairs(
    controller: Submits,
    images: Images,
    pairs: Pairs = "all",
    *,
    job_dir: str | os.PathLike[str] | None = None,
    overlap: int = 10,
    neighbours: int = 50,
    index: Index | None = None,
    verify: Verify | None = "fundamental",
    verify_threshold: float = 2.0,
    min_inliers: int = 15,
    max_ratio: float | None = 0.8,
    n_features: int = 5000,
    contrast_threshold: float = 0.016,
    max_size: int | None = 3200,
    root: bool = True,
    channel: int | str | None = None,
    z: int | None = None,
    project: Projection | None = None,
    percentile: tuple[float, float] | None = None,
    feature_folder: str | os.PathLike[str] | None = None,
    column: str | None = None,
    **options: Any,
) -> PairJob:
    """Find features of images and match them pair by pair, or go on with that.

    Parameters
    ----------
    controller : Controller
        Whose engines see the directory.
    images : see `Controller.submit`
        Those that are in the directory already keep their features; those that failed are tried again. With images
        that were added, only pairs are matched that were not before.
    pairs : {"all", "sequential", "retrieval"}, path, or list of (str, str)
        ``"all"``: every image with every other. ``"sequential"``: each with the next `overlap` images of the
        source, and, with an `index`, with those that look alike, which closes loops. ``"retrieval"``: each with
        the `neighbours` that look most alike. Or pairs of names: a list, a data frame or Arrow table of two
        columns, a ``.csv`` or ``.parquet`` file of one, or a text file with two names a line.
    job_dir : path, optional
        Directory of the pairs: new, or that of pairs matched with the same options, which are gone on with. By
        default a new one among the user's data; ``job.directory`` tells it.
    overlap : int, default 10
    neighbours : int, default 50
    index : ImageIndex, optional
        Of the same images, by the same paths.
    verify : {"fundamental", "homography", None}
        Geometry that must explain the matches of a pair: ``"fundamental"``, a fundamental matrix, or a homography
        where that explains at least 0.8 times as many; ``"homography"``, for flat things and turned cameras. None:
        nothing is verified, and all matches are kept.
    verify_threshold : float, default 2.0
        Largest distance of an inlier from where the geometry puts it, pixels.
    min_inliers : int, default 15
        A pair with fewer is not verified.
    max_ratio : float or None, default 0.8
        Keep a match only if its distance is below this share of that to the second best.
    n_features : int, default 5000
        The strongest features to keep in an image; 0 keeps all.
    contrast_threshold : float, default 0.016
        SIFT's threshold on contrast; larger gives fewer features. With 0.016 there are about as many
        as COLMAP's detector finds.
    max_size : int or None, default 3200
        Images whose longer side has more pixels are scaled down to it before features are sought.
    root : bool, default True
        Compare square roots of descriptors normalised to a sum of 1 (RootSIFT).
    channel, z, project, percentile : optional
        What of each image is read, and how it is made 8 bit, as for `Controller.submit`.
    feature_folder : path, optional
        Where feature files lie, for several directories of pairs that share them; by default in `job_dir`.
    column : str, optional
        Column of paths, if `images` is a table.
    **options
        Those of `Controller.submit` that say how jobs are run; `timeout` and `max_pixels` are for images, not for
        blocks.

    Returns
    -------
    PairJob
        At once; the jobs run on.

    Raises
    ------
    TaskError, SourceError, JobError
        If something was typed wrong, or the directory holds something else, or pairs matched with other options.

    Notes
    -----
    The descriptors of both images are compared each with each, exactly: a match is a pair of descriptors that are
    each other's nearest. What is verified is a pure function of both images and the options.

    References
    ----------
    J. L. Schönberger, J.-M. Frahm, "Structure-from-Motion Revisited", CVPR 2016 (COLMAP).

    Examples
    --------
    >>> with parimg.start() as ctl:  # doctest: +SKIP
    ...     job = parimg.match_pairs(ctl, "photos/")
    ...     job.wait()
    ...     job.to_colmap("matches.db")
    """
    given = PairOptions(
        n_features=n_features,
        contrast_threshold=contrast_threshold,
        max_size=max_size,
        root=root,
        max_ratio=max_ratio,
        verify=verify,
        verify_threshold=verify_threshold,
        min_inliers=min_inliers,
        channel=channel,
        z=z,
        project=project,
        percentile=percentile,
    )
    selection = check_selection(pairs, overlap=overlap, neighbours=neighbours, index=index)
    source = as_source(images, column=column, absolute_keys=True)
    if job_dir is None:
        check_names(selection, source)
    place = PairDirectory.find(job_dir)
    description = check_directory(place, given, feature_folder)
    check_names(selection, source, place)
    block_task(place, description)  # which checks how features are sought
    if not place.holds_pairs:
        os.makedirs(place.path, mode=0o700, exist_ok=True)
        description.write(place)
    write_selection(selection, place.wanted)
    return _run(controller, place, description, selection, source, options)


def resume_pairs(
    controller: Submits, directory: str | os.PathLike[str], open_index: Callable[[str], Index], **options: Any
) -> PairJob:
    """Run what is missing of a directory of pairs: features, and the pairs that were asked for last.

    Parameters
    ----------
    controller : Controller
    directory : path
    open_index : callable
        Opens the index in a directory, where pairs are chosen by one.
    **options
        See `match_pairs`.

    Returns
    -------
    PairJob

    Raises
    ------
    JobError
        If it holds no pairs, or what was asked for cannot be found any more.
    """
    place = PairDirectory.find(directory)
    description = Description.read(place)
    return _run(controller, place, description, read_selection(place.wanted, open_index), None, options)


def _run(
    controller: Submits,
    place: PairDirectory,
    description: Description,
    selection: Selection,
    source: Source | None,
    options: dict[str, Any],
) -> PairJob:
    """Both jobs, new or gone on with; without a source the images are those of before."""
    task = block_task(place, description)
    job_options = {name: value for name, value in options.items() if name not in _OF_IMAGES}
    if JobDirectory(place.features).holds_job:
        features: Job = controller.resume(place.features, images=source, retry="failed", **options)
    elif source is not None:
        features = controller.submit(task.detect, source, job_dir=place.features, **options)
    else:
        raise JobError(f"the pairs in {place.path!r} never began; give their images once more")

    def go_on() -> Job | None:
        features.wait()
        if features.state != "finished":
            return None
        if not _plan(place, selection, source):
            return None
        if JobDirectory(place.blocks).holds_job:
            blocks: Job = controller.resume(place.blocks, retry="failed", **job_options)
        else:
            blocks = controller.submit(task, place.plan, column=COLUMN, job_dir=place.blocks, **job_options)
        return blocks

    return PairJob(place, features, go_on)


def check_directory(
    place: PairDirectory, options: PairOptions, feature_folder: str | os.PathLike[str] | None = None
) -> Description:
    """The description of a directory that pairs may be matched into with these options, new or not.

    Raises
    ------
    JobError
        If it holds something else, or pairs matched with other options or features in another folder.
    """
    folder = place.feature_files if feature_folder is None else os.path.abspath(feature_folder)
    if not place.holds_pairs:
        place.check_free()
        return Description.new(folder, options)
    found = Description.read(place)
    found.check_same(place, options)
    return found


def check_names(selection: Selection, source: Source, place: PairDirectory | None = None) -> None:
    """Refuse pairs of images that the source and the directory do not have, as far as that is known before.

    Raises
    ------
    SourceError
    TaskError
        If pairs are chosen by an index of other images.
    """
    if selection.retrieval is not None and source.restartable:
        not_indexed(selection, [image.uri for image in source])
    if selection.mode == "list" and source.restartable:
        listed = list(source)
        known = read_images(place.images) if place and os.path.exists(place.images) else no_images()
        keys = [*known.keys(), *(image.key for image in listed)]
        uris = [*known.uris(), *(image.uri for image in listed)]
        _refuse_unknown(selection, keys, uris)


def _refuse_unknown(selection: Selection, keys: Sequence[str], uris: Sequence[str]) -> None:
    if unknown := unknown_names(selection, keys, uris):
        similar = get_close_matches(unknown[0], [*keys, *map(os.path.basename, uris)], 3)
        hint = f"; similar: {', '.join(similar)}" if similar else ""
        raise SourceError(
            f"{len(unknown)} names in the list of pairs are of no image, the first is {unknown[0]!r}{hint}"
        )


def _plan(place: PairDirectory, selection: Selection, source: Source | None) -> int:
    """Number the images, and add the pairs that are wanted and not planned yet; the number of blocks there are."""
    journal = Journal(place.features)
    before = read_images(place.images) if os.path.exists(place.images) else no_images()
    with journal.snapshot() as records:
        images = add_images(before, records())
    if len(images) > len(before) or not len(before):
        write_images(images, place.images)
    keys, uris = images.keys(), images.uris()
    if selection.mode == "list":
        with journal.snapshot() as records:
            failed = [(record.key, record.uri) for record in records() if not record.ok]
        _refuse_unknown(selection, [*keys, *(key for key, _ in failed)], [*uris, *(uri for _, uri in failed)])
    missing = set(unknown_names(selection, keys, uris))
    left_out = sum(first in missing or second in missing for first, second in selection.names)
    order = _order(images, journal, source) if selection.mode == "sequential" else range(len(images))
    add_pairs(
        place.plan,
        select_pairs(selection, keys, uris, order),
        len(images),
        left_out=left_out,
        not_indexed=not_indexed(selection, uris),
    )
    import pyarrow.parquet as pq

    return int(pq.read_metadata(place.plan).num_rows)


def _order(images: ImageTable, journal: Journal, source: Source | None) -> list[int]:
    """Numbers of the images as their sources name them now, as far as these can be listed again."""
    numbers = {key: number for number, key in enumerate(images.keys())}
    if source is None or source.restartable:
        named = [image.key for image in source_from_spec(journal.meta("source"))]
        found = [numbers.pop(key) for key in named if key in numbers]
        return [*found, *numbers.values()]
    return list(numbers.values())
