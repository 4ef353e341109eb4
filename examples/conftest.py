"""What an engine's own `tests/conftest.py` would hold."""

pytest_plugins = ["nsa_caps.testing.plugin"]
