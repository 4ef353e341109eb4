"""Probes: functions from a host to one part of the capabilities. They do all the reading, and know no policy."""

from nsa_caps.probes.probe import *  # noqa: F403
from nsa_caps.probes.probe import __all__ as __all__
