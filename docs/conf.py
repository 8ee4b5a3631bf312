"""Sphinx configuration."""

import importlib.metadata

project = "parimg"
author = "the parimg developers"
copyright = "2026, the parimg developers"  # noqa: A001 - Sphinx's name
release = importlib.metadata.version("parimg")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
# "ndarray of float32, shape (n, 3)" is no reference to the attribute `shape` that two classes have.
suppress_warnings = ["ref.python"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = f"parimg {release}"
