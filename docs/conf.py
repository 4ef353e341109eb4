"""Sphinx configuration."""

from __future__ import annotations

from nsa_caps import __version__

project = "nsa_caps"
copyright = "the nsa_caps developers"  # noqa: A001 Sphinx's own name for it
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "tables"]
nitpicky = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# The records' attributes stand in their docstrings, once.
napoleon_use_ivar = True
