"""Sphinx configuration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nsa_caps import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "nsa_caps"
copyright = "the nsa_caps developers"  # noqa: A001 Sphinx's own name for it
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_theme = "furo"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "tables"]
nitpicky = False
# Single backticks in docstrings are code, as they are in Markdown.
default_role = "code"
# Types stand in the signature, once, and a default is written as its source has it: `ROWS` is 4,000 characters.
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
# The records' attributes stand in their docstrings, once.
napoleon_use_ivar = True

# `aiter#2879` in any page's text is a link to that issue.
_TRACKERS = {
    "aiter": "ROCm/aiter",
    "sglang": "sgl-project/sglang",
    "vllm": "vllm-project/vllm",
    "triton": "triton-lang/triton",
    "ktransformers": "kvcache-ai/ktransformers",
}
_ISSUE = re.compile(rf"(?<![\w/`\[])({'|'.join(_TRACKERS)})#(\d+)")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]*`|\[[^\]\n]*\]\([^)\n]*\))", re.MULTILINE | re.DOTALL)


def _linked(_: Sphinx, __: str, source: list[str]) -> None:
    """Make links of issues' numbers, outside of code."""
    parts = _CODE.split(source[0])
    source[0] = "".join(
        part
        if index % 2
        else _ISSUE.sub(lambda m: f"[{m[0]}](https://github.com/{_TRACKERS[m[1]]}/issues/{m[2]})", part)
        for index, part in enumerate(parts)
    )


def setup(app: Sphinx) -> None:
    """Tell Sphinx of what is done to each page."""
    app.connect("source-read", _linked)
