"""Rows with one fault each, and sound ones: what a proof must refuse, with which words, and what it must not refuse.

    >>> from nsa_caps.testing.faults import VARIABLE, faulty_row
    >>> monkeypatch.setenv(VARIABLE, "hang-in-logits")
    >>> outcome = prove_best(caps, Request(), (faulty_row("hang-in-logits"), *ROWS))

The kernels are plain torch, `nsa_caps.testing.faulty_kernels`, and read the variable where they are imported. Importing
this imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsa_caps.policy.decision import find_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.capabilities.kept import Proven
    from nsa_caps.policy.rows import Row

__all__ = ["FAULTS", "SOUND", "VARIABLE", "Fault", "faulty_row"]

VARIABLE = "NSA_CAPS_TESTING_FAULT"
_KERNELS = "nsa_caps.testing.faulty_kernels"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row, and what a proof must say of it.

    Attributes:
        name: the fault's name.
        verdict: the verdict.
        step: the step in which it shows, as the reason has it.
        told: what the reason must name: a cause of `selfcheck.records.CAUSES` in its words, or how the process ended.
    """

    name: str
    verdict: Proven
    step: str
    told: str


_ORDER, _SCALES, _PAGE = "in another order", "scales are in another form", "another page is taken"
_DIALECT, _OFFSET, _OTHER = "the other fp8 dialect", "offsets are cut off", "no mismatch that this check knows"

FAULTS: tuple[Fault, ...] = (
    # They do not come back.
    Fault("hang-at-import", "timed-out", "loading the kernels", "did not end within"),
    Fault("hang-in-store", "timed-out", "store", "did not end within"),
    Fault("hang-in-logits", "timed-out", "logits", "did not end within"),
    Fault("stops-itself", "timed-out", "gather", "did not end within"),
    # They end their process.
    Fault("segfault-in-gather", "cannot-run", "gather", "killed by SIGSEGV"),
    Fault("abort-in-logits", "cannot-run", "logits", "killed by SIGABRT"),
    Fault("bus-error-in-store", "cannot-run", "store", "killed by SIGBUS"),
    Fault("division-by-zero", "cannot-run", "logits", "killed by SIGFPE"),
    Fault("illegal-instruction", "cannot-run", "store", "killed by SIGILL"),
    Fault("exit-0-in-store", "cannot-run", "store", "ended by itself with exit code 0"),
    Fault("exit-3-in-logits", "cannot-run", "logits", "ended by itself with exit code 3"),
    Fault("exit-at-import", "cannot-run", "loading the kernels", "ended by itself with exit code 0"),
    Fault("garbage-and-abort", "cannot-run", "logits", "killed by SIGABRT"),
    Fault("forged-verdict", "cannot-run", "store", "ended by itself with exit code 0"),
    Fault("closes-everything", "cannot-run", "gather", "exit code 1"),
    Fault("leaves-a-child", "cannot-run", "store", "ended by itself with exit code 0"),
    # They say that they cannot.
    Fault("raises-in-gather", "cannot-run", "gather", "no kernel for this GPU; caused by KeyError"),
    Fault("does-not-compile", "cannot-run", "store", "CompilationError"),
    Fault("import-error", "cannot-run", "loading its kernels", "ImportError"),
    Fault("no-logits", "cannot-run", "loading its kernels", "AttributeError"),
    # They come back, and are wrong.
    Fault("other-order", "wrong", "store", _ORDER),
    Fault("other-order-both-ways", "wrong", "store", _ORDER),
    Fault("reads-other-order", "wrong", "gather", _ORDER),
    Fault("scores-other-order", "wrong", "logits", _ORDER),
    Fault("doubled-scales", "wrong", "gather", _DIALECT),
    Fault("other-dialect", "wrong", "quantise_and_store", _DIALECT),
    Fault("doubled-scores", "wrong", "logits", _DIALECT),
    Fault("rounded-scales", "wrong", "store", _SCALES),
    Fault("scales-without-mantissa", "wrong", "store", _SCALES),
    Fault("page-higher", "wrong", "gather", _PAGE),
    Fault("column-before", "wrong", "gather", _PAGE),
    Fault("scores-page-lower", "wrong", "logits", _PAGE),
    Fault("cut-off-offsets", "wrong", "gather", _OFFSET),
    Fault("stale-gather", "wrong", "gather", _OTHER),
    Fault("stale-logits", "wrong", "logits", _OTHER),
    Fault("gather-wrong-at-times", "wrong", "gather", _OTHER),
    Fault("logits-wrong-at-times", "wrong", "logits", _OTHER),
    Fault("right-below-2048", "wrong", "logits", _OTHER),
    Fault("right-at-next-n-1", "wrong", "logits", _OTHER),
    Fault("wrong-without-clean", "wrong", "logits", _OTHER),
    Fault("no-minus-infinity", "wrong", "logits", _OTHER),
    Fault("nan-scores", "wrong", "logits", _OTHER),
    Fault("writes-whole-pages", "wrong", "logits", _OTHER),
    Fault("half-of-the-heads", "wrong", "logits", _OTHER),
    Fault("loses-the-last-token", "wrong", "gather", _OTHER),
    Fault("writes-more-rows", "wrong", "gather", "rows beyond the last token"),
    Fault("negative-slots-wrap", "wrong", "store", "bytes of no token"),
)  # fmt: skip

SOUND: Mapping[str, str] = {
    "none": "nothing is wrong with it",
    "prints-garbage": "it prints, at every call, what is no text and what looks like an answer",
    "slow": "it takes its time",
    "leaves-a-thread": "a thread of it never ends",
    "takes-the-signals": "it has handlers of its own for every signal, as compilers and profilers do",
    "rounds-a-little": "its scores are off by a part in ten thousand of the largest",
}


def faulty_row(name: str, like: str = "reference") -> Row:
    """Return a row of the table with kernels that have this fault.

    Args:
        name: of `FAULTS` or `SOUND`; the variable must name it, too, when the kernels are imported.
        like: the row whose order and requirements it has.
    """
    row = find_row(like)
    return replace(
        row,
        name=f"faulty-{name}",
        kernels=_KERNELS,
        logits_kernels=_KERNELS,
        summary=f"plain torch, with a fault for tests: {name}",
    )
