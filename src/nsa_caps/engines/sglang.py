"""SGLang's indexer (0.5.12 to 0.5.23) on this library's answer.

`install()` puts it into a running SGLang; the functions below are for an SGLang of one's own, each in the place and the
shape of SGLang's. Nothing of SGLang is imported before `install`.
"""

from __future__ import annotations

import importlib
import sys
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from nsa_caps.capabilities.own_path import own_path
from nsa_caps.errors import NsaCapsError
from nsa_caps.layout.cached import get_indexer_layout
from nsa_caps.layout.layout import NoUsableLayoutError, select_indexer_layout
from nsa_caps.policy.request import Request, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from torch import Tensor

    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.layout.layout import IndexerLayout

__all__ = [
    "ROWS",
    "InstallError",
    "Replacement",
    "aiter_can_use_preshuffle_paged_mqa",
    "gather",
    "indexer_layout",
    "install",
    "page_size",
    "rows",
    "store",
    "uninstall",
]

ROWS = ("aiter-preshuffle", "aiter-token", "deepgemm")
"""The rows that SGLang can run, read in 0.5.12 and 0.5.23.

On ROCm its indexer calls aiter's logits kernel whatever the switches say, and its pool asserts pages of 1 wherever they
are not tiled, so that `aiter-flat` and `portable` have no way in; elsewhere it asserts flat pages of 64 for DeepGEMM.
"""

_POOLED_ROWS = ("aiter-preshuffle", "deepgemm")
_GATE = "aiter_can_use_preshuffle_paged_mqa"
# What SGLang's modules keep of the gate's answer when they are imported.
_KEPT = "_use_aiter_preshuffle"
# Its home since 0.5.13, and that of 0.5.12; where 0.5.13 and later still have the second, it re-exports the first.
_HOMES = ("sglang.srt.layers.attention.dsa.utils", "sglang.srt.layers.attention.nsa.utils")


class InstallError(NsaCapsError, RuntimeError):
    """SGLang could not be made to follow the layout; nothing was replaced."""


class Replacement(NamedTuple):
    """One name of SGLang's that `install` replaced.

    Attributes:
        owner: the module or class.
        name: the name in it.
        before: what it was.
        after: what it is now.
    """

    owner: Any
    name: str
    before: object
    after: object

    def __str__(self) -> str:
        """Return the place, and both values where they are no functions."""
        owner = self.owner
        place = f"{owner.__module__}.{owner.__qualname__}" if isinstance(owner, type) else owner.__name__
        values = f": {self.before} -> {self.after}" if isinstance(self.after, bool) else ""
        return f"{place}.{self.name}{values}"


class _Installation(NamedTuple):
    original: Callable[[], bool]
    gate: Callable[[], bool]
    replaced: tuple[Replacement, ...]


# One at most.
_installed: list[_Installation] = []


def rows(index_kpool: int = 1) -> tuple[str, ...]:
    """Return the rows that SGLang can run: pooled index keys (0.5.23, GLM-5.3) have no path on pages of one token."""
    return ROWS if index_kpool == 1 else _POOLED_ROWS


def indexer_layout(
    user_page_size: int | None = None, index_kpool: int = 1, *, heads: int = 64, caps: Capabilities | None = None
) -> IndexerLayout:
    """Return the layout, limited to what SGLang can run; decided once a process for the same arguments.

    Args:
        user_page_size: tokens a page of the KV cache, given by the user; None: the best row's own.
        index_kpool: tokens that share one index key.
        heads: the model's `index_n_heads`.
        caps: the machine, from `nsa_caps.probe`; None: this one.

    Raises:
        NoUsableLayoutError: SGLang can run nothing here, or not with that page size; it carries every reason.
        RequestError: the page size is no multiple of `index_kpool`.
    """
    size = None
    if user_page_size is not None:
        size, rest = divmod(user_page_size, max(index_kpool, 1))
        if rest:
            needed = f"a multiple of index_kpool = {index_kpool}"
            raise RequestError(f"page_size is {user_page_size}, needs {needed}")
    request = Request(heads=heads, index_kpool=index_kpool, page_size=size, rows=rows(index_kpool))
    return (
        get_indexer_layout(engine="sglang", request=request) if caps is None else select_indexer_layout(caps, request)
    )


def aiter_can_use_preshuffle_paged_mqa(caps: Capabilities | None = None) -> bool:
    """Return whether aiter's tiled pages can be used: `dsa.utils`' function (`nsa.utils`' in 0.5.12; sglang#25205).

    False also where SGLang can run nothing at all, as SGLang's own says; `page_size` raises there.

    Args:
        caps: the machine, from `nsa_caps.probe`; None: this one, asked once.
    """
    try:
        return indexer_layout(caps=caps).preshuffle
    except NoUsableLayoutError:
        return False


def page_size(user_page_size: int | None = None, index_kpool: int = 1, *, caps: Capabilities | None = None) -> int:
    """Return the page size of the KV cache, for SGLang's argument resolution.

    Args:
        user_page_size: `--page-size`, where the user gave one: honoured or refused. SGLang itself replaces it.
        index_kpool: tokens that share one index key.
        caps: as in `indexer_layout`.

    Returns:
        Tokens a page: what SGLang calls `page_size`, `index_kpool` times the index keys of a page. On a vendor's GPUs
        on which SGLang has a path of its own (`nsa_caps.capabilities.own_path`) the page of that path.

    Raises:
        NoUsableLayoutError: as `indexer_layout` raises it, before a cache is allocated.
        RequestError: the page size is no multiple of `index_kpool`, or with pooled keys not 64 of them.
    """
    try:
        layout = indexer_layout(user_page_size, index_kpool, caps=caps)
    except NoUsableLayoutError as error:
        own = own_path(error.decision.caps)
        if own is None:
            raise
        return own.page_size * index_kpool if user_page_size is None else user_page_size
    # `dsa_indexer_kpool` asserts it at the first decode.
    if index_kpool > 1 and layout.page_size != 64:
        raise RequestError(f"page_size is {user_page_size}, needs {64 * index_kpool}: 64 index keys a page")
    return layout.model_page_size


def gather(
    pool: Any,
    buf: Tensor,
    page_indices: Tensor,
    seq_len_tensor: Tensor,
    seq_len_sum: int,
    max_seq_len: int,  # noqa: ARG001 SGLang's signature; no kernel here needs it
    *,
    layout: IndexerLayout | None = None,
) -> tuple[Tensor, Tensor]:
    """Read index keys and scales out of their pages: `GetKAndS.execute`.

    Args:
        pool: SGLang's token-to-KV pool, asked for its page size only.
        buf: uint8 `[pages, page_bytes]`.
        page_indices: int32 or int64 `[batch, max_pages]`.
        seq_len_tensor: int32 or int64 `[batch]`.
        seq_len_sum: the sum of these, known on the host.
        max_seq_len: not looked at.
        layout: None: this process's, for the pool's page size.

    Returns:
        uint8 `[seq_len_sum, head_dim]`, the fp8 keys, and uint8 `[seq_len_sum, 4]`, their fp32 scales.

    Raises:
        NoUsableLayoutError: there is no layout for the pool's page size.
        KernelLoadError: the row's kernels cannot be loaded.
        KernelArgumentError: an argument does not fit; nothing was launched.
    """
    layout = _of_pool(pool) if layout is None else layout
    cu_seq_lens = seq_len_tensor.new_zeros(seq_len_tensor.shape[0] + 1)
    cu_seq_lens[1:] = seq_len_tensor.cumsum(0)
    keys, scales = layout.gather(buf, page_indices.int(), cu_seq_lens.int(), total_tokens=seq_len_sum)
    return keys.view(buf.dtype), scales.view(buf.dtype).view(-1, 4)


def store(
    pool: Any,
    buf: Tensor,
    loc: Tensor,
    index_k: Tensor,
    index_k_scale: Tensor,
    *,
    layout: IndexerLayout | None = None,
) -> None:
    """Write quantised index keys and scales into their slots: `SetKAndS.execute`.

    Args:
        pool: as in `gather`.
        buf: as in `gather`.
        loc: int32 or int64 `[tokens]`: page x page size + slot in the page; negative ones are skipped.
        index_k: fp8 `[tokens, head_dim]`.
        index_k_scale: float32 `[tokens]` or `[tokens, 1]`.
        layout: as in `gather`.

    Raises:
        NoUsableLayoutError: there is no layout for the pool's page size.
        KernelLoadError: the row's kernels cannot be loaded.
        KernelArgumentError: an argument does not fit; nothing was launched.
    """
    layout = _of_pool(pool) if layout is None else layout
    layout.store(buf, loc.long().contiguous(), index_k.contiguous(), index_k_scale.reshape(-1).contiguous())


def _of_pool(pool: Any) -> IndexerLayout:
    index_kpool = getattr(pool, "index_kpool", 1)
    # 0.5.12 pools nothing and has the one page size.
    return indexer_layout(getattr(pool, "index_page_size", pool.page_size) * index_kpool, index_kpool)


def install(
    layout: IndexerLayout | None = None, *, kernels: bool = False, modules: Mapping[str, ModuleType] | None = None
) -> tuple[Replacement, ...]:
    """Make a running SGLang follow one layout; call it in every process, before SGLang resolves its arguments.

    Replaces the gate where it is defined, wherever a loaded module has it by value, and what loaded modules kept of its
    answer. An earlier `install` is undone first.

    Args:
        layout: None: `indexer_layout()`. Give `indexer_layout(heads=32)` for a GLM-5, say.
        kernels: also replace `GetKAndS.execute` and `SetKAndS.execute`, by the layout's gather and store.
        modules: the loaded modules; None: `sys.modules`, into which SGLang's module with the gate is imported first.

    Returns:
        What was replaced; print it.

    Raises:
        NoUsableLayoutError: SGLang can run nothing here.
        InstallError: there is no SGLang with this gate, it cannot run the layout's row, or its own switches bar tiles.
    """
    layout = indexer_layout() if layout is None else layout
    runs = rows(layout.decision.request.index_kpool)
    if layout.row not in runs:
        raise InstallError(f"SGLang cannot run {layout.row}; it runs {', '.join(runs)}: take indexer_layout()")
    if modules is None:
        _import_home()
    uninstall(modules)
    loaded = _sglang_modules(modules)
    original = _original_gate(loaded)
    if layout.preshuffle and not original():
        raise InstallError(
            f"this machine takes {layout.row}, but by SGLang's own switches there are no tiles, and its store follows"
            " those: set SGLANG_USE_AITER=1 itself, and unset SGLANG_DSA_HIP_DISABLE_PRESHUFFLE"
        )

    def gate() -> bool:
        return layout.preshuffle

    gate.__name__ = gate.__qualname__ = _GATE
    found = _gates(loaded, original, gate)
    if kernels:
        found += _executes(loaded, layout)
    replaced = tuple(map(_replace, found))
    _installed.append(_Installation(original, gate, replaced))
    return replaced


def uninstall(modules: Mapping[str, ModuleType] | None = None) -> tuple[Replacement, ...]:
    """Put back everything that `install` replaced, in modules that were loaded since too, and return what that was.

    Args:
        modules: as in `install`.
    """
    if not _installed:
        return ()
    original, gate, replaced = _installed.pop()
    undone = [_replace(Replacement(each.owner, each.name, each.after, each.before)) for each in replaced]
    return (*undone, *map(_replace, _gates(_sglang_modules(modules), gate, original)))


def _replace(each: Replacement) -> Replacement:
    setattr(each.owner, each.name, each.after)
    return each


def _sglang_modules(modules: Mapping[str, ModuleType] | None) -> list[ModuleType]:
    # A copy, as another thread may import. None stands for a module that must not be imported.
    named = dict(sys.modules if modules is None else modules)
    return [module for name, module in named.items() if name.startswith("sglang.") and isinstance(module, ModuleType)]


def _import_home() -> None:
    for home in _HOMES:
        try:
            importlib.import_module(home)
        except ModuleNotFoundError as error:
            # A home that is there and fails to import another module is the cause to tell.
            if not f"{home}.".startswith(f"{error.name}."):
                raise
        else:
            return


def _original_gate(loaded: list[ModuleType]) -> Callable[[], bool]:
    for module in loaded:
        if module.__name__ in _HOMES and _GATE in vars(module):
            original: Callable[[], bool] = vars(module)[_GATE]
            return original
    raise InstallError(
        f"no SGLang with {_GATE} is here: it is in 0.5.12 and later, and was looked for in {' and '.join(_HOMES)}"
    )


def _gates(loaded: list[ModuleType], before: Callable[[], bool], after: Callable[[], bool]) -> list[Replacement]:
    """Return what must be replaced for one gate to stand wherever another does."""
    here = [module for module in loaded if vars(module).get(_GATE) is before]
    kept = [module for module in here if vars(module).get(_KEPT, after()) is not after()]
    return [Replacement(module, _GATE, before, after) for module in here] + [
        Replacement(module, _KEPT, vars(module)[_KEPT], after()) for module in kept
    ]


def _executes(loaded: list[ModuleType], layout: IndexerLayout) -> list[Replacement]:
    ours: tuple[tuple[str, Callable[..., object]], ...] = (("GetKAndS", gather), ("SetKAndS", store))
    return [
        Replacement(owner, "execute", vars(owner)["execute"], staticmethod(partial(function, layout=layout)))
        for module in loaded
        for name, function in ours
        if (owner := vars(module).get(name)) is not None and owner.__module__ == module.__name__
    ]
