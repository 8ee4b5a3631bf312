"""URLs, and stores that are listed."""

from __future__ import annotations

import fsspec
import pytest
from source_lists import keys
from web_server import served

from parimg.errors import EmptySourceError, SourceError
from parimg.sources.as_source import Image, as_source
from parimg.sources.urls import check_protocol, list_url


def test_protocols_that_cannot_be_read_are_told():
    check_protocol("file:///a.png")
    check_protocol("simplecache::memory://a.png")
    with pytest.raises(SourceError, match=r"Protocol not known: nosuch"):
        check_protocol("simplecache::nosuch://a.png")


def test_a_protocol_whose_package_is_missing_is_told_with_its_name():
    missing = [name for name, package in (("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")) if not find(package)]
    if not missing:
        pytest.skip("s3fs, gcsfs and adlfs are all installed")
    with pytest.raises(SourceError, match=r"(?i)install"):
        check_protocol(f"{missing[0]}://bucket/a.png")


def find(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def test_a_store_is_listed_in_sorted_order_without_hidden_files():
    store = fsspec.filesystem("memory")
    store.pipe({f"/test_listing/{name}": b"x" for name in ("b.png", "a.txt", "c/a.png", ".d/e.png", ".f.png")})
    assert list_url("memory://test_listing/") == [
        f"memory:///test_listing/{name}" for name in ("a.txt", "b.png", "c/a.png")
    ]
    assert list_url("memory://test_listing/**/*.png") == [
        f"memory:///test_listing/{name}" for name in ("b.png", "c/a.png")
    ]


def test_a_store_that_cannot_be_listed_is_told():
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    # Nobody listens on the discard port.
    with pytest.raises(SourceError, match=r"'http://127.0.0.1:9/\*.png' cannot be listed"):
        list_url("http://127.0.0.1:9/*.png")
    with pytest.raises(SourceError, match=r"is a chain of URLs"):
        list_url("simplecache::memory://*.png")


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A web server on this machine with two images, another file and a folder."""
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    folder = tmp_path_factory.mktemp("web")
    for name in ("b.png", "a.png", "c.txt", "deep/d.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    with served(folder) as address:
        yield address


def test_a_url_is_its_own_key_and_is_not_asked_for():
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    url = "https://nosuch.invalid/view?name=3&size=[large]"
    for images in (url, [url], iter([url])):
        assert list(as_source(images)) == [Image(url, url)]
    assert as_source([url, url]).count() == 2


def test_images_of_a_web_server_are_listed(web):
    assert keys(as_source(f"{web}/*.png")) == [f"{web}/a.png", f"{web}/b.png"]
    assert keys(as_source(f"{web}/")) == [f"{web}/a.png", f"{web}/b.png", f"{web}/deep/d.png"]
    assert as_source([f"{web}/*.png", "x.png"]).count() == 3


def test_a_folder_and_a_glob_in_a_store_are_listed():
    store = fsspec.filesystem("memory")
    store.pipe({f"/test_sources/{name}": b"x" for name in ("b.png", "a.JPG", "n.md", "deep/c.png", ".d/e.png")})
    start = "memory:///test_sources"
    assert keys(as_source("memory://test_sources/")) == [f"{start}/{n}" for n in ("a.JPG", "b.png", "deep/c.png")]
    assert keys(as_source("memory://test_sources/*")) == [f"{start}/a.JPG", f"{start}/b.png"]
    assert keys(as_source("memory://test_sources/*.md")) == [f"{start}/n.md"]
    assert keys(as_source("memory://test_sources/b.png")) == ["memory://test_sources/b.png"]
    with pytest.raises(EmptySourceError, match=r"'memory://test_sources/\*.tif' has no image"):
        as_source("memory://test_sources/*.tif")


def test_files_behind_file_urls_are_listed(views):
    assert keys(as_source(f"file://{views}/left/*.tif")) == [
        f"file://{views}/left/10.tif",
        f"file://{views}/left/2.tif",
    ]


@pytest.mark.parametrize("images", ["nosuch://a.png", ["a.png", "nosuch://a.png"], iter(["nosuch://a.png"])])
def test_a_protocol_that_cannot_be_read_is_told_at_once(images):
    with pytest.raises(SourceError, match=r"'nosuch://a.png' cannot be read: Protocol not known: nosuch"):
        as_source(images)


def test_a_table_behind_a_url_is_refused():
    with pytest.raises(SourceError, match=r"is read from a local file: download it"):
        as_source("memory://bucket/table.csv")
