"""The GPUs that every kernel of this library is compiled for: some of each family that its rows name."""

import pytest

from nsa_caps.archs import ARCHS

TARGETS = tuple(arch.name for arch in ARCHS.values() if arch.tested)
# Half a minute each with an empty Triton cache: one of each vendor is compiled for at every run, all before a release.
QUICK = ("gfx942", "sm_90")
MARKED_TARGETS = tuple(
    target if target in QUICK else pytest.param(target, marks=pytest.mark.slow) for target in TARGETS
)
