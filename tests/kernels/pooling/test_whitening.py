"""PCA whitening: what it does to its sample, small samples, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parimg.kernels.pooling import whitening as module
from parimg.kernels.pooling.whitening import Whitening, learn_whitening

RNG = np.random.default_rng(2)


def correlated(n: int, width: int) -> np.ndarray:
    """Normally distributed, with standard deviations from 1 to 0.01 along turned axes."""
    axes, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(width, width)))
    scaled = RNG.normal(size=(n, width)) * np.geomspace(1, 0.01, width)
    return (scaled @ axes + np.arange(width)).astype(np.float32)


def test_the_sample_has_no_correlations_and_equal_variances_afterwards() -> None:
    sample = correlated(2000, 12)
    whitened = learn_whitening(sample).apply(sample)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(whitened, rowvar=False, bias=True), np.eye(12), atol=1e-3)


def test_the_directions_are_those_of_a_singular_value_decomposition() -> None:
    sample = correlated(300, 8)
    centred = sample.astype(float) - sample.mean(axis=0, dtype=float)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    expected = directions / (values / np.sqrt(300))[:, None]
    found = learn_whitening(sample, 5)
    assert (found.width, found.n_components) == (8, 5)
    assert found.mean.dtype == found.projection.dtype == np.float32
    signs = np.sign(np.sum(expected[:5] * found.projection, axis=1))
    np.testing.assert_allclose(found.projection, expected[:5] * signs[:, None], rtol=1e-3, atol=1e-4)


def test_the_largest_part_of_every_direction_is_positive() -> None:
    projection = learn_whitening(correlated(300, 8)).projection
    assert (np.take_along_axis(projection, np.abs(projection).argmax(axis=1)[:, None], axis=1) > 0).all()


def test_a_sample_in_blocks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = correlated(1000, 6)
    whole = learn_whitening(sample)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1000)
    np.testing.assert_allclose(learn_whitening(sample).projection, whole.projection, rtol=1e-4)


def test_fewer_vectors_than_they_are_wide_have_one_direction_less_than_vectors() -> None:
    sample = RNG.normal(size=(7, 30))
    found = learn_whitening(sample)
    assert found.projection.shape == (6, 30)
    whitened = found.apply(sample)
    np.testing.assert_allclose(np.cov(whitened, rowvar=False, bias=True), np.eye(6), atol=1e-4)
    distances = np.linalg.norm(whitened[:, None] - whitened[None], axis=2)[np.triu_indices(7, 1)]
    np.testing.assert_allclose(distances, np.sqrt(14), rtol=1e-3)  # the warning of the docstring


def test_directions_without_variance_are_not_kept() -> None:
    flat = np.zeros((100, 5), np.float32)
    flat[:, [1, 3]] = RNG.normal(size=(100, 2))
    found = learn_whitening(flat)
    assert found.projection.shape == (2, 5)
    assert not found.projection[:, [0, 2, 4]].any()


def test_repeated_vectors_add_no_direction() -> None:
    assert learn_whitening(np.repeat(RNG.normal(size=(3, 10)), 20, axis=0)).n_components == 2


def test_two_vectors_are_enough() -> None:
    found = learn_whitening([[1, 2, 3], [1, 2, 5]])
    np.testing.assert_allclose(found.apply([[1, 2, 3], [1, 2, 4], [1, 2, 5]]), [[-1], [0], [1]], atol=1e-5)


def test_shrinkage_moves_the_variances_towards_their_mean() -> None:
    """Variances 9 and 1: mean 5; drawn half the way 7 and 3; so the sample's become 9/7 and 1/3."""
    sample = np.array([[3, 1], [3, -1], [-3, 1], [-3, -1]])
    for shrinkage, variances in ((0, [1, 1]), (0.5, [9 / 7, 1 / 3]), (1, [9 / 5, 1 / 5])):
        whitened = learn_whitening(sample, shrinkage=shrinkage).apply(sample)
        np.testing.assert_allclose(whitened.var(axis=0), variances, rtol=1e-5)


def test_with_shrinkage_a_small_sample_keeps_all_directions() -> None:
    found = learn_whitening(RNG.normal(size=(7, 30)), shrinkage=0.1)
    assert found.projection.shape == (30, 30)
    assert np.linalg.matrix_rank(found.projection) == 30


def test_full_shrinkage_keeps_the_angles_around_the_mean() -> None:
    sample = correlated(50, 4)
    centred = sample - sample.mean(axis=0)
    whitened = learn_whitening(sample, shrinkage=1).apply(sample)
    np.testing.assert_allclose(
        whitened @ whitened.T * (np.sum(centred**2) / np.sum(whitened**2)), centred @ centred.T, atol=1e-2
    )


def test_one_vector_and_many_are_whitened_alike() -> None:
    found = learn_whitening(correlated(100, 6), 3)
    vectors = correlated(5, 6)
    np.testing.assert_allclose(found.apply(vectors[2]), found.apply(vectors)[2], rtol=1e-4, atol=1e-5)
    assert found.apply(np.empty((0, 6))).shape == (0, 3)


def test_a_saved_whitening_is_the_same_when_loaded(tmp_path: Path) -> None:
    found = learn_whitening(correlated(100, 6), 3)
    for name in ("whitening.npz", "whitening"):
        found.save(tmp_path / name)
        loaded = Whitening.load(str(tmp_path / name))
        np.testing.assert_array_equal(loaded.mean, found.mean)
        np.testing.assert_array_equal(loaded.projection, found.projection)


def test_what_is_no_saved_whitening_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", mean=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text").write_text("whitening")
    learn_whitening(correlated(100, 6)).save(tmp_path / "whole.npz")
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-50])
    for name in ("other.npz", "array.npy", "text", "half.npz"):
        with pytest.raises(ValueError, match=f"{name}' is no whitening"):
            Whitening.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Whitening.load(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("vectors", "options", "error", "message"),
    [
        (np.ones(5), {}, ValueError, r"must have shape \(n, width\) \(got \(5,\)\)"),
        (np.ones((1, 5)), {}, ValueError, r"from two vectors or more \(got shape \(1, 5\)\)"),
        (np.ones((3, 0)), {}, ValueError, r"got shape \(3, 0\)"),
        (np.full((9, 5), 0.3), {}, ValueError, "from different vectors .got 9 that are all the same"),
        (np.zeros((9, 5)), {}, ValueError, "from different vectors"),
        ([[1, np.nan], [2, 3]], {}, ValueError, "vectors must be finite .got 1 NaN"),
        (np.ones((3, 2), complex), {}, TypeError, "must hold real numbers"),
        (np.eye(4), {"n_components": 0}, ValueError, "n_components must be at least 1"),
        (np.eye(4), {"n_components": 1.5}, TypeError, "integer"),
        (np.eye(4), {"n_components": 4}, ValueError, "n_components=4 is more than the 3 directions in which 4"),
        (np.eye(4), {"n_components": 5, "shrinkage": 0.5}, ValueError, "more than the 4 directions"),
        (np.eye(4), {"shrinkage": 1.5}, ValueError, "shrinkage must lie from 0 to 1 .got 1.5"),
        (np.eye(4), {"shrinkage": float("nan")}, ValueError, "shrinkage must lie from 0 to 1"),
    ],
)
def test_an_unusable_sample_is_told(vectors: object, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        learn_whitening(vectors, **options)


def test_parts_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match=r"projection must have shape \(components, 3\) .* \(got \(2, 4\)\)"):
        Whitening(np.zeros(3), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="at least one component"):
        Whitening(np.zeros(3), np.zeros((0, 3)))


def test_vectors_of_another_width_are_told() -> None:
    found = Whitening(np.zeros(3), np.eye(3))
    for shape in ((4,), (2, 4), (2, 2, 3)):
        with pytest.raises(ValueError, match=r"vectors must have shape \(3,\) or \(n, 3\)"):
            found.apply(np.ones(shape))
    with pytest.raises(ValueError, match="vectors must be finite"):
        found.apply([1, 2, np.inf])
