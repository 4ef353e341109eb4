"""The decision over changed sources of aiter, against what the changed code does: `pytest --aiter-checkout DIR`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa_caps import AotBundle, Capabilities, Device, Host, Package, Request, decide, probe
from nsa_caps.capabilities.switches import resolve
from nsa_caps.testing import machine

from .edited import CALLS, Edited, edited, truth
from .gates import RealMachine
from .mutations import MUTATIONS, Mutation
from .test_policy import lay_out_sources

if TYPE_CHECKING:
    from pathlib import Path

AOT, ESCAPE = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS", "AITER_USE_SYSTEM_TRITON"
MACHINES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("3.6.0", "gfx942", {}),
    ("3.8.0", "gfx950", {}),
    ("3.4.0", "gfx942", {}),
    ("3.8.0", "gfx942", {AOT: "1"}),
    ("3.8.0", "gfx942", {AOT: "true"}),
    ("3.8.0", "gfx1250", {}),
    ("3.8.0", "gfx1100", {}),
    ("3.5.1", "gfx942", {ESCAPE: "1"}),
    ("3.8.0", "gfx90a", {}),
    ("3.10.0", "gfx942", {}),
    ("3.5.0rc1", "gfx950", {ESCAPE: "1"}),
)


def read(folder: Path, checkout: Edited) -> Capabilities:
    """Return what the probes find on a machine with these sources."""
    host: Host = machine(folder / "machine", archs=("gfx942",), environ={"SGLANG_USE_AITER": "1"})
    lay_out_sources(folder / "machine" / "site", checkout)
    return probe(host)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: f"{each.kind}: {each.what}")
def test_no_row_is_met_that_the_changed_code_does_not_run(
    aiter_checkout: Path, tmp_path: Path, mutation: Mutation
) -> None:
    """A row is met only where the changed code runs it; what changes nothing costs no row."""
    checkout = edited(aiter_checkout, mutation.commit, mutation.edits)
    base = read(tmp_path / "changed", checkout)
    unchanged = read(tmp_path / "unchanged", Edited(aiter_checkout, mutation.commit))
    for triton, arch, environ in MACHINES:
        real = truth(checkout, RealMachine(triton, arch, frozenset(environ.items())))
        switches, _ = resolve({**environ, "SGLANG_USE_AITER": "1"}, "sglang")
        for row, call in CALLS.items():
            met = [
                decide(
                    caps.replace(
                        triton=Package("triton", "found", triton),
                        devices=(Device(0, arch, "test"),),
                        rocminfo_arch=arch,
                        switches=switches,
                        aot_bundle=AotBundle("aot", ()),
                    ),
                    Request(page_size=call.page_size),
                )
                .verdict(row)
                .verdict
                == "met"
                for caps in (base, unchanged)
            ]
            assert not met[0] or real[row] == "runs", (row, triton, arch, environ, real[row])
            if mutation.harmless:
                assert met[0] is met[1], (row, triton, arch, environ)
