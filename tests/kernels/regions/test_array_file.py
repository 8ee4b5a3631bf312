"""Files of region indexes: the same answers from them, and damaged ones refused, never read beyond their end."""

import os
import pickle
import random

import numpy as np
import pytest
from region_maps import random_query, relu_map

from parimg.kernels.regions.array_file import read_fields, write_fields
from parimg.kernels.regions.region_index import RegionIndex


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("make", [
    lambda: RegionIndex(relu_map((16, 9, 8))),
    lambda: RegionIndex(np.random.default_rng(0).random((16, 9, 8))),
    lambda: RegionIndex(relu_map((2, 20, 20))),
    lambda: RegionIndex(relu_map((16, 9, 8)), "max", 7),
])  # fmt: skip
def test_saved_index_answers_the_same(make, mmap, tmp_path):
    index = make()
    path = tmp_path / "image.index"
    index.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["image.index"]
    loaded = RegionIndex.load(path, mmap=mmap)
    assert isinstance(loaded._main, np.memmap) or not mmap or loaded._main.base is not None
    query = random_query(index.shape[0])
    for other in (loaded, pickle.loads(pickle.dumps(index))):
        assert (other.shape, other.pooling, other.alpha) == (index.shape, index.pooling, index.alpha)
        assert other.search(query, 1.0, top_k=3) == index.search(query, 1.0, top_k=3)
        np.testing.assert_array_equal(other.descriptor((0, 0, 3, 3)), index.descriptor((0, 0, 3, 3)))


def test_saving_replaces_a_file_whole(tmp_path):
    path = tmp_path / "index.npy"
    RegionIndex(relu_map((4, 5, 5), 0)).save(path)
    mapped = RegionIndex.load(path)
    query = random_query(4)
    before = mapped.search(query)
    RegionIndex(relu_map((4, 5, 5), 1)).save(os.fspath(path))
    assert mapped.search(query) == before
    assert RegionIndex.load(path).search(query) != before
    with pytest.raises(OSError):
        RegionIndex(relu_map((4, 5, 5))).save(tmp_path / "missing" / "index.npy")
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match="must be a file that"):
        RegionIndex.load(path)


def test_an_index_is_written_to_an_open_file(tmp_path):
    index = RegionIndex(relu_map((5, 4, 4)))
    with open(tmp_path / "index.npy", "wb") as file:
        index.save(file)
    query = np.arange(1.0, 6)
    assert RegionIndex.load(tmp_path / "index.npy").search(query) == index.search(query)


def test_an_index_saved_without_the_sum_of_all_cells_answers_the_same(tmp_path):
    path = tmp_path / "index.npy"
    index = RegionIndex(relu_map((64, 6, 7)))
    index.save(path)
    fields = read_fields(path, mmap=False)
    np.testing.assert_array_equal(fields["whole"], relu_map((64, 6, 7)).sum((1, 2), np.float64))
    write_fields(path, {key: value for key, value in fields.items() if key != "whole"})
    older = RegionIndex.load(path)
    assert older.nbytes == index.nbytes - 8 * 64
    assert older.search(random_query(64), top_k=30) == index.search(random_query(64), top_k=30)
    for wrong in (np.zeros(63), np.zeros(64, np.float32)):
        write_fields(path, {**fields, "whole": wrong})
        with pytest.raises(ValueError, match=r"index\.npy' is no index.* as the sum of"):
            RegionIndex.load(path)
    RegionIndex(relu_map((64, 6, 7)), "max").save(path)
    write_fields(path, {**read_fields(path, mmap=False), "whole": np.zeros(64)})
    with pytest.raises(ValueError, match="as the sum of"):
        RegionIndex.load(path)


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_arrays_that_do_not_belong_together_are_refused(tmp_path, pooling):
    path = tmp_path / "index.npy"
    RegionIndex(relu_map((64, 6, 7)), pooling).save(path)
    fields = read_fields(path, mmap=False)
    for name, wrong in (("side", fields["side"][:3]), ("main", fields["main"][0]), ("alpha", np.int32(0))):
        write_fields(path, {key: wrong if key == name else value for key, value in fields.items()})
        with pytest.raises(ValueError, match=r"index\.npy' is no index"):
            RegionIndex.load(path)
    write_fields(path, {key: value for key, value in fields.items() if key != "total"})
    with pytest.raises(ValueError, match="total"):
        RegionIndex.load(path)


@pytest.mark.parametrize(("name", "wrong"), [
    ("alpha", np.int32(-3)), ("alpha", np.int32(21)), ("alpha", np.float64(np.inf)),
    ("alpha", np.ones(2, np.int32)),
    ("image_size", np.array([5, 0])), ("image_size", np.array([0, 5])), ("image_size", np.array([-4, 5])),
    ("image_size", np.array([np.nan, 5.0])), ("image_size", np.int64(3)), ("image_size", np.arange(3)),
    ("side", np.full(64, np.nan, np.float32)), ("side", np.full(64, -1, np.float32)),
    ("side", np.full(64, np.inf, np.float32)), ("total", np.float64(np.nan)), ("total", np.float64(-1)),
    ("pooling", np.asarray("", "S3")), ("pooling", np.asarray("avg", "S3")), ("pooling", np.float64(1)),
    ("pooling", np.asarray(["max", "sum"], "S3")),
    ("main", np.zeros((6, 7, 64))), ("main", np.zeros((0, 7, 64), np.int64)), ("exact", np.ones(2, bool)),
    ("version", np.int32(2)), ("version", np.array([1, 2], np.int32)), ("version", np.asarray("a")),
])  # fmt: skip
def test_absurd_values_are_refused(tmp_path, name, wrong):
    path = tmp_path / "index.npy"
    RegionIndex(relu_map((64, 6, 7)), "max", image_size=(60, 70)).save(path)
    fields = read_fields(path, mmap=False)
    if name != "version":
        write_fields(path, {**fields, name: wrong})
    else:
        layout = np.dtype([(key, wrong.dtype if key == name else value.dtype, wrong.shape if key == name else
                            value.shape) for key, value in fields.items()])  # fmt: skip
        record = np.zeros(1, layout)
        record[name] = wrong
        np.save(path, record)
    for mmap in (True, False):
        with pytest.raises(ValueError, match=r"index\.npy"):
            RegionIndex.load(path, mmap=mmap)


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_arrays_of_another_byte_order_are_refused(tmp_path, pooling):
    path = tmp_path / "index.npy"
    RegionIndex(relu_map((64, 6, 7)), pooling).save(path)
    order = {
        "max": (b"'<i8', (6, 7, 64)", b"'>i8', (6, 7, 64)"),
        "sum": (b"'<f4', (6, 7, 64)", b"'>f4', (6, 7, 64)"),
    }
    content = path.read_bytes()
    assert order[pooling][0] in content
    path.write_bytes(content.replace(*order[pooling]))
    with pytest.raises(ValueError, match="of another machine"):
        RegionIndex.load(path)


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_a_changed_header_is_refused_or_does_no_harm(tmp_path, pooling):
    """Whatever three bytes of it are: numpy reads the header as Python."""
    path = tmp_path / "index.npy"
    RegionIndex(relu_map((8, 4, 5)), pooling, image_size=(40, 50)).save(path)
    content = path.read_bytes()
    length = 10 + int.from_bytes(content[8:10], "little")
    rng = random.Random(5)
    signs = b"()[]{}<>'\"\\,:;.-+ \n\t\x00\xff#0123456789abfiuSVO|"
    loaded = refused = 0
    for _ in range(3000):
        changed = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(length)] = rng.choice(signs)
        path.write_bytes(changed)
        try:
            index = RegionIndex.load(path, mmap=bool(rng.getrandbits(1)))
        except ValueError as error:
            refused += "index.npy" in str(error)
            continue
        loaded += 1
        index.search(random_query(index.shape[0]), 1.0, step=2, top_k=3)
        index.descriptor((0, 0, 1, 1))
    assert loaded + refused == 3000
    assert min(loaded, refused) > 20
