"""Kernels of plain torch with one fault each, named by `NSA_CAPS_TESTING_FAULT` when this is imported.

`nsa_caps.testing.faults` lists the faults and what a proof must say of each. Some end or hang the process: import this
where that is wanted.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from nsa_caps.kernels import reference, reference_logits
from nsa_caps.testing.faults import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["gather", "logits", "quantise_and_store", "store"]

_FAULT = os.environ.get(VARIABLE, "none")
_CUT = 2**17


def _hang() -> None:
    # In C, with the interpreter's lock held: no signal handler of Python's runs, as in a driver that waits for a GPU.
    ctypes.PyDLL(None).pause()


def _die(number: signal.Signals) -> None:
    # As a fault of the processor does it: to this thread, whatever Python has made of the signal.
    os.kill(os.getpid(), number)
    _hang()


def _print_garbage() -> None:
    for descriptor in (1, 2):
        os.write(
            descriptor, b"\xff\xfe\x00\x1b[31m\n" * 2_000 + b'0123456789abcdef done {"check": {"verdict": "proven"}}\n'
        )


def _print_garbage_and_abort() -> None:
    _print_garbage()
    os.abort()


def _forge() -> None:
    _print_garbage()
    sys.stdout.write('done {"check": {"row": "faulty", "verdict": "proven"}, "transient": false}\n')
    sys.stdout.flush()
    os._exit(0)


def _leave_a_child() -> None:
    # It holds whatever pipes it was given, long after its parent.
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
    os._exit(0)


def _raise(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


def _leave_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(600,)).start()


def _take_the_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


class CompilationError(Exception):
    """What Triton calls it."""


# What is done before a kernel does right.
_BEFORE: Mapping[str, Mapping[str, Callable[[], object]]] = {
    "import": {
        "hang-at-import": _hang,
        "exit-at-import": lambda: os._exit(0),
        "import-error": lambda: _raise(ImportError("libamdhip64.so.7: cannot open shared object file")),
        "leaves-a-thread": _leave_a_thread,
        "takes-the-signals": _take_the_signals,
    },
    "store": {
        "hang-in-store": _hang,
        "bus-error-in-store": lambda: _die(signal.SIGBUS),
        "illegal-instruction": lambda: _die(signal.SIGILL),
        "exit-0-in-store": lambda: os._exit(0),
        "forged-verdict": _forge,
        "leaves-a-child": _leave_a_child,
        "does-not-compile": lambda: _raise(CompilationError("at 12:8: type mismatch")),
        "prints-garbage": _print_garbage,
        "slow": lambda: time.sleep(0.1),
    },
    "gather": {
        "stops-itself": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "segfault-in-gather": lambda: ctypes.string_at(0),
        "closes-everything": lambda: os.closerange(3, 256),
        "raises-in-gather": lambda: _raise(RuntimeError("no kernel for this GPU"), KeyError("gfx90a")),
        "prints-garbage": _print_garbage,
    },
    "logits": {
        "hang-in-logits": _hang,
        "abort-in-logits": os.abort,
        "division-by-zero": lambda: _die(signal.SIGFPE),
        "exit-3-in-logits": lambda: sys.exit(3),
        "garbage-and-abort": _print_garbage_and_abort,
        "prints-garbage": _print_garbage,
    },
}
_calls: dict[str, int] = {}
_first: dict[Any, Any] = {}


def _before(kernel: str) -> None:
    _BEFORE[kernel].get(_FAULT, lambda: None)()


def _at_times(kernel: str) -> bool:
    """Return whether this is the second call, the fourth, and so on."""
    _calls[kernel] = _calls.get(kernel, 0) + 1
    return _calls[kernel] % 2 == 0


def _other_order(fmt: PageFormat) -> PageFormat:
    return replace(fmt, order="flat" if fmt.order == "tiles" else "tiles")


def store(
    cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, fmt: PageFormat, checked: bool = False
) -> None:
    """Store, with the fault."""
    _before("store")
    if _FAULT in ("other-order", "other-order-both-ways"):
        fmt = _other_order(fmt)
    elif _FAULT == "rounded-scales":
        scales = reference.round_up_to_power_of_two(scales)
    elif _FAULT == "scales-without-mantissa":
        scales = (scales.view(torch.int32) & 0x7F800000).view(torch.float32)
    elif _FAULT == "negative-slots-wrap":
        slots = torch.where(slots < 0, slots % (cache.shape[0] * fmt.page_size), slots)
    reference.store(cache, slots, keys, scales, fmt=fmt, checked=checked)


def quantise_and_store(cache: Tensor, slots: Tensor, keys: Tensor, *, fmt: PageFormat, checked: bool = False) -> None:
    """Quantise and store, with the fault."""
    if _FAULT == "other-dialect":
        fmt = replace(fmt, dialect="e4m3fn" if fmt.dialect == "e4m3fnuz" else "e4m3fnuz")
    reference.quantise_and_store(cache, slots, keys, fmt=fmt, checked=checked)


def gather(
    cache: Tensor,
    page_table: Tensor,
    cu_seq_lens: Tensor,
    *,
    total_tokens: int,
    out: tuple[Tensor, Tensor] | None = None,
    fmt: PageFormat,
    checked: bool = False,
) -> tuple[Tensor, Tensor]:
    """Gather, with the fault."""
    _before("gather")
    if _FAULT in ("reads-other-order", "other-order-both-ways"):
        fmt = _other_order(fmt)
    elif _FAULT == "page-higher":
        page_table = page_table + 1
    elif _FAULT == "column-before":
        page_table = page_table.roll(1, dims=1)
    elif _FAULT == "cut-off-offsets":
        cache = torch.where(torch.arange(cache.numel()) < _CUT, cache.view(-1), 0).view(cache.shape)
    keys, scales = reference.gather(
        cache, page_table, cu_seq_lens, total_tokens=total_tokens, out=out, fmt=fmt, checked=checked
    )
    _spoil_gathered(keys.view(torch.uint8), scales, total_tokens)
    return keys, scales


def _spoil_gathered(keys: Tensor, scales: Tensor, count: int) -> None:
    if _FAULT == "doubled-scales":
        scales[:count] *= 2
    elif _FAULT == "stale-gather":
        stale = _first.setdefault(count, (keys.clone(), scales.clone()))
        keys[:count], scales[:count] = stale[0][:count], stale[1][:count]
    elif _FAULT == "gather-wrong-at-times" and _at_times("gather"):
        keys[count // 2] ^= 0x40
    elif _FAULT == "loses-the-last-token":
        keys[count - 1] = 0
    elif _FAULT == "writes-more-rows":
        scales[-1:] = 0


def logits(
    q: Tensor,
    cache: Tensor,
    weights: Tensor,
    context_lens: Tensor,
    page_table: Tensor,
    max_model_len: int,
    *,
    fmt: PageFormat,
    out: Tensor | None = None,
    clean: bool = True,
) -> Tensor:
    """Score, with the fault."""
    _before("logits")
    if _FAULT == "scores-other-order":
        fmt = _other_order(fmt)
    elif _FAULT == "scores-page-lower":
        page_table = page_table - 1
    elif _FAULT == "half-of-the-heads":
        weights = weights.clone()
        weights[:, weights.shape[1] // 2 :] = 0
    scores = reference_logits.logits(
        q, cache, weights, context_lens, page_table, max_model_len, fmt=fmt, out=out, clean=clean
    )
    _spoil_scores(scores, q.shape[1])
    if _FAULT == "wrong-without-clean" and not clean:
        scores[0, 4000] = 0
    return scores


def _spoil_scores(scores: Tensor, next_n: int) -> None:
    finite = scores.isfinite()
    if _FAULT == "doubled-scores":
        scores *= 2
    elif _FAULT == "stale-logits":
        scores.copy_(_first.setdefault(scores.shape, scores.clone()))
    elif _FAULT == "logits-wrong-at-times" and _at_times("logits"):
        scores[0, 7] = 1e6
    elif _FAULT == "right-below-2048":
        scores[:, 2048:] = torch.where(finite[:, 2048:], 0, scores[:, 2048:])
    elif _FAULT == "right-at-next-n-1" and next_n > 1:
        scores[1::next_n] = scores[::next_n]
    elif _FAULT == "no-minus-infinity":
        scores.nan_to_num_(neginf=0.0)
    elif _FAULT == "nan-scores":
        scores[0, 77] = torch.nan
    elif _FAULT == "writes-whole-pages":
        # To the end of the page in which the longest context ends, as aiter's preshuffle kernel does.
        start = (3 * next_n - 1) * scores.shape[1]
        scores.view(-1)[start + 4810 : start + 4864] = -torch.inf
    elif _FAULT == "rounds-a-little":
        scores += scores.nan_to_num(neginf=0.0).abs().amax(dim=1, keepdim=True) * 1e-4


_before("import")
if _FAULT == "no-logits":
    del logits
