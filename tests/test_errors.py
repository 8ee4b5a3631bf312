"""Messages of errors."""

from __future__ import annotations

import pytest

from parimg.errors import MissingColumnError, ParimgError, SourceError


@pytest.mark.parametrize("kind", [ParimgError, SourceError, MissingColumnError])
def test_of_a_very_long_message_the_middle_is_left_out(kind: type[ParimgError]) -> None:
    message = str(kind("what is wrong: " + "x" * 1_000_000 + "; the way out"))
    assert len(message) < 5_000
    assert message.startswith("what is wrong: xxx")
    assert message.endswith("xxx; the way out")


def test_a_message_of_usual_length_stays_whole() -> None:
    assert str(SourceError("a" * 3_000)) == "a" * 3_000
