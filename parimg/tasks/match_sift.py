"""MatchSIFT: SIFT features of each image, matched against those of one reference."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from parimg.errors import ImageError, TaskError
from parimg.tasks.task import Task

if TYPE_CHECKING:
    import cv2
    import numpy as np
    import numpy.typing as npt

    from parimg.kernels.descriptors.verification import Model

CrossCheck = Literal["mutual", "one-way"]
Detector = Literal["parimg", "opencv"]
_CROSS_CHECKS = ("mutual", "one-way", None)
_DETECTORS = ("parimg", "opencv")
_MODELS = ("homography", "fundamental", None)
_LEAST_SIZE = 16  # pixels; SIFT finds nothing in less
_DESCRIPTOR_WIDTH = 128


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


@dataclass(frozen=True, eq=False)
class MatchSIFT(Task):
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
        Where to look for features, in every image: nonzero pixels of a gray image of the images' size. It does
        not apply to the reference.
    detector : {"parimg", "opencv"}, default "parimg"
        Whose SIFT: `parimg.kernels.detect_sift`, which gives the same bits on every processor, or OpenCV's, for
        comparison. Descriptors of either are taken as `reference`.
    return_pairs : bool
        Also return ``pairs``, int32 of shape ``(matches, 2)``: index into the reference's features, index into
        the image's.
    return_keypoints : bool
        Also return ``keypoints``, float32 of shape ``(features, 4)``: x, y, diameter (pixels), angle (degrees).

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
    mask: str | os.PathLike[str] | npt.NDArray[np.uint8] | None = None
    root: bool = False
    verify: Model | None = None
    verify_threshold: float = 3.0
    max_size: int | None = None
    detector: Detector = "parimg"
    return_pairs: bool = False
    return_keypoints: bool = False

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

    def __call__(self, image: npt.NDArray[np.uint8]) -> dict[str, object]:
        """Match one gray image of dtype uint8 and shape ``(height, width)``."""
        import numpy as np

        from parimg.kernels.descriptors.matching import match_descriptors

        reference = self.reference_features
        found = self.detect(image, self._mask_array)
        matches = match_descriptors(
            self._comparable_reference,
            self._comparable(found.descriptors),
            cross_check=self.cross_check,
            max_ratio=self.max_ratio,
        )
        n_matches = len(matches.query)
        values: dict[str, object] = {
            "features": len(found.descriptors),
            "matches": n_matches,
            "distance_median": float(np.median(matches.distance)) if n_matches else None,
        }
        pairs = np.column_stack([matches.query, matches.train]).astype(np.int32)
        if self.verify is not None:
            from parimg.kernels.descriptors.verification import verify_matches

            points = reference.keypoints[pairs[:, 0], :2], found.keypoints[pairs[:, 1], :2]
            verification = verify_matches(*points, self.verify, self.verify_threshold)
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
            return Features(points, np.empty((0, _DESCRIPTOR_WIDTH), np.uint8))
        return Features(points, np.asarray(descriptors, np.uint8))

    def _reference_array(self) -> npt.NDArray[Any]:
        import numpy as np

        if isinstance(self.reference, str | os.PathLike):
            color: Literal["gray", "unchanged"]
            color = "unchanged" if os.fspath(self.reference).endswith(".npy") else "gray"
            return _read(self.reference, "reference", color)
        return np.asarray(self.reference)

    def reference_image(self) -> npt.NDArray[np.uint8]:
        """The reference as a gray image; TaskError if descriptors were given."""
        array = self._reference_array()
        if _are_descriptors(array):
            raise TaskError(f"the reference {_named(self.reference)} holds descriptors; there is no picture of it")
        return _as_gray(array, "reference")

    @cached_property
    def reference_features(self) -> Features:
        """Features of the reference; its keypoints are empty if descriptors were given."""
        import numpy as np

        array = self._reference_array()
        if _are_descriptors(array):
            if self.verify is not None:
                raise TaskError(
                    f"verify={self.verify!r} needs the reference's keypoints; give the image instead of its "
                    f"descriptors (got {_named(self.reference)})"
                )
            features = Features(np.empty((0, 4), np.float32), _as_bytes(array))
        else:
            features = self.detect(_as_gray(array, "reference"))
        if not len(features.descriptors):
            raise TaskError(
                f"no SIFT feature in the reference {_named(self.reference)}; a smaller contrast_threshold than "
                f"{self.contrast_threshold} finds more"
            )
        return features

    def resolve(self) -> None:
        """Read the reference and the mask, and compute the reference's features."""
        _ = self._comparable_reference, self._mask_array

    def prepare(self) -> None:
        """Load the compiled detector, or OpenCV's, and the compiled matcher."""
        import numpy as np

        from parimg.kernels.descriptors.matching import match_descriptors

        one = self._comparable(np.ones((1, _DESCRIPTOR_WIDTH), np.uint8))
        match_descriptors(self._comparable_reference, one, cross_check=self.cross_check, max_ratio=self.max_ratio)
        self.detect(np.zeros((_LEAST_SIZE, _LEAST_SIZE), np.uint8))

    def declared_columns(self) -> dict[str, str]:
        """Arrow type by name of the columns."""
        verified = {"inliers": "int64", "inlier_ratio": "double"} if self.verify is not None else {}
        return {**self.columns, **verified}

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
            return _read(self.mask, "mask", color="gray")
        mask = np.asarray(self.mask)
        if mask.ndim != 2:
            raise TaskError(f"mask must have shape (height, width) (got {mask.shape})")
        return np.ascontiguousarray(mask != 0, np.uint8) * np.uint8(255)

    def __getstate__(self) -> dict[str, object]:
        # OpenCV's detector cannot be pickled; every process makes its own.
        return {name: value for name, value in self.__dict__.items() if name != "_sift"}


def _named(value: object) -> str:
    shape = getattr(value, "shape", None)
    return repr(os.fspath(value)) if shape is None else f"array of shape {shape}"  # type: ignore[call-overload]


def _read(path: str | os.PathLike[str], name: str, color: Literal["gray", "unchanged"]) -> npt.NDArray[Any]:
    from parimg.images.decode import read_image

    try:
        return read_image(os.fspath(path), color)
    except ImageError as error:
        raise TaskError(f"the {name} cannot be read: {error}") from error


def _are_descriptors(array: npt.NDArray[Any]) -> bool:
    """Whether an array holds descriptors and is no image of the same width.

    SIFT gives each descriptor a length of 512, give or take rounding; rows of an image have any.
    """
    import numpy as np

    if array.ndim != 2 or array.shape[1] != _DESCRIPTOR_WIDTH:
        return False
    if array.dtype != np.uint8:
        return True
    length = np.linalg.norm(array.astype(np.float32), axis=1)
    return bool(((length > 500) & (length < 525)).all())


def _as_gray(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    import cv2
    import numpy as np

    if (
        array.dtype != np.uint8
        or array.ndim not in {2, 3}
        or (array.ndim == 3 and array.shape[2] not in {1, 3, 4})
    ):
        raise TaskError(
            f"{name} must be a uint8 image of shape (h, w) or (h, w, 3), or descriptors of shape (n, "
            f"{_DESCRIPTOR_WIDTH}) (got {array.dtype}, shape {array.shape})"
        )
    array = np.ascontiguousarray(array)
    if array.ndim == 2:
        return array
    if array.shape[2] == 1:
        return array[:, :, 0]
    code = cv2.COLOR_RGB2GRAY if array.shape[2] == 3 else cv2.COLOR_RGBA2GRAY
    return np.asarray(cv2.cvtColor(array, code), np.uint8)


def _as_bytes(descriptors: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    import numpy as np

    narrow = descriptors.astype(np.uint8)
    if not np.array_equal(narrow, descriptors):
        raise TaskError(
            f"reference descriptors must be integers from 0 to 255, as OpenCV's SIFT gives them (got "
            f"{descriptors.dtype} from {descriptors.min()} to {descriptors.max()})"
        )
    return np.ascontiguousarray(narrow)
