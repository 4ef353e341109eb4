"""The command `nsa-caps`."""

from nsa_caps.cli.main import main as main
