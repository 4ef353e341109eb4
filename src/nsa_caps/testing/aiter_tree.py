"""Small source trees in which aiter's gates stand as a generation of aiter has them, and nothing else of aiter does.

A tree is written from the facts that its source shall show, so that any generation, also one that never was, is a
`dataclasses.replace` away:

    >>> from dataclasses import replace
    >>> later = replace(GENERATIONS["04907edc"], gluon_triton="3.7.0")

`GENERATIONS` holds what the real source shows at the commits with which its gates changed; the opt-in tests
(`pytest --aiter-checkout DIR`) hold it against them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nsa_caps.capabilities.aiter_digests import KERNELS
from nsa_caps.capabilities.aiter_history import GENERATIONS
from nsa_caps.errors import NsaCapsError
from nsa_caps.testing.aiter_logits import GFX1250_WAVES, lines, logits_module

if TYPE_CHECKING:
    import os

    from nsa_caps.capabilities.aiter_digests import KernelBody
    from nsa_caps.capabilities.records import AiterSource

__all__ = ["GENERATIONS", "AiterTreeError", "write_aiter_tree"]


class AiterTreeError(NsaCapsError, ValueError):
    """Facts that no source could show together; the message names the field."""


# What stands in the branch of the gate; without the kernels' own gate nothing of it does.
_GATE_FACTS = (
    "triton_comparison",
    "gluon_triton",
    "triton_gap",
    "aot_stops_jit",
    "aot_needs_gluon_triton",
    "arch_gate",
    "gluon_archs",
    "chunk_rule",
)


def write_aiter_tree(site: str | os.PathLike[str], source: AiterSource) -> AiterSource:
    """Write the package `aiter` into the folder `site`, its source showing exactly these facts.

    Only the files that decide are written, as an excerpt. Kernels are stand-ins for bodies of aiter's history, and
    known as such.

    Args:
        site: an import folder; made if it is not there.
        source: what the source shall show, without `location`.

    Returns:
        `source` with its `location`: what the probe `aiter_source` finds there.

    Raises:
        AiterTreeError: no source could show these facts together.
    """
    _check(source)
    package = Path(site) / "aiter"
    files = {
        "__init__.py": _package(source),
        "jit/core.py": lines("def compile_ops(*_, **__): ..."),
        str(source.logits_module): logits_module(source),
        "ops/cache.py": _cache(source),
        "ops/attention.py": _attention(source),
        "ops/triton/gluon/__init__.py": _gate(source),
        "jit/utils/chip_info.py": _CHIP_INFO,
        "jit/utils/build_targets.py": _arch_map(source),
        "utility/dtypes.py": _types(source),
        "ops/triton/utils/core.py": _CORE,
        "utility/triton/triton_metadata_redirect.py": _REDIRECT,
        **_ragged(source),
        **_flydsl(source),
    }
    if source.logits_preshuffle:
        files["ops/triton/gluon/pa_mqa_logits.py"] = _gluon_kernels(source)
        files["ops/triton/_triton_kernels/pa_mqa_logits.py"] = _TRITON + _kernel("plain", _body(source, "plain"))
        if source.package_imports_gluon:
            files["ops/triton/gluon/pa_decode_gluon.py"] = _CDNA
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf-8")
    return replace(source, location=str(package))


def _check(source: AiterSource) -> None:
    gated = source.logits_preshuffle is True
    for name in _GATE_FACTS:
        value = getattr(source, name)
        if (value is None) is gated:
            need = "a value where logits_preshuffle is True, and None elsewhere"
            raise AiterTreeError(f"{name} is {value!r}, needs {need}")
    always = ("logits_module", "logits_preshuffle", "known_archs", "fp8_archs", "package_imports_gluon", "trimmed_by")
    for name in always:
        if getattr(source, name) is None:
            raise AiterTreeError(f"{name} is None, needs a value: every source shows it")
    if source.gate_triton is None or source.gate_escape is None:
        raise AiterTreeError("gate_triton and gate_escape need a value: 'none' where there is none")
    if source.gate_triton == "none" and source.gate_escape != "none":
        raise AiterTreeError(f"gate_escape is {source.gate_escape!r} without a gate_triton to escape from")
    if gated and source.calls != ("tiles", "token", "flat"):
        raise AiterTreeError(f"calls is {source.calls!r}, needs all three: nothing else is written")
    if not source.imports:
        raise AiterTreeError(f"imports is {source.imports!r}, needs True: nothing that refuses is written")
    waves = tuple(GFX1250_WAVES) if "gfx1250" in (source.gluon_archs or ()) else (2, None)
    if source.gfx1250_waves not in waves:
        raise AiterTreeError(f"gfx1250_waves is {source.gfx1250_waves!r}, needs one of {waves} with these gluon_archs")


def _body(source: AiterSource, kernel: str) -> KernelBody | None:
    """Return the body of history that shows these facts of a kernel; None: it shall not be known."""
    archs = tuple(name.partition(":")[2] for name in source.compiled or () if name.startswith(f"{kernel}:"))
    if not archs:
        return None
    for body in KERNELS.values():
        gluon = (body.mfma, body.mfma_3d, body.wide) == (
            source.mfma,
            kernel in (source.mfma_3d or ()),
            kernel in (source.wide_offsets or ()),
        )
        if body.kernel == kernel and (kernel == "plain" or (gluon and body.archs == archs)):
            return body
    raise AiterTreeError(f"compiled, mfma, mfma_3d and wide_offsets name no {kernel} kernel of aiter's history")


def _package(source: AiterSource) -> str:
    """The package itself: all of it in the last branch, nothing in those that a variable leads into."""
    names = source.trimmed_by or ()
    whole = ("from .utility import dtypes", "from .ops.attention import *")
    if not names:
        return lines(*whole)
    flags = [f'{name} = os.getenv("{name}", "0") == "1"' for name in names]
    branches = [f"{'elif' if index else 'if'} {name}:\n    pass" for index, name in enumerate(names)]
    return lines("import os", *flags, *branches, "else:", *(f"    {line}" for line in whole))


_CORE = lines("import os", "this_dir = os.path.dirname(__file__)",
    'AITER_TRITON_CONFIGS_PATH = os.path.abspath(f"{this_dir}/../configs")')  # fmt: skip
_REDIRECT = lines("class AOTMetadataContext:", '    """A stand-in of nsa_caps.testing."""')
_TRITON = lines("import triton")
_CDNA = lines("def get_cdna_version():", "    return 3")


_CHIP_INFO = lines(
    "from build_targets import GFX_MAP",
    "def get_gfx():",
    '    return "the arch of a stand-in of nsa_caps.testing"',
    "def get_gfx_runtime():",
    '    return "the arch of a stand-in of nsa_caps.testing"',
)


def _arch_map(source: AiterSource) -> str:
    return lines(f"GFX_MAP = {dict(enumerate(('native', *(source.known_archs or ()))))!r}")


def _types(source: AiterSource) -> str:
    types = ", ".join(
        f'"{arch}": torch.float8_e4m3{"fnuz" if arch.startswith("gfx94") else "fn"}' for arch in source.fp8_archs or ()
    )
    return lines(
        "import torch",
        "from ..jit.utils.chip_info import get_gfx_runtime",
        f"defaultDtypes = {{{types}}}",
        "fp8 = defaultDtypes.get(get_gfx_runtime(), torch.uint8)",
    )


def _cache(source: AiterSource) -> str:
    store = (
        "indexer_k_quant_and_cache(k, kv_cache, slot_mapping, quant_block_size, scale_fmt",
        source.store_preshuffle,
    )
    gather = (
        "cp_gather_indexer_k_quant_cache(kv_cache, dst_k, dst_scale, block_table, cu_seq_lens",
        source.gather_preshuffle,
    )
    last = {True: ", preshuffle=False): ...", False: "): ..."}
    built = '@compile_ops("module_cache")'
    written = [f"{built}\ndef {start}{last[tiles]}" for start, tiles in (store, gather) if tiles is not None]
    fused = [each.partition("(")[2].rstrip(")") for each in source.takes or () if each.startswith(f"{_FUSED}(")]
    if _FUSED in (source.takes or ()):
        written.append(f"{built}\ndef {_FUSED}({', '.join(f'{name}=False' for name in fused)}): ...")
    return lines("from ..jit.core import compile_ops", *written)


_FUSED = "indexer_qk_rope_quant_and_cache"


def _ragged(source: AiterSource) -> dict[str, str]:
    """The prefill's logits: their files, as far as this aiter has them."""
    takes = source.takes or ()
    files = {}
    if "fp8_mqa_logits" in takes:
        clean = ", clean_logits=True" if "fp8_mqa_logits(clean_logits)" in takes else ""
        files["ops/triton/fp8_mqa_logits.py"] = lines(
            f"def fp8_mqa_logits(Q, KV, kv_scales, weights, cu_starts, cu_ends{clean}): ..."
        )
    return files


def _flydsl(source: AiterSource) -> dict[str, str]:
    """The module that asks for the package flydsl, where this aiter asks."""
    kernel, needs = "flydsl_fp8_mqa_logits", source.flydsl_needs or "none"
    has_kernel = kernel in (source.takes or ())
    if needs == "none" and not has_kernel and not source.imports_flydsl:
        return {}
    text = lines("from .utils import is_flydsl_available")
    compared = _FLYDSL_NEEDS.get(needs[: -len(needs.lstrip("=>"))])
    if compared is not None:
        text += f"{compared[0] % needs.lstrip('=>')}if is_flydsl_available():\n{compared[1]}"
    elif has_kernel:
        text += "if is_flydsl_available():\n"
    if has_kernel:
        text += f"    from .kernels.fp8_mqa_logits import {kernel}\n"
    looks = lines(
        "import importlib.util",
        "def is_flydsl_available() -> bool:",
        '    return importlib.util.find_spec("flydsl") is not None',
    )
    return {"ops/flydsl/__init__.py": text, "ops/flydsl/utils.py": looks}


_METADATA = """\
    try:
        installed_flydsl_version = version("flydsl")
    except PackageNotFoundError as exc:
        raise ImportError("flydsl has no metadata") from exc
"""
# By operator: what names the version, with its import, and what asks for it.
_FLYDSL_NEEDS = {
    ">=": (
        'from packaging.version import Version\n_MIN_FLYDSL_VERSION = Version("%s")\n',
        """\
    import flydsl as _flydsl
    installed_flydsl_version = getattr(_flydsl, "__version__", None)
    if installed_flydsl_version is None:
        raise ImportError("flydsl names no version")
    _base_version = Version(installed_flydsl_version.split("+")[0])
    if _base_version < _MIN_FLYDSL_VERSION:
        raise ImportError(installed_flydsl_version)
""",
    ),
    "===": (
        'from importlib.metadata import PackageNotFoundError, version\n_REQUIRED_FLYDSL_VERSION = "%s"\n',
        f"""\
{_METADATA}    if installed_flydsl_version != _REQUIRED_FLYDSL_VERSION:
        raise ImportError(installed_flydsl_version)
""",
    ),
}


def _attention(source: AiterSource) -> str:
    gluon = "from aiter.ops.triton.gluon.pa_decode_gluon import get_cdna_version"
    return lines(
        gluon if source.package_imports_gluon else None,
        "from .flydsl.utils import is_flydsl_available" if source.imports_flydsl else None,
        "from ..jit.core import compile_ops",
        '@compile_ops("module_attention")',
        "def pa(): ...",
    )


def _gate(source: AiterSource) -> str:
    if source.gate_triton == "none":
        return ""
    body: tuple[str, ...] = ("        raise RuntimeError(triton.__version__)",)
    if source.gate_escape != "none":
        variable = f'os.environ.get("{source.gate_escape}", "0")'
        body = (f"        if int({variable}):", "            pass", "        else:", *(f"    {line}" for line in body))
    return lines(
        "import os",
        "from packaging.version import Version",
        "try:",
        "    import triton",
        '    _triton_version = Version(triton.__version__.split("+")[0])',
        f'    _min_version = Version("{source.gate_triton}")',
        "    if _triton_version < _min_version:",
        *body,
        "except ImportError:",
        "    pass",
    )


def _gluon_kernels(source: AiterSource) -> str:
    return _TRITON + "".join(_kernel(kernel, _body(source, kernel)) for kernel in ("base", "preshuffle"))


def _kernel(kernel: str, body: KernelBody | None) -> str:
    """A stand-in for a kernel of history: it says which, and nothing of aiter's."""
    name = {
        "plain": "_deepgemm_fp8_paged_mqa_logits",
        "base": "_gluon_deepgemm_fp8_paged_mqa_logits",
        "preshuffle": "_gluon_deepgemm_fp8_paged_mqa_logits_preshuffle",
    }[kernel]
    parameters = "q, KV_buffer, KVBlockSize=1" if kernel == "plain" else "q, KV_buffer"
    return lines(
        "@triton.jit",
        f"def {name}({parameters}):",
        f'    return "a stand-in of nsa_caps.testing for {body.since if body else "no body of history"}"',
    )
