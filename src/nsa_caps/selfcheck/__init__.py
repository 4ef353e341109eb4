"""Proof on a device: write known tokens, read them back, score them, compare, and say what is wrong."""

from nsa_caps.selfcheck.check import *  # noqa: F403
from nsa_caps.selfcheck.check import __all__ as __all__
