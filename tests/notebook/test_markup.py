"""HTML of plain values, and that none of it is markup from outside."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from parimg.notebook import markup
from parimg.notebook.markup import duration

EVIL = '<img src=x onerror="alert(1)">&\'\x1b[2J\u202e'
ESCAPED = "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;&#x27;\\x1b[2J\\u202e"


@pytest.mark.parametrize(
    "made",
    [
        markup.text(EVIL),
        markup.box(EVIL, "", []),
        markup.box("", EVIL, []),
        markup.box("", "", [EVIL]),
        markup.facts({EVIL: 1}),
        markup.facts({"name": EVIL}),
        markup.table([EVIL], [[1]]),
        markup.table(["a"], [[EVIL]]),
        markup.picture(b"\xff\xd8", EVIL, width=10),
    ],
)
def test_text_from_outside_is_escaped_wherever_it_stands(made: str) -> None:
    assert ESCAPED in made
    assert 'onerror="' not in made


def test_markup_is_not_escaped_twice() -> None:
    assert markup.text(markup.text("a < b")) == "a &lt; b"


def test_long_texts_are_cut_before_they_are_escaped() -> None:
    assert markup.text("<" * 1000) == "&lt;" * 300 + "..."


def test_a_bar_has_the_shares_of_what_went_well_and_failed() -> None:
    made = markup.bar(30, 10, 80)
    assert "width:37.50%" in made
    assert "width:12.50%" in made
    assert markup.bar(3, 0, None) == ""


def test_a_fact_that_is_unknown_is_left_out_and_zero_is_not() -> None:
    made = markup.facts({"unknown": None, "empty": "", "zero": 0})
    assert "zero" in made
    assert "unknown" not in made
    assert "empty" not in made


def test_a_small_picture_is_enlarged_so_that_its_pixels_are_seen() -> None:
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0] = (255, 0, 10)
    read = cv2.imdecode(np.frombuffer(markup.png(pixels), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert read.shape == (128, 256, 3)
    assert read[63, 63].tolist() == [255, 0, 10]
    assert read[64, 63].tolist() == [0, 0, 0]


def test_no_picture_is_no_markup() -> None:
    assert markup.picture(b"", "name", width=10) == ""
    assert markup.address(b"") == ""


def test_durations_are_in_units_that_fit() -> None:
    given = [0.0, 0.25, 1.0, 59.9, 60.0, 3599.0, 3600.0, 86_399.0, 86_400.0, 1e7]
    assert list(map(duration, given)) == [
        "0 ms", "250 ms", "1 s", "59.9 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 0 h",
        "115 d 17 h",
    ]  # fmt: skip
    rounded = [0.9996, 0.9994, 59.96, 119.7, 3599.7, 86_399.8]
    assert list(map(duration, rounded)) == ["1 s", "999 ms", "1 min 0 s", "2 min 0 s", "1 h 0 min", "1 d 0 h"]
