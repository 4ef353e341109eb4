"""Reasons as data and their codes: the public path of `nsa_caps.policy.reasons`."""

from nsa_caps.policy.reasons import *  # noqa: F403
from nsa_caps.policy.reasons import __all__ as __all__
