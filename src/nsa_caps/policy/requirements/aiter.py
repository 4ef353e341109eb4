"""What aiter's rows need, gate by gate; the arithmetic is in `aiter_gates.py`, the facts in `AiterSource`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.archs import ARCHS
from nsa_caps.capabilities.aiter_history import nearest_generation
from nsa_caps.capabilities.engines import ENGINE_TABLE
from nsa_caps.policy.aiter_gates import (
    CHUNK_K,
    ESCAPE_VARIABLE,
    LOGITS_MODULE,
    aiter_arch,
    below_import_gate,
    in_triton_gap,
    reaches_import_gate,
)
from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.requirements.gpu import archs_to_keep, keep_arch, keep_only

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.request import Request
    from nsa_caps.policy.requirements.common import Requirement

__all__ = [
    "arch_has_fp8",
    "arch_known",
    "arch_same",
    "cache_takes_preshuffle",
    "imports",
    "imports_whole",
    "logits_take_preshuffle",
    "plain_takes_pages",
    "source_shows",
    "tile_pages",
]

# What every row of aiter rests on, and what it rests on where the switch decides; a row adds its own.
_SHARED_FACTS = ("logits_preshuffle", "known_archs", "gate_triton", "gate_escape", "trimmed_by", "fp8_archs",
    "wrapper", "launches_short", "imports", "takes", "imports_flydsl", "unaccounted", "package_imports_gluon", "mfma",
    "mfma_3d")  # fmt: skip
_SWITCH_FACTS = ("triton_comparison", "gluon_triton", "triton_gap", "aot_stops_jit", "aot_needs_gluon_triton",
    "arch_gate", "gluon_archs", "gfx1250_waves")  # fmt: skip


def source_shows(call: str, *own: str) -> Requirement:
    """Need every fact that the row rests on to be known, and to foretell all that the source does with its call.

    Args:
        call: the row's call of the logits function: `tiles`, `token` or `flat`.
        own: the facts that the row adds.
    """

    def check(caps: Capabilities, _: Request) -> Reason | None:
        source = caps.aiter_source
        if caps.aiter.state != "found" or (source is not None and source.logits_preshuffle is False):
            return None
        facts = (*_SHARED_FACTS, *own)
        if source is None or source.wrapper != "plain":
            facts = (*facts, *_SWITCH_FACTS)
        unknown = [name for name in facts if source is None or getattr(source, name) is None]
        if source is None or call not in (source.calls or ()):
            unknown.append(f"what it does with {call}")
        if not unknown:
            return None
        seen = "; ".join((source.unaccounted or ())[:2]) if source else ""
        since = f" (changed since {nearest_generation(source)}: {seen})" if source and seen else ""
        return Reason(
            "aiter.source-unknown",
            "unknown",
            observed=f"{', '.join(unknown)}{since}",
            required="a source of which every statement is accounted for",
            source=source.location if source else caps.aiter.location,
            changes=(Change.aiter("main"),),
        )

    return check


def imports(caps: Capabilities, _: Request) -> Reason | None:
    """Need aiter to import: its gluon package raises below a Triton minimum (f061fba9), and `import aiter` runs it."""
    source, triton = caps.aiter_source, caps.triton.version
    if source is None:
        return None
    if in_triton_gap(source, triton):
        observed, required = f"Triton {triton}", f"Triton < {source.triton_gap} or >= {source.gluon_triton}"
        return Reason(
            "aiter.import-barred",
            "unmet",
            observed=observed,
            required=required,
            source=f"{LOGITS_MODULE} (fe927e8d)",
            changes=(Change.triton(source.gluon_triton),),
        )
    reached = reaches_import_gate(caps)
    if not below_import_gate(source, triton) or reached is False or source.gate_escape is None:
        return None
    escape = None if source.gate_escape == "none" else source.gate_escape
    switch = caps.switches.get("aiter_system_triton")
    observed = f"Triton {triton}"
    if reached is None or (escape is not None and (switch is None or escape != ESCAPE_VARIABLE)):
        # Whether the error is passed over, or what another variable is set to, was never read.
        required = f"Triton >= {source.gate_triton}"
        return Reason(
            "aiter.import-barred",
            "unknown",
            observed=observed,
            required=required,
            source="aiter/ops/triton/gluon/__init__.py",
            changes=(Change.triton(source.gate_triton),),
        )
    if escape and switch is not None:
        if switch.value is True:
            return None
        if switch.value is None:
            observed += f", and {escape}={switch.raw!r}, which aiter's int() cannot read"
    ways = (Change.triton(source.gate_triton), *((Change("set", escape, "1"),) if escape else ()))
    required = f"Triton >= {source.gate_triton}" + (f", or {escape}=1" if escape else "")
    return Reason(
        "aiter.import-barred",
        "unmet",
        observed=observed,
        required=required,
        source="aiter/ops/triton/gluon/__init__.py",
        changes=ways,
    )


def imports_whole(caps: Capabilities, _: Request) -> Reason | None:
    """Need `import aiter` to bind what its kernels' modules import from it: two variables keep it from that."""
    trimming = (caps.aiter_source.trimmed_by if caps.aiter_source else None) or ()
    switches = [caps.switches.get(name) for name in ("aiter_triton_only", "aiter_aot_import")]
    on = [switch.variable for switch in switches if switch is not None and switch.value is True]
    acting = next((variable for variable in on if variable in trimming), None)
    if acting is None:
        return None
    unset = (Change("unset", acting),)
    return Reason(
        "aiter.import-trimmed",
        "unmet",
        observed=f"{acting}=1",
        required=f"{acting} unset",
        source="aiter/__init__.py",
        changes=unset,
    )


def logits_take_preshuffle(caps: Capabilities, _: Request) -> Reason | None:
    """Need the logits kernel to take `Preshuffle` and `KVBlockSize` (fe927e8d): engines always pass both."""
    source = caps.aiter_source
    if source is None or source.logits_preshuffle is not False:
        return None
    required = "an aiter whose logits kernel takes both"
    return Reason(
        "aiter.no-preshuffle-logits",
        "unmet",
        observed="it takes neither" if source.logits_module else "it has none",
        required=required,
        source=source.logits_module or source.location,
        changes=(Change.aiter("0.1.13"),),
    )


def cache_takes_preshuffle(caps: Capabilities, _: Request) -> Reason | None:
    """Need the store and gather kernels to take `preshuffle` (aiter#2879): without, they know flat pages only."""
    source = caps.aiter_source
    if source is None or source.logits_preshuffle is False or ENGINE_TABLE[caps.engine].own_cache:
        return None
    found = {name: getattr(source, name) for name in ("store_preshuffle", "gather_preshuffle")}
    lacking = [name for name, takes in found.items() if takes is False]
    if not lacking and None in found.values():
        unknown = " and ".join(name.removesuffix("_preshuffle") for name, takes in found.items() if takes is None)
        return Reason(
            "aiter.source-unknown",
            "unknown",
            observed=f"whether the {unknown} takes preshuffle",
            required="a source of which every statement is accounted for",
            source="aiter/ops/cache.py",
            changes=(Change.aiter("main"),),
        )
    if not lacking:
        return None
    observed = " and ".join(name.removesuffix("_preshuffle") for name in lacking) + " without it"
    return Reason(
        "aiter.no-preshuffle-cache",
        "unmet",
        observed=observed,
        required="aiter#2879 (0.1.13)",
        source="aiter/ops/cache.py",
        changes=(Change.aiter("0.1.13"),),
    )


def arch_known(caps: Capabilities, _: Request) -> Reason | None:
    """Need the arch that aiter takes for the machine's to be in its `GFX_MAP`, else every kernel is a KeyError."""
    source, switch, arch = caps.aiter_source, caps.switches.get("gpu_archs"), aiter_arch(caps)
    unset = (Change("unset", "GPU_ARCHS"),) if switch is not None and switch.variable else ()
    if switch is not None and switch.value is None:
        return Reason(
            "switch.unreadable",
            "unmet",
            observed=f"GPU_ARCHS={switch.raw!r}",
            required="one arch, or GPU_ARCHS unset",
            source=switch.source,
            changes=unset,
        )
    if arch is None and caps.devices:
        return Reason(
            "device.unknown",
            "unknown",
            observed="no first GPU",
            required="the arch that rocminfo prints first",
            source=None,
            changes=unset,
        )
    if source is None or source.known_archs is None or arch is None or arch in source.known_archs:
        return None
    return Reason(
        "aiter.unknown-arch",
        "unmet",
        observed=repr(arch),
        required=f"one of {', '.join(source.known_archs)}",
        source="aiter GFX_MAP",
        changes=unset or (Change.aiter("main"),),
    )


def arch_same(caps: Capabilities, _: Request) -> Reason | None:
    """Need the arch that aiter compiles for to be the one that runs (aiter#3807)."""
    arch = aiter_arch(caps)
    others = [other for other in caps.archs or () if other != arch]
    if arch is None or not others:
        return None
    switch = caps.switches.get("gpu_archs")
    named = switch is not None and bool(switch.value)
    source = "GPU_ARCHS" if named else "the first GPU that rocminfo prints"
    changes = (Change("unset", "GPU_ARCHS"),) if named else tuple(
        keep_arch(caps, other) for other in archs_to_keep(caps)
    )  # fmt: skip
    return Reason(
        "aiter.arch-differs",
        "unmet",
        observed=f"aiter takes {arch}, {', '.join(others)} runs",
        required="one arch",
        source=source,
        changes=changes,
    )


def arch_has_fp8(caps: Capabilities, _: Request) -> Reason | None:
    """Need AMD GPUs that Triton has an fp8 type for."""
    for arch in caps.archs or ():
        known = ARCHS.get(arch)
        if known is not None and not known.fp8_type:
            source = next(device.source for device in caps.devices or () if device.arch == arch)
            hygon = known.vendor == "hygon"
            required = "an AMD GPU; Hygon's DCU is none" if hygon else "a GPU that Triton has an fp8 type for"
            return Reason(
                "device.arch", "unmet", observed=arch, required=required, source=source, changes=keep_only(caps, [arch])
            )
    return None


def plain_takes_pages(caps: Capabilities, _: Request) -> Reason | None:
    """Need the plain Triton kernel to take pages of more than one token (04907edc)."""
    source = caps.aiter_source
    if source is None or source.plain_pages != "one":
        return None
    return Reason(
        "aiter.plain-one-token",
        "unmet",
        observed="it asserts KVBlockSize == 1",
        required="an aiter since 04907edc",
        source=LOGITS_MODULE,
        changes=(Change.aiter("main"),),
    )


def tile_pages(default: int) -> Requirement:
    """Need a page size that aiter's tiled kernel takes: another one fails at the first decode."""

    def check(caps: Capabilities, request: Request) -> Reason | None:
        size, source = request.page_size or default, caps.aiter_source
        change = (Change.page_size(),)
        if size % 16:
            return Reason(
                "page.size",
                "unmet",
                observed=str(size),
                required="a multiple of 16, the rows of a tile",
                source="the request",
                changes=change,
            )
        # gfx1250 loads whole chunks by TDM: several pages a chunk, never several chunks a page.
        either = source is not None and source.chunk_rule == "either" and aiter_arch(caps) != "gfx1250"
        if CHUNK_K % size and not (either and size % CHUNK_K == 0):
            fits = f"a page size that divides ChunkK = {CHUNK_K}" + (" or is a multiple of it" if either else "")
            return Reason("page.size", "unmet", observed=str(size), required=fits, source="the request", changes=change)
        return None

    return check
