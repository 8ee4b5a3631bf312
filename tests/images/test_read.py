"""Bytes of paths, URLs and rows of tables, and the error of everything that can be wrong with one."""

from __future__ import annotations

import os

import cv2
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from web_server import served

from parimg.errors import ImageEmptyError, ImageError, ImageMissingError, ImageTruncatedError
from parimg.images.decode import read_image
from parimg.images.read import read_bytes

COLOR = np.ascontiguousarray(skimage.data.astronaut()[::4, ::4])  # (128, 128, 3) uint8
PNG = cv2.imencode(".png", COLOR[..., ::-1])[1].tobytes()
JPEG = cv2.imencode(".jpg", COLOR[..., ::-1])[1].tobytes()


def test_a_missing_file_is_told_with_its_path(tmp_path):
    path = str(tmp_path / "none.png")
    with pytest.raises(ImageMissingError, match=r"none.png' does not exist"):
        read_image(path)
    with pytest.raises(ImageMissingError):
        read_image(path + "/below/a/missing/file.png")


def test_a_path_through_a_file_is_missing(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    with pytest.raises(ImageMissingError):
        read_bytes(str(tmp_path / "a.png" / "b.png"))


def test_an_empty_file_is_told_with_its_path(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageEmptyError, match=r"empty.png' has 0 bytes"):
        read_image(str(tmp_path / "empty.png"))


def test_a_folder_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match="is a folder, wanted an image file"):
        read_image(str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders")
def test_pipes_and_devices_are_image_errors_and_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.png", tmp_path / "endless.png"):
        for uri in (str(path), f"file://{path}"):
            with pytest.raises(ImageError, match="is a pipe, socket or device, wanted an image file"):
                read_image(uri)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
def test_a_file_that_may_not_be_read_is_an_image_error(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(PNG)
    path.chmod(0)
    with pytest.raises(ImageError, match="may not be read by this user"):
        read_image(str(path))


@pytest.mark.parametrize("uri", ["a\0b.png", "x" * 5000])
def test_a_path_that_the_system_refuses_is_an_image_error(uri):
    with pytest.raises(ImageError, match="could not be read"):
        read_image(uri)


def test_a_damaged_file_is_told_with_its_path(tmp_path):
    path = tmp_path / "half.jpg"
    path.write_bytes(JPEG[: len(JPEG) // 2])
    with pytest.raises(ImageTruncatedError, match=r"half.jpg' .JPEG, [0-9]+ bytes. is truncated or damaged"):
        read_image(str(path))


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A web server on this machine with a.png, empty.png and folder/b.png."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "a.png").write_bytes(PNG)
    (folder / "empty.png").touch()
    with served(folder) as address:
        yield address


def test_an_image_is_read_from_a_web_server(web):
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    np.testing.assert_array_equal(read_image(f"{web}/a.png", "color"), COLOR)


def test_what_a_web_server_does_not_find_is_missing(web):
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    with pytest.raises(ImageMissingError, match=r"none.png"):
        read_image(f"{web}/none.png")


def test_an_empty_answer_of_a_web_server_is_an_empty_file(web):
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    with pytest.raises(ImageEmptyError, match=r"empty.png"):
        read_image(f"{web}/empty.png")


def test_a_web_server_that_does_not_answer_is_an_image_error():
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    # Nobody listens on the discard port.
    with pytest.raises(ImageError, match=r"127.0.0.1:9/a.png' could not be read"):
        read_image("http://127.0.0.1:9/a.png")


def test_an_image_is_read_from_a_file_url(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    np.testing.assert_array_equal(read_image(f"file://{tmp_path}/a.png", "color"), COLOR)
    with pytest.raises(ImageMissingError):
        read_image(f"file://{tmp_path}/b.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(f"file://{tmp_path}")


def test_an_image_is_read_from_memory():
    fsspec.filesystem("memory").pipe("/test_decode/a.png", PNG)
    np.testing.assert_array_equal(read_image("memory://test_decode/a.png", "color"), COLOR)
    with pytest.raises(ImageMissingError):
        read_image("memory://test_decode/none.png")


def test_an_unknown_protocol_is_an_image_error():
    with pytest.raises(ImageError, match=r"'nosuch://a.png' could not be read: ValueError: Protocol not known"):
        read_image("nosuch://a.png")


def test_a_file_url_may_be_quoted_as_python_does(tmp_path):
    path = tmp_path / "a view (1) 100%25 é.png"
    path.write_bytes(PNG)
    for uri in (path.as_uri(), f"file://{path}"):
        np.testing.assert_array_equal(read_image(uri, "color"), COLOR)
    literal = tmp_path / "a%20b.png"
    literal.write_bytes(JPEG)
    assert read_bytes(f"file://{literal}") == JPEG


@pytest.mark.parametrize("as_struct", [True, False])
def test_an_image_in_a_row_of_a_table_is_read(tmp_path, as_struct):
    images = [bytes([number]) * 10 for number in range(1, 8)]
    images[3] = None
    values = [{"bytes": image, "path": "a.png"} for image in images] if as_struct else images
    table = tmp_path / "views #1?.parquet"
    pq.write_table(pa.table({"a column": values}), table, row_group_size=3)
    uri = f"parquet://{str(table).replace(' ', '%20').replace('#', '%23').replace('?', '%3F')}?a%20column#"
    for row in (6, 0, 2, 5):
        assert read_bytes(f"{uri}{row}") == images[row]
    for row in (3, 7, 100):
        with pytest.raises(ImageMissingError, match="holds no image"):
            read_bytes(f"{uri}{row}")
    table.unlink()
    with pytest.raises(ImageMissingError, match="does not exist"):
        read_bytes(f"{uri}0")


def test_a_table_that_is_written_anew_is_read_anew(tmp_path):
    table = tmp_path / "views.parquet"
    for n in (1, 2):
        pq.write_table(pa.table({"image": [b"x" * n] * n}), table)
        os.utime(table, (n, n))
        assert read_bytes(f"parquet://{table}?image#{n - 1}") == b"x" * n


def test_a_long_uri_is_cut_in_the_message():
    with pytest.raises(ImageError) as raised:
        read_bytes("x" * 100_000)
    assert len(str(raised.value)) < 1000
