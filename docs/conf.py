"""Sphinx configuration."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "parimg"
author = "the parimg developers"
copyright = "2026, the parimg developers"  # noqa: A001 - Sphinx's name
release = importlib.metadata.version("parimg")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx_design"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the page says which members are shown

# A reference to a name that no page documents is an error.
nitpicky = True

html_theme = "pydata_sphinx_theme"
html_title = f"parimg {release.partition('.dev')[0]}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["parimg.css"]
# All pages in the sidebar, under the captions of the index; the theme's own shows what is below a page.
html_sidebars = {"**": ["globaltoc.html"]}
html_theme_options = {"navbar_center": [], "show_prev_next": True, "secondary_sidebar_items": ["page-toc"]}


def _add_unreleased(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put what changed since the last version, a file a change, above the changelog."""
    if docname != "changelog":
        return
    fragments = Path(__file__).parent.parent / "changelog.d"
    parts = []
    for kind in ("added", "changed", "fixed", "removed"):
        texts = [path.read_text(encoding="utf-8").strip() for path in sorted(fragments.glob(f"*.{kind}.md"))]
        if texts:
            parts += [f"### {kind.capitalize()}", *("- " + text.replace("\n", "\n  ") for text in texts)]
    source[0] = source[0].replace("UNRELEASED", "\n\n".join(["## Not yet released", *parts]) if parts else "")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _add_unreleased)
