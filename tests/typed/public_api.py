"""The public interface as an engine uses it, for type checkers alone: every `assert_type` is a promise. Never run.

mypy checks it with everything else; `pytest tests/typed --pyright` has pyright check it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor
from typing_extensions import assert_type

import nsa_caps
from nsa_caps import (
    Capabilities,
    Change,
    Decision,
    Device,
    Host,
    IndexerLayout,
    Note,
    Package,
    PageFormat,
    Probe,
    Reason,
    Request,
    Row,
    RowVerdict,
    Switch,
    page_table,
    selfcheck,
)
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from pathlib import Path


def at_start_up() -> None:
    """Probe, decide, select."""
    caps = nsa_caps.probe(engine="sglang")
    assert_type(caps, Capabilities)
    assert_type(nsa_caps.decide(caps), Decision)
    assert_type(nsa_caps.decide(caps, Request(heads=32), nsa_caps.ROWS).chosen, str | None)
    assert_type(nsa_caps.select_indexer_layout(caps), IndexerLayout)
    assert_type(nsa_caps.get_indexer_layout(engine="vllm", request=Request()), IndexerLayout)
    nsa_caps.get_indexer_layout.cache_clear()
    assert_type(nsa_caps.ROWS, tuple[Row, ...])
    assert_type(nsa_caps.__version__, str)


def a_decision(decision: Decision) -> None:
    """Verdicts, reasons and fixes are data."""
    assert_type(decision.verdicts, tuple[RowVerdict, ...])
    assert_type(decision.better_rows(), tuple[RowVerdict, ...])
    verdict = decision.verdict("aiter-preshuffle")
    assert_type(verdict.verdict, Literal["met", "unmet", "unknown"])
    assert_type(verdict.reasons, tuple[Reason, ...])
    assert_type(decision.smallest_fix("portable"), list[Reason] | None)
    assert_type(decision.explain(), str)
    for reason in verdict.reasons:
        assert_type((reason.code, reason.observed, reason.required), tuple[str, str, str])
        assert_type((reason.source, reason.fix), tuple[str | None, str | None])
        assert_type(reason.changes, tuple[Change, ...])
        caps, request = reason.changes[0].apply(decision.caps, decision.request)
        assert_type(caps, Capabilities)
        assert_type(request, Request)


def a_layout(layout: IndexerLayout, cache: Tensor, ints: Tensor, floats: Tensor, metadata: object) -> None:
    """Sizes, bytes and kernels of one layout."""
    assert_type((layout.page_size, layout.model_page_size, layout.preshuffle), tuple[int, int, bool])
    assert_type(layout.format, PageFormat)
    assert_type(layout.logits_options, Mapping[str, Any])
    assert_type((layout.fingerprint, layout.format.digest), tuple[str, bytes])
    table = layout.page_table(metadata)
    assert_type(table, Tensor)
    keys, scales = layout.gather(cache, table, ints, total_tokens=300, out=(cache, floats), checked=True)
    assert_type((keys, scales), tuple[Tensor, Tensor])
    layout.store(cache, ints, keys, scales)
    layout.quantise_and_store(cache, ints, floats, checked=True)
    assert_type(layout.logits(keys, cache, floats, ints, table, 4096, out=floats), Tensor)
    assert_type(layout.to_dict(), dict[str, Any])
    assert_type(page_table.from_token_table(ints, 64), Tensor)


def a_machine(caps: Capabilities) -> None:
    """Facts, and JSON both ways."""
    assert_type(caps.devices, tuple[Device, ...] | None)
    assert_type(caps.archs, tuple[str, ...] | None)
    assert_type(caps.triton, Package)
    assert_type(caps.triton.state, Literal["found", "missing", "broken", "impostor", "unknown"])
    assert_type(caps.switches, Mapping[str, Switch])
    assert_type(caps.switches["use_aiter"].value, bool | str | None)
    assert_type(caps.notes, tuple[Note, ...])
    assert_type(Capabilities.from_json(caps.to_json()), Capabilities)
    assert_type(Capabilities.from_dict(caps.to_dict()), Capabilities)
    assert_type(caps.replace(platform="rocm"), Capabilities)


def a_page(left: PageFormat, right: PageFormat) -> None:
    """Offsets, and differences."""
    assert_type(left.key_offset(0, 1), int)
    assert_type([each.effect for each in nsa_caps.difference(left, right)], list[str])
    assert_type(PageFormat.from_dict(left.to_dict()), PageFormat)


def a_probe_of_ones_own(host: Host) -> Mapping[str, Any]:
    """A function with this signature is a `Probe`."""
    assert_type(host.read_text("/etc/hostname"), str | None)
    return {"extras": {"host": host.root}}


MINE: Probe = a_probe_of_ones_own
PROVE: Callable[..., selfcheck.SelfCheck] = selfcheck.self_check


def a_fake(folder: Path) -> None:
    """A machine in a folder is a host."""
    host = machine(folder, archs=["gfx942"], triton="3.6.0", aiter="04907edc", environ={"SGLANG_USE_AITER": "1"})
    assert_type(host, Host)
    assert_type(nsa_caps.probe(host, probes=[MINE], plugins=False), Capabilities)


def what_is_refused(caps: Capabilities, layout: IndexerLayout) -> None:
    """What would fail, or mislead, at run time is an error to the type checker: an ignore too many is one as well."""
    PageFormat(64)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    PageFormat(page_size=64, order="rows")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Package("triton", "lost")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    caps.platform = "cuda"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    layout.page_size = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    nsa_caps.probe("sglang")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    nsa_caps.get_indexer_layout("sglang")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    nsa_caps.get_indexer_layout(engine="sgl")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    nsa_caps.decide(caps, "aiter-flat")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    nsa_caps.agree_on(layout)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    selfcheck.self_chek  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018 only looked up
