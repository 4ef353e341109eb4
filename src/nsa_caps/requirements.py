"""What a row may need: the public path of `nsa_caps.policy.requirements.common`, for who writes a row."""

from nsa_caps.policy.requirements.common import *  # noqa: F403
from nsa_caps.policy.requirements.common import __all__ as __all__
