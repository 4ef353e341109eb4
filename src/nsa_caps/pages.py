"""The bytes of one page of the indexer's key cache, described without touching a tensor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, get_args

from nsa_caps.archs import Dialect
from nsa_caps.base.serial import field_names, shortened
from nsa_caps.errors import NsaCapsError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FP8_MAX",
    "TILE",
    "Dialect",
    "FormatDifference",
    "Order",
    "PageFormat",
    "PageFormatError",
    "ScaleFormat",
    "difference",
]

Order = Literal["flat", "tiles"]
ScaleFormat = Literal["fp32", "ue8m0", "ue8m0_packed"]

# Rows and columns of the tile that one 16x16 MFMA instruction takes.
TILE = 16

# Largest finite value of each fp8 dialect: what a scale is measured against.
FP8_MAX: dict[Dialect, float] = {"e4m3fn": 448.0, "e4m3fnuz": 240.0}

_SCALE_BYTES = 4
# Kernels count in 32 bits.
_LIMIT = 2**31
# Part of what is hashed: raised when a field's meaning changes, so that old and new fingerprints never agree by chance.
_FINGERPRINT_SCHEMA = "nsa_caps.PageFormat/2"


class PageFormatError(NsaCapsError, ValueError):
    """A page format that cannot exist, or a place in a page that it has not.

    Attributes:
        field: the name of the field or argument that is wrong.
        observed: the value that was given.
    """

    def __init__(self, field: str, observed: object, message: str) -> None:
        super().__init__(f"{field}={shortened(observed)}: {message}")
        self.field = field
        self.observed = observed


@dataclass(frozen=True, kw_only=True)
class PageFormat:
    """What every byte of a page of index keys means.

    A page is block-planar: all keys, then all scales, then the padding if rows are padded. Engines view it as
    `[pages, P, row_stride]`, but no token's key and scale ever lie side by side, except in pages of one token.

    Attributes:
        page_size: tokens a page.
        order: `"flat"` keeps each token's key whole; `"tiles"` cuts keys into 16x16 tiles (aiter's *preshuffle*).
        head_dim: fp8 elements a key.
        quant_block_size: elements that share one scale.
        dialect: the fp8 encoding: `"e4m3fnuz"` on gfx94x, `"e4m3fn"` elsewhere.
        scale_format: `"fp32"`; `"ue8m0"`, rounded up to a power of two and stored as fp32; `"ue8m0_packed"`,
            the biased exponent alone, written four times into the place of the fp32 (sm_100).
        row_stride: bytes that a token takes of its page's size. 0 stands for no padding, which is 132 at the usual
            128 + 4. ROCm/ATOM rounds it up to 144; the kernels that read its cache (aiter's `cache_kernels.cu`)
            take the stride for the page's size alone, so that the padding lies together at the end of the page.
        rotated: keys are rotated by a Hadamard matrix before they are quantised, and queries must be too. Some engines'
            kernels do and some do not, on one and the same model.

    Raises:
        PageFormatError: a field is not of its type, out of range, or does not go with the others.
    """

    page_size: int
    order: Order = "flat"
    head_dim: int = 128
    quant_block_size: int = 128
    dialect: Dialect = "e4m3fn"
    scale_format: ScaleFormat = "fp32"
    row_stride: int = 0
    rotated: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("order", get_args(Order)),
            ("dialect", get_args(Dialect)),
            ("scale_format", get_args(ScaleFormat)),
        ):
            if getattr(self, name) not in choices:
                raise PageFormatError(name, getattr(self, name), f"must be one of {', '.join(choices)}")
        for name in ("page_size", "head_dim", "quant_block_size"):
            value = getattr(self, name)
            if type(value) is not int or not 0 < value < _LIMIT:
                raise PageFormatError(name, value, f"must be a whole number of 1 to {_LIMIT - 1}")
        if type(self.rotated) is not bool:
            raise PageFormatError("rotated", self.rotated, "must be True or False")
        self._check_geometry()
        if type(self.row_stride) is int and self.row_stride == 0:
            object.__setattr__(self, "row_stride", self._packed_row)
        if (
            type(self.row_stride) is not int
            or not self._packed_row <= self.row_stride < _LIMIT
            or self.row_stride % _SCALE_BYTES
        ):
            raise PageFormatError(
                "row_stride",
                self.row_stride,
                f"must be 0 (no padding) or a multiple of {_SCALE_BYTES} of at least {self._packed_row}, "
                f"which is a key of {self.head_dim} bytes and its scales",
            )

    def _check_geometry(self) -> None:
        if self.head_dim % self.quant_block_size:
            raise PageFormatError(
                "quant_block_size", self.quant_block_size, f"must divide the head dim of {self.head_dim}"
            )
        if self.head_dim % _SCALE_BYTES:
            raise PageFormatError(
                "head_dim", self.head_dim, f"must be a multiple of {_SCALE_BYTES}: the scales behind the keys are fp32"
            )
        # At one token a page the formula for tiles writes past the page's end.
        for name in ("page_size", "head_dim") if self.order == "tiles" else ():
            if getattr(self, name) % TILE:
                raise PageFormatError(
                    name, getattr(self, name), f"order 'tiles' needs a multiple of {TILE}; order 'flat' takes any"
                )

    @property
    def _packed_row(self) -> int:
        return self.head_dim + _SCALE_BYTES * self.scales_per_token

    @property
    def scales_per_token(self) -> int:
        """Scales a token: one, unless a key is quantised in several blocks."""
        return self.head_dim // self.quant_block_size

    @property
    def page_bytes(self) -> int:
        """Bytes from one page's start to the next one's."""
        return self.page_size * self.row_stride

    @property
    def tile(self) -> tuple[int, int] | None:
        """Tokens and elements of one tile, or None where keys are whole."""
        return (TILE, TILE) if self.order == "tiles" else None

    @property
    def fp8_max(self) -> float:
        """Largest finite value of the dialect."""
        return FP8_MAX[self.dialect]

    def key_offset(self, slot: int, dim: int) -> int:
        """Byte of element `dim` of the key in `slot`, counted from the page's start.

        Raises:
            PageFormatError: the page has no such slot or the key no such element.
        """
        self._check_index("slot", slot, self.page_size)
        self._check_index("dim", dim, self.head_dim)
        if self.order == "flat":
            return slot * self.head_dim + dim
        group, row = divmod(slot, TILE)
        tile, column = divmod(dim, TILE)
        return group * TILE * self.head_dim + tile * TILE * TILE + row * TILE + column

    def scale_offset(self, slot: int, block: int = 0) -> int:
        """First byte of the scale of quantisation block `block` in `slot`, counted from the page's start.

        The order of the keys does not move the scales.

        Raises:
            PageFormatError: the page has no such slot or the key no such block.
        """
        self._check_index("slot", slot, self.page_size)
        self._check_index("block", block, self.scales_per_token)
        return self.page_size * self.head_dim + _SCALE_BYTES * (slot * self.scales_per_token + block)

    @staticmethod
    def _check_index(name: str, index: int, size: int) -> None:
        if not 0 <= index < size:
            raise PageFormatError(name, index, f"must be within 0 to {size - 1}")

    @property
    def digest(self) -> bytes:
        """32 bytes that differ between any two formats: what ranks exchange.

        Every field counts, and nothing else: versions and architectures tell how a format came to be chosen, not
        what its bytes mean.
        """
        text = json.dumps([_FINGERPRINT_SCHEMA, self.to_dict()], sort_keys=True, separators=(",", ":"))
        return sha256(text.encode("ascii")).digest()

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of `digest`, for people, logs and file names."""
        return self.digest.hex()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON can carry them; `from_dict` takes them back."""
        return {name: getattr(self, name) for name in field_names(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PageFormat:
        """The format that `to_dict` wrote.

        Raises:
            PageFormatError: a field is missing, unknown, or wrong.
        """
        names = set(field_names(cls))
        for name in sorted(data.keys() ^ names):
            known = "missing" if name in names else "not a field of a page format"
            raise PageFormatError(name, data.get(name), known)
        return cls(**data)


@dataclass(frozen=True)
class FormatDifference:
    """One field in which two formats disagree.

    Attributes:
        field: its name in `PageFormat`.
        left: the value in the first format.
        right: the value in the second.
        effect: what happens to one that reads pages of the other.
    """

    field: str
    left: int | str
    right: int | str
    effect: str


# Overlaps are of the top 256 with the true one, chance being 0.125; measured, see the facts in docs.
_EFFECTS = {
    "page_size": "pages hold different numbers of tokens: all but page 0 are read from the wrong place",
    "order": "keys are put together from the bytes of up to 16 tokens (0.19 of the top 256 is right, chance is 0.125); "
    "sizes and checksums agree",
    "head_dim": "every key after a page's first begins at the wrong byte",
    "quant_block_size": "scales are counted differently and belong to other elements",
    "dialect": "the same bits are worth exactly twice or half as much and NaN has other codes: every score is off by "
    "two, though the order of scores nearly holds (0.98 of the top 256 is right)",
    "row_stride": "every page after the first begins at the wrong byte",
    "rotated": "keys of one basis are scored with queries of another (0.20 of the top 256 is right, chance is 0.125); "
    "sizes and checksums agree",
}
_SCALE_PACKED = (
    "four exponent bytes are read as one fp32 or the other way round (0.21 of the top 256 is right, chance is 0.125); "
    "sizes and checksums agree"
)
_SCALE_ROUNDED = (
    "both are stored as fp32 and read alike; a reader that takes the exponent alone loses up to half of an unrounded "
    "scale, and the same token has different bytes under the two"
)


def difference(left: PageFormat, right: PageFormat) -> tuple[FormatDifference, ...]:
    """Every field in which two formats disagree, with what a mismatch would do; empty if they are the same."""
    found = []
    for field in field_names(PageFormat):
        a, b = getattr(left, field), getattr(right, field)
        if a == b:
            continue
        if field == "scale_format":
            effect = _SCALE_PACKED if "ue8m0_packed" in (a, b) else _SCALE_ROUNDED
        else:
            effect = _EFFECTS[field]
        found.append(FormatDifference(field, a, b, effect))
    return tuple(found)
