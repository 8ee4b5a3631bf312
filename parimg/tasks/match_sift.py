"""MatchSIFT: SIFT features of each image, matched against those of one reference."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from parimg.errors import ImageError, TaskError
from parimg.tasks._match_picture import MOST_LINES, shrunk
from parimg.tasks._sift_inputs import (
    DESCRIPTOR_WIDTH,
    are_descriptors,
    as_bytes,
    as_gray,
    named,
    read_as,
    where_to_look,
)
from parimg.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import cv2
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from parimg.images.readers.part import Described
    from parimg.kernels.descriptors.matching import Matches
    from parimg.kernels.descriptors.verification import Model, Verification
    from parimg.record import Record
    from parimg.tasks._match_picture import LineColors

CrossCheck = Literal["mutual", "one-way"]
Detector = Literal["parimg", "opencv"]
_CROSS_CHECKS = ("mutual", "one-way", None)
_DETECTORS = ("parimg", "opencv")
_MODELS = ("homography", "fundamental", None)
_LEAST_SIZE = 16  # pixels; SIFT finds nothing in less
_LONGEST_DRAWN = 1000  # pixels


class Features(NamedTuple):
    """SIFT features of one image.

    Attributes
    ----------
    keypoints : ndarray of float32, shape (n, 4)
        x and y in pixels, diameter in pixels, angle in degrees.
    descriptors : ndarray of uint8, shape (n, 128)
    """

    keypoints: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.uint8]


class Matched(NamedTuple):
    """An image's features, which of them match, and which matches a model explains, if that was asked for."""

    features: Features
    matches: Matches
    verification: Verification | None


@dataclass(frozen=True, eq=False)
class MatchSIFT(WritingTask):
    """SIFT features of each image, matched against those of one reference.

    Parameters
    ----------
    reference : path, URL or ndarray
        A reference image (path or URL; gray or RGB array), or its descriptors: an array of shape ``(n, 128)``,
        or the ``.npy`` file of one; a uint8 array of this shape is an image unless each row has the length of a
        SIFT descriptor. Its descriptors are computed once, on the client, and reach each engine
        once.
    n_features : int, default 5000
        The strongest features to keep in an image; 0 keeps all.
    cross_check : {"mutual", "one-way", None}
        ``"mutual"``: both descriptors are each other's nearest, as ``cv2.BFMatcher(crossCheck=True)`` does
        today. ``"one-way"``: its older rule; of the images' descriptors whose nearest reference descriptor is
        the same, the closest. None: the nearest descriptor of every reference descriptor.
    max_ratio : float, optional
        Keep a match only if its distance is below this share of that to the second best (Lowe's ratio test).
    contrast_threshold : float, default 0.04
        SIFT's threshold on contrast; larger gives fewer features.
    root : bool
        Compare square roots of descriptors normalised to a sum of 1 (RootSIFT), which often matches better.
    verify : {"homography", "fundamental"}, optional
        Which matches one geometric model explains; see `parimg.kernels.verify_matches`. The reference must be an
        image then.
    verify_threshold : float, default 3.0
        Largest distance of an inlier from where the model puts it, pixels.
    max_size : int, optional
        Images, and the reference, whose longer side has more pixels are scaled down to it before features are
        sought. Keypoints are told in pixels of the original.
    mask : path or ndarray, optional
        Where to look for features, in every image: what is not 0, in any channel, in an image of the images' size
        and of any dtype. What is transparent is not looked at; of an image that is all black but has alpha, what
        is not transparent is. It does not apply to the reference.
    detector : {"parimg", "opencv"}, default "parimg"
        Whose SIFT: `parimg.kernels.detect_sift`, which gives the same bits on every processor, or OpenCV's, for
        comparison. Descriptors of either are taken as `reference`.
    return_pairs : bool
        Also return ``pairs``, int32 of shape ``(matches, 2)``: index into the reference's features, index into
        the image's.
    return_keypoints : bool
        Also return ``keypoints``, float32 of shape ``(features, 4)``: x, y, diameter (pixels), angle (degrees).
    pictures : path, optional
        Folder on the client's disk. Each image becomes a PNG picture in it, beside the reference and with lines
        between their matches, as `parimg.draw_matches` draws it; both at most 1000 pixels long. The reference must
        be an image then.

    Raises
    ------
    TaskError
        If a parameter is out of its range, the reference cannot be read, or no feature is found in it.

    Notes
    -----
    Columns: ``features``, the number of features of the image; ``matches``; ``distance_median``, the median
    L2 distance of the matches, None where there are none. With `verify` also ``inliers``, the matches that the
    model explains, and ``inlier_ratio``, their share, None where there are no matches; and the arrays
    ``inlier_pairs``, int32 of shape ``(inliers, 2)``, and ``model``, float64 of shape ``(3, 3)``, from the
    reference to the image, all NaN where none was found.

    The reference plays the matcher's *query*, the image its *train*, as in the published recipe.

    References
    ----------
    D. G. Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 60(2), 2004.
    R. Arandjelović, A. Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012
    (RootSIFT).

    Examples
    --------
    >>> from skimage.data import camera
    >>> task = MatchSIFT(reference=camera())
    >>> values = task(camera()[:, ::-1].copy())
    >>> sorted(values)
    ['distance_median', 'features', 'matches']
    """

    folder_parameter: ClassVar[str] = "pictures"
    path_column: ClassVar[str] = "picture"
    plotted: ClassVar[tuple[str, ...] | None] = ("matches", "inliers")
    ranked_by: ClassVar[tuple[str, ...]] = ("inliers", "matches")
    columns: ClassVar[Mapping[str, str]] = {
        "features": "int64",
        "matches": "int64",
        "distance_median": "double",
    }

    reference: str | os.PathLike[str] | npt.NDArray[Any] = field()
    n_features: int = 5000
    cross_check: CrossCheck | None = "mutual"
    max_ratio: float | None = None
    contrast_threshold: float = 0.04
    mask: str | os.PathLike[str] | npt.NDArray[Any] | None = None
    root: bool = False
    verify: Model | None = None
    verify_threshold: float = 3.0
    max_size: int | None = None
    detector: Detector = "parimg"
    return_pairs: bool = False
    return_keypoints: bool = False
    pictures: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.cross_check not in _CROSS_CHECKS:
            raise TaskError(f"cross_check must be 'mutual', 'one-way' or None (got {self.cross_check!r})")
        if isinstance(self.n_features, bool) or not isinstance(self.n_features, int) or self.n_features < 0:
            raise TaskError(f"n_features must be an integer of at least 0 (got {self.n_features!r})")
        for name in ("max_ratio", "contrast_threshold", "verify_threshold"):
            number = getattr(self, name)
            if not isinstance(number, int | float | None) or isinstance(number, bool):
                raise TaskError(f"{name} must be a number (got {number!r}, a {type(number).__name__})")
        if self.max_ratio is not None and not 0 < self.max_ratio <= 1:
            raise TaskError(f"max_ratio must lie in (0, 1] or be None (got {self.max_ratio!r})")
        if not self.contrast_threshold >= 0:
            raise TaskError(f"contrast_threshold must be at least 0 (got {self.contrast_threshold!r})")
        if self.detector not in _DETECTORS:
            raise TaskError(f"detector must be 'parimg' or 'opencv' (got {self.detector!r})")
        if self.verify not in _MODELS:
            raise TaskError(f"verify must be 'homography', 'fundamental' or None (got {self.verify!r})")
        if not self.verify_threshold > 0:
            raise TaskError(f"verify_threshold must be positive (got {self.verify_threshold!r})")
        if self.max_size is not None and (
            isinstance(self.max_size, bool) or not isinstance(self.max_size, int) or self.max_size < _LEAST_SIZE
        ):
            raise TaskError(
                f"max_size must be an integer of at least {_LEAST_SIZE}, or None (got {self.max_size!r})"
            )
        for name in ("reference", "mask"):
            value = getattr(self, name)
            if value is None and name == "mask":
                continue
            if isinstance(value, str | os.PathLike) and "://" not in os.fspath(value):
                # The folder may be another when a later session draws or resumes.
                object.__setattr__(self, name, os.path.abspath(value))
            if not isinstance(value, str | os.PathLike) and not hasattr(value, "__array_interface__"):
                raise TaskError(f"{name} must be a path or an array (got {value!r:.80}, a {type(value).__name__})")
        self.check_folder()

    def __call__(self, image: npt.NDArray[np.uint8]) -> dict[str, object]:
        """Match one gray image of dtype uint8 and shape ``(height, width)``."""
        return self._values(*self.match(image))

    def run(self, image: npt.NDArray[np.uint8], key: str) -> dict[str, object]:
        """Values of one gray image, its picture written to `pictures` if there is such a folder.

        Parameters
        ----------
        image : ndarray of uint8, shape (height, width)
        key : str
            Names the picture.
        """
        matched = self.match(image)
        values = self._values(*matched)
        if self.folder is not None:
            from parimg.images.encode import save_image

            picture = self.draw(image, matched)
            values["picture"] = self.write_below(key, ".png", lambda file: save_image(file, picture, "png"))
        return values

    def match(self, image: npt.NDArray[np.uint8]) -> Matched:
        """Match one gray image.

        Parameters
        ----------
        image : ndarray of uint8, shape (height, width)

        Returns
        -------
        Matched
        """
        from parimg.kernels.descriptors.matching import match_descriptors

        reference = self.reference_features
        found = self.detect(image, self._mask_array)
        matches = match_descriptors(
            self._comparable_reference,
            self._comparable(found.descriptors),
            cross_check=self.cross_check,
            max_ratio=self.max_ratio,
        )
        if self.verify is None:
            return Matched(found, matches, None)
        from parimg.kernels.descriptors.verification import verify_matches

        points = reference.keypoints[matches.query, :2], found.keypoints[matches.train, :2]
        return Matched(found, matches, verify_matches(*points, self.verify, self.verify_threshold))

    def draw(
        self,
        image: npt.NDArray[np.uint8],
        matched: Matched,
        *,
        color: LineColors = "random",
        most: int = MOST_LINES,
        longest: int | None = _LONGEST_DRAWN,
    ) -> npt.NDArray[np.uint8]:
        """Draw the reference and an image that was matched, with lines between them; see `parimg.draw_matches`.

        Parameters
        ----------
        image : ndarray of uint8, shape (height, width)
        matched : Matched
        color, most
            As for `parimg.draw_matches`.
        longest : int or None
            Images with a longer side are scaled down to it.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
        """
        from parimg.tasks._match_picture import match_picture

        matches = matched.matches
        (left, scale_left), (right, scale_right) = (shrunk(one, longest) for one in (self._drawn_reference, image))
        points = (
            self.reference_features.keypoints[matches.query, :2] * scale_left,
            matched.features.keypoints[matches.train, :2] * scale_right,
        )
        inliers = None if matched.verification is None else matched.verification.inliers
        return match_picture((left, right), points, matches.distance, inliers, color=color, most=most)

    def plot(self, record: Record, image: Described | None, ax: Axes) -> None:
        """Draw the reference and an image with their matches, which are found once more; else the image alone.

        Parameters
        ----------
        record : Record
            Of an image that went well.
        image : Described or None
            ``image.pixels`` is what `run` was given.
        ax : matplotlib Axes
        """
        from parimg.tasks._axes import caption_of, set_caption, show_image

        picture = pixels = None if image is None else image.pixels
        if pixels is not None:
            with suppress(TaskError, ImageError):  # the reference is descriptors, or gone
                picture = self.draw(pixels, self.match(pixels))
        show_image(ax, picture)
        set_caption(ax, caption_of(record))

    def _values(self, found: Features, matches: Matches, verification: Verification | None) -> dict[str, object]:
        import numpy as np

        n_matches = len(matches.query)
        values: dict[str, object] = {
            "features": len(found.descriptors),
            "matches": n_matches,
            "distance_median": float(np.median(matches.distance)) if n_matches else None,
        }
        pairs = np.column_stack([matches.query, matches.train]).astype(np.int32)
        if verification is not None:
            n_inliers = int(verification.inliers.sum())
            values["inliers"] = n_inliers
            values["inlier_ratio"] = n_inliers / n_matches if n_matches else None
            values["inlier_pairs"] = pairs[verification.inliers]
            values["model"] = verification.model
        if self.return_pairs:
            values["pairs"] = pairs
        if self.return_keypoints:
            values["keypoints"] = found.keypoints
        return values

    def detect(self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8] | None = None) -> Features:
        """Find the SIFT features of a gray image with this task's parameters.

        Parameters
        ----------
        image : ndarray of uint8, shape (height, width)
        mask : ndarray of uint8, shape (height, width), optional
            Nonzero where features are wanted.

        Returns
        -------
        Features
        """
        import numpy as np

        if image.dtype != np.uint8 or image.ndim != 2:
            raise TaskError(f"SIFT wants a gray uint8 image (got {image.dtype}, shape {image.shape})")
        if mask is not None and mask.shape != image.shape:
            raise TaskError(f"mask has shape {mask.shape}, the image {image.shape}; they must agree")
        image, mask, scale = self._scaled_down(np.ascontiguousarray(image), mask)
        find = self._found_by_opencv if self.detector == "opencv" else self._found
        points, descriptors = find(image, mask)
        if scale is not None:  # pixel centres have whole coordinates
            points[:, :2] = (points[:, :2] + 0.5) / scale - 0.5
            points[:, 2] /= scale.mean()
        return Features(points, descriptors)

    def _found(self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8] | None) -> Features:
        import numpy as np

        from parimg.kernels.sift.features import detect_sift

        found = detect_sift(image, self.n_features, contrast_threshold=self.contrast_threshold, mask=mask)
        return Features(np.column_stack([found.points, found.size, found.angle]), found.descriptors)

    def _found_by_opencv(self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8] | None) -> Features:
        import numpy as np

        # OpenCV's detector takes no empty image.
        keypoints, descriptors = self._sift.detectAndCompute(image, mask) if image.size else ((), None)
        points = np.array([(*point.pt, point.size, point.angle) for point in keypoints], np.float32).reshape(-1, 4)
        if descriptors is None:
            return Features(points, np.empty((0, DESCRIPTOR_WIDTH), np.uint8))
        return Features(points, np.asarray(descriptors, np.uint8))

    def _reference_array(self) -> npt.NDArray[Any]:
        import numpy as np

        if isinstance(self.reference, str | os.PathLike):
            color: Literal["gray", "unchanged"]
            color = "unchanged" if os.fspath(self.reference).endswith(".npy") else "gray"
            return read_as(self.reference, "reference", color)
        return np.asarray(self.reference)

    def reference_image(self) -> npt.NDArray[np.uint8]:
        """The reference as a gray image; TaskError if descriptors were given."""
        array = self._reference_array()
        if are_descriptors(array):
            raise TaskError(f"the reference {named(self.reference)} holds descriptors; there is no picture of it")
        return as_gray(array, "reference")

    @cached_property
    def reference_features(self) -> Features:
        """Features of the reference; its keypoints are empty if descriptors were given."""
        import numpy as np

        array = self._reference_array()
        if are_descriptors(array):
            if self.verify is not None:
                raise TaskError(
                    f"verify={self.verify!r} needs the reference's keypoints; give the image instead of its "
                    f"descriptors (got {named(self.reference)})"
                )
            features = Features(np.empty((0, 4), np.float32), as_bytes(array))
        else:
            features = self.detect(as_gray(array, "reference"))
        if not len(features.descriptors):
            raise TaskError(
                f"no SIFT feature in the reference {named(self.reference)}; a smaller contrast_threshold than "
                f"{self.contrast_threshold} finds more"
            )
        return features

    @cached_property
    def _drawn_reference(self) -> npt.NDArray[np.uint8]:
        return self.reference_image()

    def resolve(self) -> None:
        """Read the reference and the mask, compute the reference's features, and make the folder of pictures."""
        _ = self._comparable_reference, self._mask_array
        if self.folder is not None:
            _ = self._drawn_reference
        super().resolve()

    def prepare(self) -> None:
        """Load the compiled detector, or OpenCV's, and the compiled matcher."""
        import numpy as np

        from parimg.kernels.descriptors.matching import match_descriptors

        one = self._comparable(np.ones((1, DESCRIPTOR_WIDTH), np.uint8))
        match_descriptors(self._comparable_reference, one, cross_check=self.cross_check, max_ratio=self.max_ratio)
        self.detect(np.zeros((_LEAST_SIZE, _LEAST_SIZE), np.uint8))

    def declared_columns(self) -> dict[str, str]:
        """Arrow type by name of the columns."""
        verified = {"inliers": "int64", "inlier_ratio": "double"} if self.verify is not None else {}
        return {**self.columns, **verified, **super().declared_columns()}

    def _comparable(self, descriptors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        """Descriptors in the form in which they are compared."""
        import numpy as np

        if not self.root:
            return descriptors
        total = np.maximum(descriptors.sum(axis=1, keepdims=True, dtype=np.float32), 1)
        rooted: npt.NDArray[np.float32] = np.sqrt(descriptors / total, dtype=np.float32)
        return rooted

    @cached_property
    def _comparable_reference(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        return self._comparable(self.reference_features.descriptors)

    def _scaled_down(
        self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8] | None
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None, npt.NDArray[np.float32] | None]:
        """Image and mask of at most `max_size`, and their pixels for each of the original in x and y."""
        import numpy as np

        longest = max(image.shape)
        if self.max_size is None or longest <= self.max_size:
            return image, mask, None
        import cv2

        height, width = (max(1, round(side * self.max_size / longest)) for side in image.shape)
        scale = np.array([width / image.shape[1], height / image.shape[0]], np.float32)
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if mask is not None:
            mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
        return np.asarray(small, np.uint8), mask, scale

    @cached_property
    def _sift(self) -> cv2.SIFT:
        import cv2

        # 8-bit descriptors hold the same integers as the default float32 ones, in a quarter of the bytes.
        return cv2.SIFT.create(
            nfeatures=self.n_features,
            nOctaveLayers=3,
            contrastThreshold=self.contrast_threshold,
            edgeThreshold=10,
            sigma=1.6,
            descriptorType=cv2.CV_8U,
        )

    @cached_property
    def _mask_array(self) -> npt.NDArray[np.uint8] | None:
        import numpy as np

        if self.mask is None:
            return None
        if isinstance(self.mask, str | os.PathLike):
            mask = read_as(self.mask, "mask", color="unchanged")
        else:
            mask = np.asarray(self.mask)
        return where_to_look(mask)

    def __getstate__(self) -> dict[str, object]:
        # OpenCV's detector cannot be pickled; every process makes its own.
        return {name: value for name, value in super().__getstate__().items() if name != "_sift"}
