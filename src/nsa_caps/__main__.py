"""`python -m nsa_caps`: the command `nsa-caps`."""

from __future__ import annotations

import sys

from nsa_caps.cli import main

sys.exit(main())
