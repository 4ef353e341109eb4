"""The tree of errors."""

from __future__ import annotations

import re

import nsa_caps
from nsa_caps import NsaCapsError, errors
from nsa_caps.kernels.arguments import KernelArgumentError
from nsa_caps.page_table import PageTableError

DRAWN = re.findall(r"[├└]── (\w+)(?: \((\w+)\))?", errors.__doc__ or "")


def test_the_tree_of_errors_is_drawn_whole() -> None:
    """`nsa_caps.errors` shows every error that the package offers, under the builtin that it derives from."""
    offered = {name: getattr(nsa_caps, name) for name in nsa_caps.__all__ if name.endswith("Error")}
    offered |= {each.__name__: each for each in (KernelArgumentError, PageTableError)}
    assert {name for name, _ in DRAWN} | {"NsaCapsError"} == set(offered)
    for name, builtin in DRAWN:
        assert issubclass(offered[name], NsaCapsError)
        assert not builtin or builtin in {each.__name__ for each in offered[name].__bases__}
