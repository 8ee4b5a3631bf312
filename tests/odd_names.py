"""Names of files that a terminal or rich would obey."""

from __future__ import annotations

ODD_NAMES = ("view[copy].png", "shot :cat: 1.png", "[bold]loud.png", "a\x1b[31mred\x1b[2J.png", "two\nlines.png")
"""Markup, an emoji code, commands of a terminal, a line feed."""
SHOWN_NAMES = (*ODD_NAMES[:3], r"a\x1b[31mred\x1b[2J.png", r"two\nlines.png")
"""The same as they are to be seen."""
