"""Kernels give the same answer for an array in any byte order, alignment and layout, whatever came before."""

import numpy as np
import pytest

import parimg.kernels as pk

RNG = np.random.default_rng(3)
IMAGE = RNG.integers(0, 100, (12, 16))
MAP = np.maximum(RNG.normal(size=(8, 6, 7)), 0) + 0.1
VECTORS = RNG.integers(0, 256, (30, 8))
SKELETON = np.zeros((9, 11), int)
SKELETON[4, 1:10] = SKELETON[1:8, 5] = 1


def swapped(array):
    return array.astype(array.dtype.newbyteorder("S"))


def unaligned(array):
    moved = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def strided(array):
    return np.repeat(array, 2, axis=-1)[..., ::2]


def fortran(array):
    return np.asfortranarray(array)


def reversed_in_memory(array):
    return array[::-1].copy()[::-1]


KERNELS = {
    "convolve": (IMAGE, lambda a: pk.convolve(a, np.ones((3, 3)))),
    "weights": (IMAGE[:3, :3], lambda a: pk.correlate(IMAGE.astype(float), a, precision="float64")),
    "generic_filter": (IMAGE, lambda a: pk.generic_filter(a, np.max, 3)),
    "generic_filter1d": (IMAGE, lambda a: pk.generic_filter1d(a, first_sum, 2)),
    "match_descriptors": (VECTORS, lambda a: pk.match_descriptors(a, VECTORS[::-1].astype(a.dtype))),
    "nearest_descriptors": (VECTORS, lambda a: pk.nearest_descriptors(VECTORS[5:].astype(a.dtype), a)),
    "mac": (MAP, pk.mac),
    "rmac": (MAP, pk.rmac),
    "region_vectors": (MAP, pk.region_vectors),
    "sum index": (MAP, lambda a: pk.RegionIndex(a).search(np.arange(1.0, 9.0))),
    "max index": (MAP, lambda a: pk.RegionIndex(a, "max").search(np.arange(1.0, 9.0))),
    "query": (np.arange(1.0, 9.0), lambda a: pk.RegionIndex(MAP).search(a)),
    "integral_image": (MAP, pk.integral_image),
    "pixel_graph": (SKELETON, lambda a: pk.branches(pk.pixel_graph(a))["branch_distance"]),
    "values": (SKELETON * 7, lambda a: pk.branches(pk.pixel_graph(SKELETON), a)["mean_pixel_value"]),
    "whitening": (VECTORS, lambda a: pk.learn_whitening(a.astype(a.dtype)).apply(a)),
    "expand_query": (VECTORS + 1.0, lambda a: pk.expand_query(a[0], a[1:4])),
}
CHANGES = (swapped, unaligned, read_only, strided, fortran, reversed_in_memory)


def first_sum(line, result):
    for i in range(len(result)):
        result[i] = line[i] + line[i + 1]


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16"])
@pytest.mark.parametrize("name", KERNELS)
def test_layouts_make_no_difference(name, dtype):
    array, kernel = KERNELS[name]
    array = array.astype(dtype)
    first = kernel(swapped(array))
    expected = kernel(array)
    for found in (first, *(kernel(change(array)) for change in CHANGES)):
        np.testing.assert_equal(found, expected)
