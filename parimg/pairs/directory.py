"""The directory of all pairs: what lies where in it, and what its matches are made with.

`PairDirectory` alone knows the names. Used by all modules of this room on the client.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass, fields
from typing import Any

from parimg.errors import JobError, TaskError
from parimg.files.atomic import whole_file
from parimg.files.permissions import check_private
from parimg.job.directory import JobDirectory, named_directory
from parimg.options import Projection, Reading
from parimg.pairs.two_view import Verify

_FORMAT = 1
_MAKE_ONE = "`parimg match-pairs IMAGES -o matches.db` makes one"


@dataclass(frozen=True, slots=True)
class PairDirectory:
    """What lies where.

    Parameters
    ----------
    path : str
        Made absolute.
    """

    path: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.path.abspath(self.path))

    @classmethod
    def find(cls, name: str | os.PathLike[str] | None) -> PairDirectory:
        """The directory of a path, or of a name among those that were given none; without a name a new one."""
        if name is None:
            return cls(JobDirectory.make("MatchPairs").path)
        return cls(named_directory(name, lambda path: cls(path).holds_pairs))

    @property
    def wanted(self) -> str:
        """The file that says which pairs were asked for last."""
        return os.path.join(self.path, "wanted.json")

    @property
    def description(self) -> str:
        """The file that says what matches are made with."""
        return os.path.join(self.path, "pairs.json")

    @property
    def features(self) -> str:
        """Directory of the job that finds features."""
        return os.path.join(self.path, "features")

    @property
    def blocks(self) -> str:
        """Directory of the job that matches blocks of pairs."""
        return os.path.join(self.path, "blocks")

    @property
    def feature_files(self) -> str:
        """Folder of the feature files, unless another one was named."""
        return os.path.join(self.path, "feature_files")

    @property
    def match_files(self) -> str:
        """Folder of the matches, a file a block."""
        return os.path.join(self.path, "match_files")

    @property
    def images(self) -> str:
        """The table of images by number."""
        return os.path.join(self.path, "images.arrow")

    @property
    def plan(self) -> str:
        """The table of blocks, source of their job."""
        return os.path.join(self.path, "blocks.parquet")

    @property
    def holds_pairs(self) -> bool:
        """Whether it is such a directory."""
        return os.path.isfile(self.description)

    def remove(self) -> None:
        """Delete both jobs and all that they wrote; other files that lie in the directory stay, and then it.

        Raises
        ------
        JobLockedError
            If a process writes one of both.
        JobError
            If one cannot be deleted.
        """
        for path in (self.features, self.blocks):
            if (job := JobDirectory(path)).holds_job:
                job.remove()
        for folder in (self.features, self.blocks, self.feature_files, self.match_files):
            shutil.rmtree(folder, ignore_errors=True)
        for path in (self.images, self.plan, self.wanted, self.description):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        with contextlib.suppress(OSError):
            os.rmdir(self.path)

    def check_free(self) -> None:
        """Refuse a directory that holds something else.

        Raises
        ------
        JobError
        """
        if JobDirectory(self.path).holds_job:
            raise JobError(f"{self.path!r} holds another job; give a new directory for the pairs")
        own = {os.path.basename(path) for path in (self.features, self.feature_files)}
        others = sorted(set(os.listdir(self.path)) - own) if os.path.isdir(self.path) else []
        if others:
            raise JobError(f"{self.path!r} holds {others[0]!r}; the directory of pairs must be new or empty")


@dataclass(frozen=True)
class PairOptions:
    """What matches are made with: the content of ``pairs.json``, as `match_pairs` explains it.

    Raises
    ------
    TaskError, JobError
        If one is out of its range.
    """

    n_features: int = 5000
    contrast_threshold: float = 0.016
    max_size: int | None = 3200
    root: bool = True
    max_ratio: float | None = 0.8
    verify: Verify | None = "fundamental"
    verify_threshold: float = 2.0
    min_inliers: int = 15
    channel: int | str | None = None
    z: int | None = None
    project: Projection | None = None
    percentile: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "percentile", Reading(self.channel, self.z, self.project, self.percentile).percentile
        )
        if self.max_ratio is not None and not (_is_number(self.max_ratio) and 0 < self.max_ratio <= 1):
            raise TaskError(f"max_ratio must lie in (0, 1] or be None (got {self.max_ratio!r})")
        if self.verify not in {"fundamental", "homography", None}:
            raise TaskError(f"verify must be 'fundamental', 'homography' or None (got {self.verify!r})")
        if not _is_number(self.verify_threshold) or not self.verify_threshold > 0:
            raise TaskError(f"verify_threshold must be a positive number (got {self.verify_threshold!r})")
        if isinstance(self.min_inliers, bool) or not isinstance(self.min_inliers, int) or self.min_inliers < 8:
            raise TaskError(
                f"min_inliers must be an integer of at least 8, what a fundamental matrix takes (got "
                f"{self.min_inliers!r})"
            )


@dataclass(frozen=True)
class Description:
    """Content of ``pairs.json``.

    Attributes
    ----------
    identity : str
        Tells the directory from all others, wherever it is moved; a database that was made of it holds it.
    feature_folder : str
        Where feature files lie, absolute path.
    options : PairOptions
    """

    identity: str
    feature_folder: str
    options: PairOptions

    @classmethod
    def new(cls, feature_folder: str, options: PairOptions) -> Description:
        """For a new directory."""
        return cls(secrets.token_hex(16), feature_folder, options)

    @classmethod
    def read(cls, place: PairDirectory) -> Description:
        """That of a directory.

        Raises
        ------
        JobError
            If it holds none, one of another format, or one that others can write.
        """
        try:
            with open(place.description, encoding="utf-8") as file:
                found = json.load(file)
            if found["format"] == _FORMAT:
                check_private(place.path)
                return cls(found["identity"], found["feature_folder"], PairOptions(**found["options"]))
            problem = f"has format {found['format']}, this parimg reads {_FORMAT}"
        except FileNotFoundError:
            problem = "holds no pairs of images"
        except (OSError, ValueError, TypeError, KeyError) as error:
            problem = f"has a damaged {os.path.basename(place.description)} ({type(error).__name__}: {error})"
        raise JobError(f"{place.path!r} {problem}; {_MAKE_ONE}")

    def write(self, place: PairDirectory) -> None:
        """Write it, whole."""
        content: dict[str, Any] = {"format": _FORMAT, **asdict(self)}
        with whole_file(place.description) as path, open(path, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)

    def check_same(self, place: PairDirectory, options: PairOptions) -> None:
        """Refuse options that are not those that a directory was made with.

        Raises
        ------
        JobError
        """
        for each in fields(options):
            before, now = getattr(self.options, each.name), getattr(options, each.name)
            if before != now:
                raise JobError(
                    f"the pairs in {place.path!r} were matched with {each.name}={before!r}, not {now!r}; give "
                    "another directory"
                )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
