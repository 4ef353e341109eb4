"""What an engine asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from nsa_caps.base.serial import shortened
from nsa_caps.errors import NsaCapsError
from nsa_caps.pages import ScaleFormat

__all__ = ["Request", "RequestError"]

# Kernels count in 32 bits.
_LIMIT = 2**31


class RequestError(NsaCapsError, ValueError):
    """A request that no machine could meet, whatever it has."""


@dataclass(frozen=True)
class Request:
    """The indexer of the model, and the engine's own limits.

    Attributes:
        heads: the model's `index_n_heads`: 64 (DeepSeek-V3.2), 32 (GLM-5).
        head_dim: dimensions of one index key.
        quant_block_size: dimensions that share one scale.
        index_kpool: tokens that share one index state; a page of P index slots is then a model page of P x kpool.
        page_size: index slots a page, given by the user: honoured or refused, never changed. None: the row's own.
        rows: names of the rows that the engine can run; None: all.
        scale_format: the form in which scales are written; None: the engine's own on this GPU, by its release.
        rotated: keys are rotated (Hadamard) before they are quantised; None: as the engine does, where that is known.
    """

    heads: int = 64
    head_dim: int = 128
    quant_block_size: int = 128
    index_kpool: int = 1
    page_size: int | None = None
    rows: tuple[str, ...] | None = None
    scale_format: ScaleFormat | None = None
    rotated: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what is no request at all.

        Raises:
            RequestError: a number is not a positive integer, or there are no rows to choose from.
        """
        given = ("page_size",) if self.page_size is not None else ()
        for name in ("heads", "head_dim", "quant_block_size", "index_kpool", *given):
            value = getattr(self, name)
            if type(value) is not int or not 0 < value < _LIMIT:
                raise RequestError(f"{name} is {shortened(value)}, needs a whole number from 1 to {_LIMIT - 1}")
        if self.scale_format not in (None, *get_args(ScaleFormat)):
            forms = ", ".join(get_args(ScaleFormat))
            raise RequestError(f"scale_format is {shortened(self.scale_format)}, needs one of {forms}")
        if self.rotated not in (None, True, False):
            raise RequestError(f"rotated is {shortened(self.rotated)}, needs True, False or None")
        if self.rows is not None:
            # A lone name would pass for a tuple of its letters.
            if isinstance(self.rows, str) or not self.rows:  # type: ignore[redundant-expr]
                raise RequestError(f"rows is {self.rows!r}, needs None or a tuple of row names")
            object.__setattr__(self, "rows", tuple(self.rows))
            if not all(isinstance(name, str) for name in self.rows):
                raise RequestError(f"rows is {shortened(self.rows)}, needs a tuple of row names, which are texts")
