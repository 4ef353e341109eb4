"""What a row may need: the public path of `nsa_caps.policy.requirements`' `common` and `gpu`, for who writes a row."""

from nsa_caps.policy.requirements import common, gpu
from nsa_caps.policy.requirements.common import *  # noqa: F403
from nsa_caps.policy.requirements.gpu import *  # noqa: F403

__all__ = [*common.__all__, *gpu.__all__]
