"""The table of rows: the public path of `nsa_caps.policy.rows`, for who writes a row."""

from nsa_caps.policy.rows import *  # noqa: F403
from nsa_caps.policy.rows import __all__ as __all__
