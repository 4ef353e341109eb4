"""Fakes for tests of one's own wiring: any machine in a folder, any aiter source, NVIDIA's library without a GPU.

    >>> from nsa_caps.testing import machine
    >>> host = machine(tmp_path, archs=["gfx942"], triton="3.4.0", aiter="a6bb4993")
    >>> nsa_caps.decide(nsa_caps.probe(host)).chosen
    'aiter-token'

`nsa_caps.testing.strategies` has Hypothesis strategies and needs the extra `testing`; the rest needs nothing.
"""

from __future__ import annotations

from nsa_caps.testing.aiter_tree import GENERATIONS, AiterTreeError, write_aiter_tree
from nsa_caps.testing.machines import AOT_FOLDER, MachineError, lay_out_gpus, lay_out_packages, machine
from nsa_caps.testing.nvml import FakeNvml, FakeNvmlError

__all__ = [
    "AOT_FOLDER",
    "GENERATIONS",
    "AiterTreeError",
    "FakeNvml",
    "FakeNvmlError",
    "MachineError",
    "lay_out_gpus",
    "lay_out_packages",
    "machine",
    "write_aiter_tree",
]
