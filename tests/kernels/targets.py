"""The GPUs that every kernel of this library is compiled for: some of each family that its rows name."""

from nsa_caps.archs import ARCHS

TARGETS = tuple(arch.name for arch in ARCHS.values() if arch.tested)
