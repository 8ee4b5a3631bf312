"""A set of photographs for retrieval with known answers, and how a ranking of it is judged.

Every photograph is there as it is, turned and shrunk on another one, in perspective, and pasted into another one;
the last three darker or brighter, with noise, as JPEG. Queries are parts of the photographs. Images of another
photograph of the same place (a ring of views, a street) are neither right nor wrong.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from skimage import data

import parimg.kernels as pk
from parimg.images.decode import read_image

_FROM_SKIMAGE = (
    "astronaut", "brick", "camera", "chelsea", "clock", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
    "immunohistochemistry", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
_FROM_FOLDERS = {"templeRing": (1, 13, 25, 37), "lund": (1, 6, 11, 16, 21, 26)}
_KINDS = ("turned", "perspective", "pasted")
_LONGEST = 800  # px: larger photographs are scaled down
_SEED = 20161


@dataclass(frozen=True)
class Variant:
    """One image of the set: a file, the photograph it shows, and where the photograph's pixels are in it."""

    path: str
    photograph: str
    homography: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True)
class Part:
    """One query: a box of a photograph."""

    path: str
    photograph: str
    box: tuple[int, int, int, int]


def photographs(folder: Path) -> dict[str, np.ndarray]:
    """RGB by name; those of the folder of real images, if it is there, beside those of scikit-image's wheel."""
    found = {name: as_rgb(getattr(data, name)()) for name in _FROM_SKIMAGE}
    for place, numbers in _FROM_FOLDERS.items():
        pattern = "templeR{:04d}.png" if place == "templeRing" else "{:02d}.jpg"
        for number in numbers:
            path = folder / place / pattern.format(number)
            if path.exists():
                found[f"{place}/{number}"] = cv2.imread(str(path))[:, :, ::-1].copy()
    return {name: shrunk(image) for name, image in found.items()}


def as_rgb(image: np.ndarray) -> np.ndarray:
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image[:, :, :3]


def shrunk(image: np.ndarray) -> np.ndarray:
    factor = min(1.0, _LONGEST / max(image.shape[:2]))
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def make_set(folder: Path, real_images: Path) -> tuple[list[Variant], list[Part]]:
    """Write the set's images and queries into a folder."""
    rng = np.random.default_rng(_SEED)
    originals = photographs(real_images)
    variants, parts = [], []
    for name, image in originals.items():
        stem = name.replace("/", "-")
        height, width = image.shape[:2]
        path = write(folder / "images" / f"{stem}.png", image)
        variants.append(Variant(path, name, np.eye(3), (height, width)))
        for kind in _KINDS:
            others = [other for other in originals if place_of(other) != place_of(name)]
            background = cv2.resize(originals[others[rng.integers(len(others))]], (width, height))
            seen, homography = distorted(image, background, kind, rng)
            path = write(folder / "images" / f"{stem}-{kind}.jpg", seen, int(rng.integers(40, 80)))
            variants.append(Variant(path, name, homography, (height, width)))
        for _ in range(2):
            rows, columns = (int(side * rng.uniform(0.35, 0.55)) for side in (height, width))
            y, x = int(rng.integers(height - rows)), int(rng.integers(width - columns))
            parts.append(Part(variants[-4].path, name, (y, x, y + rows, x + columns)))
    return variants, parts


def distorted(image, background, kind, rng):
    height, width = image.shape[:2]
    if kind == "perspective":
        corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
        moved = corners + np.float32(rng.uniform(-0.12, 0.12, (4, 2)) * [width, height])
        homography = cv2.getPerspectiveTransform(corners, moved)
    elif kind == "turned":
        centre = width / 2, height / 2
        turn = cv2.getRotationMatrix2D(centre, rng.uniform(-12, 12), rng.uniform(0.55, 0.8))
        homography = np.vstack([turn, [0, 0, 1]])
    else:
        factor = rng.uniform(0.45, 0.65)
        x, y = rng.uniform(0, 1 - factor, 2) * [width, height]
        homography = np.array([[factor, 0, x], [0, factor, y], [0, 0, 1]])
    # Area sampling: what is made smaller by interpolation alone is full of steps.
    smooth = cv2.GaussianBlur(image, (0, 0), 0.6) if kind != "perspective" else image
    seen = cv2.warpPerspective(
        smooth, homography, (width, height), dst=background.copy(), borderMode=cv2.BORDER_TRANSPARENT
    )
    noisy = seen * rng.uniform(0.75, 1.25) + rng.normal(0, 6, seen.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), homography


def write(path, image, quality=95):
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    cv2.imwrite(str(path), image[:, :, ::-1], options)
    return str(path)


def place_of(photograph: str) -> str:
    return photograph.partition("/")[0]


def average_precision(ranking: list[str], photograph: str) -> float:
    """Of a ranking of all images, given as the photograph that each shows."""
    found, seen, total = 0, 0, 0.0
    for shown in ranking:
        if shown == photograph:
            found, seen = found + 1, seen + 1
            total += found / seen
        elif place_of(shown) != place_of(photograph):
            seen += 1
    return total / found


def overlap(box, other) -> float:
    """Intersection over union of two boxes (y1, x1, y2, x2)."""
    y1, x1 = np.maximum(box[:2], other[:2])
    y2, x2 = np.minimum(box[2:], other[2:])
    common = max(0, y2 - y1) * max(0, x2 - x1)
    areas = [(y2 - y1) * (x2 - x1) for y1, x1, y2, x2 in (box, other)]
    return common / (sum(areas) - common)


def where(part: Part, variant: Variant) -> tuple[float, float, float, float]:
    """The box around a query's part in an image of its photograph, as far as the image shows it."""
    y1, x1, y2, x2 = part.box
    corners = np.array([[x1, y1, 1], [x2, y1, 1], [x2, y2, 1], [x1, y2, 1]]) @ variant.homography.T
    x, y = np.clip(corners[:, :2] / corners[:, 2:], 0, variant.size[::-1]).T
    return y.min(), x.min(), y.max(), x.max()


def make_many(folder: Path, real_images: Path, n: int) -> list[str]:
    """Write n images, each another distortion of one of the photographs, and give their paths."""
    rng = np.random.default_rng(_SEED + 1)
    originals = photographs(real_images)
    names = list(originals)
    paths = []
    for i in range(n):
        name = names[i % len(names)]
        image = originals[name]
        others = [other for other in names if place_of(other) != place_of(name)]
        background = cv2.resize(originals[others[rng.integers(len(others))]], image.shape[1::-1])
        seen, _ = distorted(image, background, _KINDS[i // len(names) % len(_KINDS)], rng)
        paths.append(write(folder / f"{i:04d}.jpg", seen, int(rng.integers(40, 80))))
    return paths


@dataclass(frozen=True)
class Judgement:
    """Mean average precision by stage, and the mean overlap of found regions with the true ones."""

    precision: dict[str, float]
    mean_overlap: float


def judge(index, variants, parts, *, rerank=1000, expand=3) -> tuple[Judgement, Judgement]:
    """Judge the rankings of all images, and the same without the image that the query was cut from.

    Every right image's region counts for the overlap, with 0 where none was found.
    """
    by_path = {variant.path: variant for variant in variants}
    everything = len(index)
    whole = np.stack([pk.mac(index.task.feature_map(read_image(uri, "color"))) for uri in index.uris])
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    precision = [{stage: [] for stage in ("MAC", "R-MAC", "+ regions", "+ expansion")} for _ in range(2)]
    overlaps = [[], []]
    for part in parts:
        query = index.describe(part.path, part.box)
        by_mac = np.argsort(-(whole @ query.region), kind="stable")
        rankings = {"MAC": [index.uris[place] for place in by_mac]}
        for stage, options in (
            ("R-MAC", {"rerank": 0, "expand": 0}),
            ("+ regions", {"rerank": rerank, "expand": 0}),
            ("+ expansion", {"rerank": rerank, "expand": expand}),
        ):
            hits = index.search(query, top_k=everything, **options)
            rankings[stage] = [hit.uri for hit in hits]
        for left_out, of_stage, of_all in zip((None, part.path), precision, overlaps, strict=True):
            for stage, ranking in rankings.items():
                shown = [by_path[uri].photograph for uri in ranking if uri != left_out]
                of_stage[stage].append(average_precision(shown, part.photograph))
            for hit in hits:
                variant = by_path[hit.uri]
                if variant.photograph == part.photograph and hit.uri != left_out:
                    of_all.append(overlap(hit.image_box, where(part, variant)) if hit.image_box else 0.0)
    with_own, without_own = (
        Judgement({stage: float(np.mean(values)) for stage, values in of_stage.items()}, float(np.mean(of_all)))
        for of_stage, of_all in zip(precision, overlaps, strict=True)
    )
    return with_own, without_own
