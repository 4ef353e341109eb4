"""Fakes for tests of one's own wiring: any machine in a folder, every layout on a laptop, a paged batch, any aiter.

    >>> from nsa_caps.testing import machine
    >>> host = machine(tmp_path, archs=["gfx942"], triton="3.4.0", aiter="a6bb4993")
    >>> nsa_caps.decide(nsa_caps.probe(host)).chosen
    'aiter-token'

`nsa_caps.testing.plugin` is a pytest plugin and `nsa_caps.testing.strategies` has Hypothesis strategies: both need the
extra `testing`. What is here needs nothing, but torch where a layout or a batch is used.
"""

from __future__ import annotations

from nsa_caps.testing.aiter_tree import GENERATIONS, AiterTreeError, write_aiter_tree
from nsa_caps.testing.layouts import PAGE_SIZES, every_layout, layout_id
from nsa_caps.testing.machines import AOT_FOLDER, MachineError, lay_out_gpus, lay_out_packages, machine
from nsa_caps.testing.named_machines import MACHINES, named_machine
from nsa_caps.testing.nvml import FakeNvml, FakeNvmlError
from nsa_caps.testing.paged_batch import BatchError, PagedBatch

__all__ = [
    "AOT_FOLDER",
    "GENERATIONS",
    "MACHINES",
    "PAGE_SIZES",
    "AiterTreeError",
    "BatchError",
    "FakeNvml",
    "FakeNvmlError",
    "MachineError",
    "PagedBatch",
    "every_layout",
    "lay_out_gpus",
    "lay_out_packages",
    "layout_id",
    "machine",
    "named_machine",
    "write_aiter_tree",
]
