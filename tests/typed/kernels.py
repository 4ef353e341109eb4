"""Every module of kernels has the signatures that layouts call: mypy compares them. Never run.

A parameter renamed or reordered in one module, and not in the others, is a type error here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.kernels import aiter, deep_gemm, reference, reference_logits  # noqa: A004 no builtin is meant by it
from nsa_caps.kernels.portable import logits as portable_logits
from nsa_caps.kernels.portable import store_gather
from nsa_caps.testing import fake_aiter_kernels, fake_kernels

if TYPE_CHECKING:
    from nsa_caps.kernels.protocol import GatherStore, Logits

GATHER_STORE: tuple[GatherStore, ...] = (aiter, deep_gemm, store_gather, reference, fake_aiter_kernels, fake_kernels)
LOGITS: tuple[Logits, ...] = (aiter, deep_gemm, portable_logits, reference_logits, fake_aiter_kernels, fake_kernels)
