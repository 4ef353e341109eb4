"""A running SGLang that follows one layout: what is replaced, told name by name, and put back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from packaging.version import Version

from nsa_caps.engines.replacing import InstallError, Replacement, find, loaded_modules, replace_all, undo_all
from nsa_caps.engines.sglang.decided import indexer_layout, rows
from nsa_caps.engines.sglang.gate import HOMES, V4, Gates, original_gate, replace_gates, restore_gates
from nsa_caps.engines.sglang.kernels import ACCESSORS, cache_kernels, indexer_kernels
from nsa_caps.policy.engine import engine_rows
from nsa_caps.policy.versions import base_version

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from nsa_caps.engines.model import IndexerModel
    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["install", "uninstall"]

_log = logging.getLogger("nsa_caps.engines.sglang")
# Up to this release DeepSeek-V4 does not ask the gate; in 0.5.17 it does.
_V4_ASKS_NOTHING = Version("0.5.15")


class _Installation(NamedTuple):
    gates: Gates
    replaced: tuple[Replacement, ...]


# One at most.
_installed: list[_Installation] = []


def install(
    layout: IndexerLayout | None = None,
    *,
    kernels: bool = False,
    model: IndexerModel | None = None,
    modules: Mapping[str, ModuleType] | None = None,
) -> tuple[Replacement, ...]:
    """Make a running SGLang follow one layout; call it in every process, before SGLang resolves its arguments.

    Replaces the gate where it is defined, wherever a loaded module has it by value, and what loaded modules kept of its
    answer. An earlier `install` is undone first. DeepSeek-V4's own modules are left as they are.

    Args:
        layout: None: `indexer_layout()`. Give `indexer_layout(heads=32)` for a GLM-5, say.
        kernels: also put the layout's kernels in the place of SGLang's: gather and store, and, for a row that SGLang
            cannot run as it is, quantiser, page table, paged and ragged logits.
        model: what is known of the model; None: nothing, and it may be a DeepSeek-V4.
        modules: the loaded modules; None: `sys.modules`, into which SGLang's modules that are needed are imported.

    Returns:
        What was replaced; print it.

    Raises:
        NoUsableLayoutError: SGLang can run nothing here.
        InstallError: there is no SGLang with this gate, it cannot run the layout's row, it lacks a name that the
            kernels go in the place of, its own switches bar tiles, or a DeepSeek-V4 would read its cache wrong.
            Nothing is replaced then.
    """
    layout = indexer_layout(kernels=kernels) if layout is None else layout
    index_kpool = layout.decision.request.index_kpool
    runs = rows(index_kpool, kernels=kernels)
    if layout.row not in runs:
        raise InstallError(f"SGLang cannot run {layout.row}; it runs {', '.join(runs)}: {_way_to(layout, index_kpool)}")
    if modules is None:
        find(HOMES, None)
    earlier = _installed[-1] if _installed else None
    undone = uninstall(modules)
    try:
        gates, found = _find_all(layout, kernels=kernels, model=model, modules=modules)
        replaced = replace_all(found)
    except BaseException:
        if earlier is not None:
            undo_all(undone)
            _installed.append(earlier)
        raise
    _installed.append(_Installation(gates, replaced))
    _log.warning("%s", summary(layout, kernels=kernels))
    return replaced


def _way_to(layout: IndexerLayout, index_kpool: int) -> str:
    way = "install(kernels=True)" if layout.row in rows(index_kpool, kernels=True) else "indexer_layout()"
    return f"take {way}"


def _find_all(
    layout: IndexerLayout, *, kernels: bool, model: IndexerModel | None, modules: Mapping[str, ModuleType] | None
) -> tuple[Gates, list[Replacement]]:
    loaded = loaded_modules("sglang", modules)
    gates = Gates.of(layout, original_gate(loaded), kernels=kernels)
    ours = kernels and not _runs_as_it_is(layout)
    if layout.preshuffle and not gates.original() and not ours:
        raise InstallError(
            f"this machine takes {layout.row}, but by SGLang's own switches there are no tiles, and its store follows"
            " those: set SGLANG_USE_AITER=1 itself, and unset SGLANG_DSA_HIP_DISABLE_PRESHUFFLE"
        )
    _check_v4(layout, gates, model)
    found: list[Replacement] = []
    if ours:
        found += indexer_kernels(layout, modules)
        if modules is None:
            _keep_v4_as_it_is()
        # What was imported for it has the gate by value too.
        loaded = loaded_modules("sglang", modules)
    if kernels:
        if modules is None:
            find(ACCESSORS, None)
            loaded = loaded_modules("sglang", None)
        found += cache_kernels(loaded, layout)
    return gates, [*replace_gates(loaded, gates), *found]


def _runs_as_it_is(layout: IndexerLayout) -> bool:
    decision = layout.decision
    found = engine_rows(decision.caps.replace(engine="sglang"), index_kpool=decision.request.index_kpool)
    return layout.row in {row.row for row in found or ()}


def _check_v4(layout: IndexerLayout, gates: Gates, model: IndexerModel | None) -> None:
    """Refuse what would make a DeepSeek-V4 read its pages of 64 as flat by a gluon kernel (aiter#5591).

    Raises:
        InstallError: it would, or may, as the model is not known.
    """
    if model is not None and model.family != "v4":
        return
    decision = layout.decision
    release = base_version(decision.caps.engine_release)
    if release is not None and release <= _V4_ASKS_NOTHING:
        return
    if gates.pages() or not gates.original() or decision.caps.platform != "rocm":
        return
    reasons = {reason.code: reason for reason in decision.verdict("aiter-flat").reasons}
    gluon = reasons.get("aiter.flat-reads-wrong") or reasons.get("aiter.source-unknown")
    if gluon is None and decision.caps.aiter_source is not None:
        return
    known = "DeepSeek-V4" if model is not None else "a model that is not known, and may be a DeepSeek-V4,"
    observed = "aiter's source is not known" if gluon is None else gluon.observed
    raise InstallError(
        f"{layout.row} would turn SGLang's gate off for {known} whose pages hold 64 keys in tiles whatever the gate"
        f" says: it would read them as flat, silently wrong (aiter#5591; {observed}). Leave SGLang as it is for a"
        " DeepSeek-V4; for any other model, say which: install(model=IndexerModel(...))"
    )


def _keep_v4_as_it_is() -> None:
    """Let DeepSeek-V4's modules take SGLang's own gate by value before it is replaced at its home."""
    for name in V4:
        try:
            find((name,), None)
        # One that does not import here runs no model here either.
        except Exception as error:  # noqa: BLE001 whatever it raises
            _log.debug("%s does not import: %s", name, error)


def summary(layout: IndexerLayout, *, kernels: bool = False) -> str:
    """Return the answer and why no better one, in one line: it comes before what SGLang says of its own gate."""
    better = layout.decision.better_rows()
    reasons = [f"{verdict.row}: {verdict.reasons[0]}" for verdict in better if verdict.out_of_reach is None]
    by = " by nsa_caps' kernels" if kernels else ""
    why = f"; not {reasons[0]}" if reasons else ""
    return f"nsa_caps: {layout.row}{by}, index pages of {layout.page_size}{why}".replace("\n", " ")


def uninstall(modules: Mapping[str, ModuleType] | None = None) -> tuple[Replacement, ...]:
    """Put back everything that `install` replaced, in modules that were loaded since too, and return what that was.

    Args:
        modules: as in `install`.
    """
    if not _installed:
        return ()
    gates, replaced = _installed.pop()
    undone = undo_all(replaced)
    return (*undone, *replace_all(restore_gates(loaded_modules("sglang", modules), gates)))
