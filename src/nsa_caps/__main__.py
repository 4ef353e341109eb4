"""`python -m nsa_caps`: the command `nsa-caps`."""

from __future__ import annotations

import sys

from nsa_caps.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
