"""What is known of each GPU architecture."""

from __future__ import annotations

from typing import Literal

__all__ = ["Dialect"]


Dialect = Literal["e4m3fn", "e4m3fnuz"]
