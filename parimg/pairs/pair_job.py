"""PairJob: both jobs of all pairs, and what came of them, as users see it.

Made by `matching` when pairs are matched, and by `open_pairs` later; the exports read from it.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from parimg.errors import JobError
from parimg.job.directory import JobDirectory
from parimg.job.job import Job, open_job
from parimg.job.journal import Journal
from parimg.notebook import markup
from parimg.notebook.live import show_live
from parimg.pairs.block_task import PAIR_TABLE, MatchBlock
from parimg.pairs.directory import Description, PairDirectory
from parimg.pairs.feature_files import Features
from parimg.pairs.feature_task import features_of
from parimg.pairs.image_table import ImageTable, no_images, read_images
from parimg.pairs.match_files import PairMatches, read_matches
from parimg.pairs.planning import read_plan
from parimg.pairs.selection import Names, short_names
from parimg.pairs.two_view import Configuration

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

_SHOWN_PAIRS = 5  # in a notebook
_LOOKED_AT = 100_000  # pairs, among which the best are found
_MODELS = {Configuration.UNCALIBRATED: "fundamental", Configuration.PLANAR_OR_PANORAMIC: "homography"}


class Pair(NamedTuple):
    """What became of one pair.

    Attributes
    ----------
    first, second : str
        Names of the images, below the folder that all are in.
    matches : int
        Descriptors that match.
    inliers : int
        Of these, those that a geometry explains; 0 where the pair is not verified.
    ratio : float
        Their share, 0 without matches.
    model : str or None
        ``"fundamental"``, ``"homography"``, or None where the pair is not verified.
    """

    first: str
    second: str
    matches: int
    inliers: int
    ratio: float
    model: str | None


class PairJob:
    """All pairs of many images: the job that finds features, the job that matches blocks of pairs, and results.

    Made by `parimg.match_pairs` and `parimg.open_pairs`. Everything but waiting works on what is recorded so far.

    Parameters
    ----------
    place : PairDirectory
    features : Job, optional
        If this process runs it.
    go_on : callable, optional
        Starts the second job when the first has ended, called in a thread of its own.

    Attributes
    ----------
    place : PairDirectory
        What lies where.
    features : Job
        A record an image.
    """

    def __init__(
        self, place: PairDirectory, features: Job | None = None, go_on: Callable[[], Job | None] | None = None
    ) -> None:
        self.place = place
        self._description = Description.read(place)
        self.features = open_job(place.features) if features is None else features
        self._blocks: Job | None = None
        self._error: BaseException | None = None
        self._begun = threading.Event()
        if go_on is None:
            self._begun.set()
        else:
            threading.Thread(target=self._run, args=(go_on,), name="parimg-pairs", daemon=True).start()

    def _run(self, go_on: Callable[[], Job | None]) -> None:
        try:
            self._blocks = go_on()
        except BaseException as error:
            self._error = error
        finally:
            self._begun.set()

    @property
    def directory(self) -> str:
        """The directory of both jobs."""
        return self.place.path

    @property
    def blocks(self) -> Job | None:
        """The job of the blocks of pairs; None until all images have a record."""
        if self._blocks is None and self._begun.is_set() and JobDirectory(self.place.blocks).holds_job:
            return open_job(self.place.blocks)
        return self._blocks

    @property
    def state(self) -> str:
        """``running``, ``finished``, ``interrupted``, ``aborted`` or ``failed``."""
        if not self._begun.is_set():
            return "running"
        if self._error is not None:
            return "failed"
        if self.features.state != "finished":
            return self.features.state
        if (blocks := self.blocks) is not None:
            return blocks.state
        return "finished" if os.path.exists(self.place.plan) else "interrupted"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of both jobs.

        Parameters
        ----------
        timeout : float, optional
            Seconds for each of both; by default as long as it takes.

        Returns
        -------
        bool
            Whether they have ended.

        Raises
        ------
        ParimgError
            If one could not go on.
        """
        if not self.features.wait(timeout) or not self._begun.wait(timeout):
            return False
        if self._error is not None:
            raise self._error
        return self._blocks is None or self._blocks.wait(timeout)

    def has_begun(self, timeout: float | None = None) -> bool:
        """Wait until `blocks` has begun, or will not."""
        return self._begun.wait(timeout)

    @property
    def counts(self) -> dict[str, int]:
        """Images and pairs by what became of them.

        ``images`` have a record, of which ``unreadable`` failed and ``featureless`` have no feature;
        ``not_indexed`` are not in the index by which pairs were chosen, so it gave them none; ``pairs`` are
        planned, of which ``matched`` have a result, and of these ``verified`` are; ``skipped`` are the pairs of
        unreadable images that were asked for by name, or with all others.
        """
        images = self.features.counts
        good, failed = images["ok"] or 0, images["failed"] or 0
        plan = read_plan(self.place.plan)
        matched = verified = 0
        for record in self._block_records(arrays=False):
            matched += record["pairs"]
            verified += record["verified"]
        return {
            "images": good + failed,
            "unreadable": failed,
            "featureless": len(self.images().without_features()),
            "not_indexed": plan.not_indexed,
            "pairs": plan.pairs,
            "matched": matched,
            "verified": verified,
            "skipped": failed * good + failed * (failed - 1) // 2 if plan.covers else plan.left_out,
        }

    def __repr__(self) -> str:
        counts = self.counts
        pairs = f"{counts['matched']}/{counts['pairs']} pairs, {counts['verified']} verified"
        return f"<PairJob {self.state}: {counts['images']} images, {pairs}, {self.directory!r}>"

    def _repr_html_(self) -> str:
        counts, runs = self.counts, self.state == "running"
        images = self.features.counts
        seen = f"{counts['unreadable']:,} unreadable, {counts['featureless']:,} without features"
        parts = [
            markup.bar(images["ok"] or 0, images["failed"] or 0, images["total"]),
            f"{counts['images']:,} images, {seen}",
            markup.bar(counts["matched"], 0, counts["pairs"]),
            f"{counts['matched']:,} of {counts['pairs']:,} pairs matched, {counts['verified']:,} verified",
            markup.facts(
                {
                    "left out": counts["skipped"] or None,
                    "not in the index": counts["not_indexed"] or None,
                    "directory": self.directory,
                }
            ),
        ]
        if not runs:
            pairs = sorted(itertools.islice(self, _LOOKED_AT), key=lambda pair: -pair.inliers)[:_SHOWN_PAIRS]
            rows = [(pair.first, pair.second, pair.matches, pair.inliers, pair.model) for pair in pairs]
            parts.append(markup.table(("best pairs", "", "matches", "inliers", "model"), rows) if rows else "")
        return markup.box("PairJob", self.state, parts)

    def _ipython_display_(self) -> None:
        show_live(self._repr_html_, self.__repr__, lambda: self.state == "running")

    # -- images and pairs -------------------------------------------------------------------------------------

    @property
    def identity(self) -> str:
        """Tells this directory from all others, wherever it is moved."""
        return self._description.identity

    @property
    def keeps_unverified(self) -> bool:
        """Whether matches were to be kept as they are."""
        return self._description.options.verify is None

    def images(self) -> ImageTable:
        """The images that have features, numbered from 0; empty until all images have a record."""
        return read_images(self.place.images) if os.path.exists(self.place.images) else no_images()

    def names(self) -> list[str]:
        """Names of the images, by number: paths below the folder that all local images are in, else keys."""
        images = self.images()
        return short_names(images.keys(), images.uris())

    def number(self, image: str | int) -> int:
        """Number of an image that is named by its name, key or path.

        Raises
        ------
        JobError
            If there is no such.
        """
        images = self.images()
        if isinstance(image, int):
            if 0 <= image < len(images):
                return image
            raise JobError(f"there is no image {image}: they are numbered from 0 to {len(images) - 1}")
        found = Names(images.keys(), images.uris()).number(image)
        if found is None:
            from difflib import get_close_matches

            similar = get_close_matches(image, self.names(), 3)
            hint = f"; similar: {', '.join(similar)}" if similar else ""
            raise JobError(f"no image {image!r} has features in {self.directory!r}{hint}")
        return found

    def features_of(self, image: str | int) -> Features:
        """Keypoints and descriptors of an image.

        Raises
        ------
        JobError
            If there is no such image.
        ImageError
            If its features are lost, and it cannot be read or is another one now.
        """
        return features_of(self._task().detect, self.images()[self.number(image)])

    def pixels_of(self, image: str | int) -> npt.NDArray[np.uint8]:
        """Gray pixels of an image, as its features were sought in.

        Parameters
        ----------
        image : str or int
            By name, key, path or number.

        Returns
        -------
        ndarray of uint8, shape (height, width)

        Raises
        ------
        JobError
            If there is no such image, or it was given as an array.
        ImageError
            If it cannot be read.
        """
        from parimg.images.decode import read_image

        about = self.images()[self.number(image)]
        if not about.uri:
            raise JobError(f"{about.key!r} was given as an array, which is not kept")
        detect = self._task().detect
        return read_image(about.uri, detect.color, reading=detect.reading)

    def match(self, first: str | int, second: str | int) -> PairMatches:
        """Match two images here and now, as their block does, with the same answer.

        Parameters
        ----------
        first, second : str or int
            Images by name, key, path or number.

        Returns
        -------
        PairMatches
            Also of pairs that are not planned, with all matches.
        """
        numbers = self.number(first), self.number(second)
        views = [self.features_of(number) for number in numbers]
        matches, geometry = self._task().match(*views)
        return PairMatches(numbers[0], numbers[1], matches, *geometry)

    def tables(self) -> Iterator[npt.NDArray[np.void]]:
        """For each block that is matched a table of its pairs, by the images' numbers; see `MatchBlock`."""
        for record in self._block_records(arrays=True):
            yield record[PAIR_TABLE]

    def matches(self) -> Iterator[PairMatches]:
        """Matches of the verified pairs, of all if none are verified, block by block.

        A block whose file is lost or damaged is matched again, here.
        """
        for record in self._block_records(arrays=False):
            try:
                found = list(read_matches(self.place.match_files, record.key))
            except JobError:
                task = self._task()
                task.run(task.read(record.uri, max_pixels=2**28), record.key)
                found = list(read_matches(self.place.match_files, record.key))
            yield from found

    def __iter__(self) -> Iterator[Pair]:
        """All pairs that are matched so far, block by block."""
        names = self.names()
        for table in self.tables():
            for first, second, matches, inliers, configuration in table.tolist():
                ratio = inliers / matches if matches else 0.0
                yield Pair(names[first], names[second], matches, inliers, ratio, _MODELS.get(configuration))

    def to_pandas(self) -> pd.DataFrame:
        """The pairs that are matched so far as a data frame: columns as `Pair` has them."""
        import pandas as pd

        return pd.DataFrame(list(self), columns=list(Pair._fields))

    def _block_records(self, *, arrays: bool) -> Iterator[Any]:
        if JobDirectory(self.place.blocks).holds_job:
            with Journal(self.place.blocks).snapshot(arrays=arrays) as records:
                yield from (record for record in records() if record.ok)

    def _task(self) -> MatchBlock:
        return block_task(self.place, self._description)

    # -- exports ----------------------------------------------------------------------------------------------

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the pairs that are matched so far as a Parquet file: columns as `Pair` has them."""
        from parimg.pairs.pair_table import write_pair_table

        write_pair_table(self, path)

    def to_colmap(
        self,
        path: str | os.PathLike[str],
        *,
        cameras: Literal["auto", "one", "image"] = "auto",
        overwrite: bool = False,
    ) -> None:
        """Write a COLMAP database, which ``colmap mapper`` and pycolmap read as it is.

        Parameters
        ----------
        path : path
            It appears when it is whole. One that was made of this directory is replaced.
        cameras : {"auto", "one", "image"}
            Which images share a camera: ``"auto"``, those whose files name the same camera, focal length and
            size, as COLMAP does; ``"one"``, all of one size; ``"image"``, none.
        overwrite : bool
            Replace any file that is there.

        Raises
        ------
        JobError
            If there is another file, or it cannot be written, as on a full disk; the pairs stay.
        """
        from parimg.pairs.colmap import write_database

        write_database(self, path, cameras=cameras, overwrite=overwrite)

    def to_hloc(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write ``features.h5``, ``matches.h5`` and ``pairs.txt`` as hloc writes them; needs h5py.

        Parameters
        ----------
        folder : path
            Made if it is not there.
        overwrite : bool
            Replace files that are there.

        Raises
        ------
        JobError
            If there are such files already, or they cannot be written.
        """
        from parimg.pairs.hloc import write_hloc

        write_hloc(self, folder, overwrite=overwrite)


def block_task(place: PairDirectory, description: Description) -> MatchBlock:
    """The task that matches the blocks of a directory."""
    from parimg.pairs.feature_task import DetectFeatures

    options = description.options
    detect = DetectFeatures(
        description.feature_folder,
        n_features=options.n_features,
        contrast_threshold=options.contrast_threshold,
        max_size=options.max_size,
        root=options.root,
        channel=options.channel,
        z=options.z,
        project=options.project,
        percentile=options.percentile,
    )
    return MatchBlock(place.path, detect, options)


def open_pairs(directory: str | os.PathLike[str]) -> PairJob:
    """Look at matched pairs of an earlier session, or of another process, without a cluster.

    Parameters
    ----------
    directory : path
        That of `match_pairs`, or its name among the user's jobs.

    Returns
    -------
    PairJob

    Raises
    ------
    JobError
        If it holds none.
    """
    return PairJob(PairDirectory.find(directory))
