"""What is known of aiter's code by its digest: kernels that were compiled, statements and functions that were read.

`tools/aiter_history.py` proposes rows from a checkout; `pytest --aiter-checkout DIR` reads them again.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = [
    "FLYDSL_GATES",
    "FLYDSL_LOOKS",
    "FUNCTIONS",
    "KERNELS",
    "LAUNCHES",
    "LOGITS_LINES",
    "OTHERS",
    "REFUSALS",
    "STATEMENTS",
    "KernelBody",
]


class KernelBody(NamedTuple):
    """The body of one kernel.

    Attributes:
        kernel: `base` (gluon, page 1), `preshuffle` (gluon, tiles) or `plain`.
        since: the commit that brought it.
        mfma: its MFMA version: `target` follows the GPU; None: it names none.
        mfma_3d: it knows the three-number MFMA shape that Triton >= 3.6 demands.
        wide: its key offsets are 64-bit, for pages that divide 128 (aiter#4774).
        archs: the archs that it was seen to compile for (tests/real_aiter/compiles.json); of the plain kernel that is
            a matter of Triton alone.
    """

    kernel: Literal["base", "preshuffle", "plain"]
    since: str
    mfma: Literal["target", "3", "4"] | None
    mfma_3d: bool
    wide: bool
    archs: tuple[str, ...]


_2 = ("gfx942", "gfx950")
_3 = ("gfx942", "gfx950", "gfx1250")
# Three digests of each: of its text, of what it does, and of its stand-in in nsa_caps.testing.
_BODIES: tuple[tuple[str, str, str, KernelBody], ...] = (
    ("ea9b56bc095e", "418cd427d136", "c99088c4cfbb", KernelBody("plain", "cdda78c1", None, False, False, ())),
    ("53c2fd7387af", "57244c5ee720", "bc4d04151cfd", KernelBody("base", "fe927e8d", "3", False, False, ("gfx942",))),
    (
        "2dad510144ef",
        "9497d13ad660",
        "fef50d07e699",
        KernelBody("preshuffle", "fe927e8d", "3", False, False, ("gfx942",)),
    ),
    ("0312f7384b46", "0e6e256837e3", "de7c9ac94ac7", KernelBody("plain", "fe927e8d", None, False, False, ())),
    ("112c04e55704", "9d7b6178d2dd", "b5e5938bf80e", KernelBody("base", "9715eecc", "3", False, False, ("gfx942",))),
    (
        "d446a33f2798",
        "a562dc90e7be",
        "215c634326db",
        KernelBody("preshuffle", "9715eecc", "3", True, False, ("gfx942",)),
    ),
    ("4a128c7e6409", "291daa9c0ee5", "e19fe763ae03", KernelBody("base", "a8eb62f5", "4", False, False, ("gfx950",))),
    (
        "0372bdf3f13d",
        "e031a46557e2",
        "2310b40a7a80",
        KernelBody("preshuffle", "a8eb62f5", "4", True, False, ("gfx950",)),
    ),
    ("4800b1338341", "3207c06941ab", "fba39c0b8962", KernelBody("base", "10c87ea1", "target", False, False, _2)),
    ("ff5fed750e25", "8be9d92941e2", "74f45155c0ea", KernelBody("preshuffle", "10c87ea1", "target", True, False, _2)),
    ("2ca86b94c497", "c9b2b7fb55b3", "7c60d55cc268", KernelBody("base", "a1bdcec9", "target", True, False, _2)),
    ("41018953b18a", "0bd5923c0349", "0b5b390e1fda", KernelBody("preshuffle", "2c855fb9", "target", True, False, _2)),
    ("8a19d05af6fe", "3babe39a1a57", "96d1006e2b95", KernelBody("base", "d863d2f8", "target", True, False, _3)),
    ("a9ec4371c572", "cc421900c914", "4bb1525c7e78", KernelBody("preshuffle", "d863d2f8", "target", True, False, _3)),
    ("e383c7c477d4", "575d71afef51", "c7c123be8318", KernelBody("base", "861b4c93", "target", True, False, _3)),
    ("709113ba5b26", "ea7c30585c47", "7eec7facdf02", KernelBody("preshuffle", "861b4c93", "target", True, False, _3)),
    ("6f3643bf4287", "7df64113d306", "8f7ba824eb9a", KernelBody("base", "b2127e52", "target", True, False, _3)),
    (
        "a288d3b679f1",
        "2ceb08725792",
        "8f3e8eac97a0",
        KernelBody("preshuffle", "b2127e52", "target", True, False, ("gfx1250",)),
    ),
    ("c925715f12d7", "2e535dcec25d", "a5b825442f4f", KernelBody("preshuffle", "d9b3e0d2", "target", True, False, _3)),
    ("cd080a561c31", "33de2bb7a12c", "26d875267078", KernelBody("base", "5f930ea5", "target", True, False, _3)),
    ("fcd6bed03cae", "601ea4ce68d4", "5f4ae3b722e1", KernelBody("preshuffle", "5f930ea5", "target", True, False, _3)),
    ("951a06101614", "0e6e256837e3", "62e0f347ec19", KernelBody("plain", "5f930ea5", None, False, False, ())),
    ("0f092138fcc8", "18d4b471e702", "14544b7ee80a", KernelBody("preshuffle", "044f906a", "target", True, False, _3)),
    ("a25b4af20d86", "59c2e4ee924b", "ad397d73bbbe", KernelBody("preshuffle", "9791b8c1", "target", True, True, _3)),
    ("c5cae5b74df8", "01d5507a64ee", "2d06b9e19de8", KernelBody("plain", "04907edc", None, False, False, ())),
)
KERNELS: dict[str | None, KernelBody] = {digest: body for *digests, body in _BODIES for digest in digests}
"""The bodies that are known, by both digests of `nsa_caps.probes.aiter.kernels.body_digest`."""

STATEMENTS: dict[str, frozenset[str]] = {
    "aiter": frozenset({
        "3cd84b59ac1c", "6d00d6e5688f", "9be96864f8b8", "a5e95c5d8c39", "aed27d70043c", "b71bae60754e",
    }),
    "aiter.jit.utils.cpp_extension": frozenset({"1f1d6bdadb8d", "bee6f4efa314"}),
    "aiter.ops.triton": frozenset({"03dec8091561", "07ec4f033eb9", "818a1343fb10"}),
    "aiter.ops.triton.gluon.pa_decode_gluon": frozenset({"61727a5648e3"}),
    "aiter.ops.triton.gluon.pa_mqa_logits": frozenset({"34f3ff2843ec", "6e075700e80f", "dcd822f6884d"}),
    "aiter.ops.triton.gluon.triton_version": frozenset({"fa3e11e1fbc8"}),
    "aiter.utility.dtypes": frozenset({"71c6171cd84c", "bfb998d0173a", "dcc3c9fc16d5"}),
    "aiter.utility.triton.triton_metadata_redirect": frozenset({"9d1168d497ef"}),
}  # fmt: skip
"""Statements at the top of modules that decide nothing and that the reader does not follow, as they were in history."""

FUNCTIONS: dict[tuple[str, str], frozenset[str]] = {
    ("aiter.jit.utils.chip_info", "get_gfx"): frozenset({
        "a3f21e732bf4", "635e0d2fb6cc", "9556ddc4112d", "1aea87c0f568", "49362b098355",
        "228f15420ac3", "33c709e98301", "44ee220b33e2", "9727418a7e44", "d37dcec5a0b8", "f53c6f0c5f98",
    }),
    ("aiter.jit.utils.chip_info", "get_gfx_runtime"): frozenset({
        "1023930ccfe3", "52d3f8735118", "6be5c910d963",
        "228f15420ac3", "33c709e98301", "44ee220b33e2",
    }),
    ("aiter.ops.triton.utils.device_info", "get_num_sms"): frozenset({
        "a48d115bdd18", "7f4af165edf7", "c2da02e1d54e",
    }),
    ("aiter.utility.triton.triton_metadata_redirect", "AOTMetadataContext"): frozenset({
        "3eb7c554d894", "bd7aac649df2", "a8a84eb782de", "e3528625730d",
    }),
}  # fmt: skip
"""Functions that ask the machine, each with all that it calls in its module: those of history and nsa_caps.testing.

By what they do, and those of main and of releases by their texts too, which takes no parsing.
"""

LAUNCHES: dict[str, Literal["fits", "short"]] = {
    **dict.fromkeys((
        "cfac2f169cd8", "261e5ff2a1dd", "1fe0f9114a91", "9b90c3078bdf", "380b2f0b21a1", "8d7f65ea8276",
        "6c3ba8fc648f", "7fa2a71a5ad6", "73da74debe2a", "811ac4d31b2d", "9d0f81bda43e", "db0e9a5ee120",
        "8ca858574b1e", "eaa7b197c5b2", "c45b472fa2d9", "1b843e9d6f49",
    ), "fits"),
    "40add253eb56": "short",
    "59e912beb9f0": "short",
}  # fmt: skip
"""Launches, by the kernel's parameters, the signature that is compiled, and where each argument comes from.

d863d2f8 launches with one argument fewer than the kernel takes: Triton 3.5 and 3.6 fail, later ones shift the rest.
"""

REFUSALS: frozenset[str] = frozenset({
    "d992dc2a017b", "9f766e3ddbac", "7473f3691691", "13fff498e0b6", "17d58f91577b", "f681e616abbe", "4b3a31bbdbea",
    "77f7c2b5fd5c", "7cc7081c5555", "75a2451a0269", "1eb6da720b27", "81b647798bcb", "1ba04e7cb122", "ed3ba8219b6f",
    "194f451d6391", "62a2f4bb0694", "dbfc1641f217", "9f862fc2fdd6", "8fe82478346c", "f9d5c8cd52b1", "bb6e6289bce9",
    "e7bed9425f24", "71230c03cdff", "9c3334abd089", "de47d328075a", "7c50454b7b51", "8ec43a563a19", "1988624a9983",
    "ec928b6dd392", "68295ca7d512", "3182807e0bad", "7c6b0ca05059", "561e1266959c", "68db0b1033df", "94da21dda815",
    "8673deb3d627", "8efa5948aacc", "b87936b24a58", "472a66f2d2e2", "be7b0e5af76f",
})  # fmt: skip
"""Statements at the top of the modules beyond, which may refuse and do so on no machine that is asked about."""

OTHERS: frozenset[str] = frozenset({"aiter_", "csrc", "pandas"})
"""Packages that an import of aiter's releases needs, and that not every torch and Triton come with: it brings them."""

FLYDSL_GATES: dict[str, str] = {
    "e3b0c44298fc": "",
    "720a81b1be2e": "===",
    "094418869586": "==",
    "4542252f5393": ">=",
}
"""How `aiter.ops.flydsl` compares the version of a flydsl that is there, by all that it does then beside imports."""

FLYDSL_LOOKS: frozenset[str] = frozenset({"71e9f8ce12cf", "85211f5c612d", "79adbb5c82fa", "a9f8b808e0e2"})
"""How `aiter.ops.flydsl.utils.is_flydsl_available` looks for it: none of them finds one that is not installed."""

LOGITS_LINES: frozenset[str] = frozenset({
    "d8e555db5b07", "30a4ca9211cb", "9f9db1415928", "50c298427fe5", "d093e3e950c7", "3ad80b9a18e4", "0f082b8bc73d",
    "04fde4d47a8a", "d0cff2ad9fa3", "a13c0bce2e1d", "636ad26b9818", "5e67ce0bad0a", "311bbe636ee5",
    "a0d7c2acca56", "b14d5f034fd0", "9e2e1ee5b48d", "1857d6b40149", "0c1897128ac0", "1e0e0d774258", "2f58d8532001",
})  # fmt: skip
"""The lines that refuse on some machine in logits modules of history and nsa_caps.testing: a fact stands for each.

Where such a module refuses in another line too, that line is the one to tell of.
"""
