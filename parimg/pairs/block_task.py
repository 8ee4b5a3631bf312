"""MatchBlock: the second job of all pairs, which matches the pairs of a block.

Runs on engines; submitted by `matching`. An engine maps the feature files of a block into memory once, and
compares each with each; memory follows the block, not the collection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from parimg.kernels.descriptors.matching import match_descriptors
from parimg.pairs.blocks import Block, decode_block
from parimg.pairs.directory import PairDirectory, PairOptions
from parimg.pairs.feature_task import DetectFeatures, features_of
from parimg.pairs.image_table import read_images
from parimg.pairs.match_files import PairMatches, write_matches
from parimg.pairs.two_view import TwoViewGeometry, relate_views, unrelated
from parimg.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.pairs.feature_files import Features

PAIR_TABLE = "pair_table"
"""Name of the table of a block's pairs, among the arrays of its record."""
PAIR_ROW = np.dtype(
    [("first", "<u4"), ("second", "<u4"), ("matches", "<u4"), ("inliers", "<u4"), ("configuration", "u1")]
)


class _Readable(NamedTuple):
    """A block with the features of its images, by number."""

    block: Block
    features: dict[int, Features]


@dataclass(frozen=True, eq=False)
class MatchBlock(WritingTask):
    """Matches of the pairs of a block.

    Parameters
    ----------
    directory : path
        That of `match_pairs`, which engines see.
    detect : DetectFeatures
        How features were found, for those whose file is damaged.
    options : PairOptions
        What is a match, and how matches are verified.

    Notes
    -----
    Columns: ``pairs``, their number; ``verified``, those whose matches a geometry explains; ``matches`` and
    ``inliers``, of all pairs together. The array ``pair_table`` has a row a pair: numbers of both images,
    ``matches``, ``inliers``, ``configuration``. The matches of verified pairs, of all if none are verified, are
    written into a file. ``decode_seconds`` of a record is the time for opening the features.
    """

    folder_parameter: ClassVar[str] = "output"
    writes_images: ClassVar[bool] = False
    columns: ClassVar[Mapping[str, str]] = {
        "pairs": "int64",
        "verified": "int64",
        "matches": "int64",
        "inliers": "int64",
    }

    directory: str = field()
    detect: DetectFeatures = field()
    options: PairOptions = field(default_factory=PairOptions)

    @property
    def output(self) -> str:
        """Folder of the matches."""
        return PairDirectory(self.directory).match_files

    def declared_columns(self) -> dict[str, str]:
        return dict(self.columns)

    def describe(self) -> dict[str, str]:
        return {"directory": repr(self.directory), "options": repr(self.options)}

    def read(self, uri: str, *, max_pixels: int) -> _Readable:
        """Open the features of a block's images."""
        from parimg.images.read import read_bytes

        block = decode_block(read_bytes(uri))
        table = read_images(PairDirectory(self.directory).images)
        numbers = np.unique(block.pairs()).tolist()
        features = {
            number: features_of(self.detect, image, max_pixels=max_pixels)
            for number, image in zip(numbers, table.take(numbers), strict=True)
        }
        return _Readable(block, features)

    def run(self, image: Any, key: str) -> dict[str, object]:
        """Match the pairs of a block.

        Parameters
        ----------
        image : what `read` gave
        key : str
            Name of the block, and of its file.
        """
        block, features = image
        # Out of the files, and in one piece: each is compared up to 32 times.
        descriptors = {number: np.array(found.descriptors) for number, found in features.items()}
        pairs = block.pairs()
        rows = np.empty(len(pairs), PAIR_ROW)
        kept = []
        for place, (first, second) in enumerate(pairs.tolist()):
            both, found = self.match(
                features[first]._replace(descriptors=descriptors[first]),
                features[second]._replace(descriptors=descriptors[second]),
            )
            n_inliers = int(found.inliers.sum())
            rows[place] = (first, second, len(both), n_inliers, found.configuration)
            if n_inliers or (self.options.verify is None and len(both)):
                kept.append(PairMatches(first, second, both, *found))
        write_matches(self.folder or "", key, kept)
        return {
            "pairs": len(rows),
            "verified": int((rows["inliers"] > 0).sum()),
            "matches": int(rows["matches"].sum()),
            "inliers": int(rows["inliers"].sum()),
            PAIR_TABLE: rows,
        }

    def match(self, first: Features, second: Features) -> tuple[npt.NDArray[np.uint32], TwoViewGeometry]:
        """Match two images.

        Returns
        -------
        matches : ndarray of uint32, shape (matches, 2)
            Feature of the first, feature of the second.
        geometry : TwoViewGeometry
        """
        options = self.options
        found = match_descriptors(first.descriptors, second.descriptors, "mutual", options.max_ratio)
        both = np.column_stack([found.query, found.train]).astype(np.uint32)
        if options.verify is None:
            return both, unrelated(len(both))
        geometry = relate_views(
            first.points[found.query, :2],
            second.points[found.train, :2],
            options.verify,
            threshold=options.verify_threshold,
            min_inliers=options.min_inliers,
        )
        return both, geometry

    def prepare(self) -> None:
        """Load what compares descriptors."""
        match_descriptors(np.zeros((2, 128), np.uint8), np.zeros((2, 128), np.uint8), "mutual", 0.8)
