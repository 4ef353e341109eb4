"""The environment switches and their grammars: the public path of `nsa_caps.capabilities.switches`."""

from nsa_caps.capabilities.switches import *  # noqa: F403
from nsa_caps.capabilities.switches import __all__ as __all__
