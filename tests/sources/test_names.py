"""Keys that can be stored and undone, and what the text of a path tells."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_lists import ARRAY, keys

from parimg.sources.as_source import as_source
from parimg.sources.names import escape_name, has_wildcard, unescape_name


def test_a_name_that_is_no_utf_8_has_a_key_that_can_be_stored(views):
    name = os.fsdecode(b"caf\xe9.png")
    (image,) = as_source([name])
    assert image.key.encode() == b"caf\\udce9.png"
    assert image.uri == str(views / name)


def test_a_file_that_is_called_like_the_escape_of_another_has_another_key(views):
    (views / "odd").mkdir()
    for name in (b"caf\xe9.png", b"caf\\udce9.png", b"caf\\\\udce9.png", b"caf\\\xe9.png"):
        (views / "odd" / os.fsdecode(name)).touch()
    assert sorted(keys(as_source("odd"))) == [
        r"odd/caf\\\\udce9.png",
        r"odd/caf\\\udce9.png",
        r"odd/caf\\udce9.png",
        r"odd/caf\udce9.png",
    ]
    assert keys(as_source([("\udce9", ARRAY), (r"\udce9", ARRAY)])) == [r"\udce9", r"\\udce9"]


@given(st.text(st.sampled_from("\\\\\\ud8ceh9f0\udce9\ud800é")))
def test_an_escaped_name_is_text_and_can_be_undone(name):
    escaped = escape_name(name)
    assert escaped.encode().decode() == escaped
    assert unescape_name(escaped) == name


@given(st.text(st.characters(codec="utf-8")))
def test_names_that_are_text_stay_as_they_are_unless_they_look_like_an_escape(name):
    assert escape_name(name) == name or r"\ud" in name
    assert unescape_name(escape_name(name)) == name


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0:*?["), min_size=1))
def test_the_key_of_a_key_is_itself(name):
    (image,) = as_source([f"{name}/x.png"])
    (again,) = as_source([image.key])
    assert again.key == image.key
    assert os.path.isabs(image.uri)
    if not PurePosixPath(image.key).is_absolute():
        assert ".." not in PurePosixPath(image.key).parts


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.png", False),
        ("a*.png", True),
        ("a?.png", True),
        ("[ab].png", True),
        ("s3://bucket/**/a.png", True),
        ("s3://bucket/a?.png", True),
        ("https://host/a.png?size=3&name=x", False),
        ("https://host/*.png", True),
        ("https://host/a.png?only=[red]&like=*", False),
    ],
)
def test_wildcards_are_seen_by_the_text_alone(path, expected):
    assert has_wildcard(path) is expected
