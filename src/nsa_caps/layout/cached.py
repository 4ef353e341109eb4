"""One layout per process and engine: `get_indexer_layout`."""

from __future__ import annotations

import os
from threading import RLock
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from nsa_caps.base.serial import shortened
from nsa_caps.capabilities.switches import ENGINES, UnknownEngineError
from nsa_caps.errors import NsaCapsError
from nsa_caps.layout.layout import select_indexer_layout
from nsa_caps.layout.log import log_layout
from nsa_caps.layout.row_table import row_table
from nsa_caps.policy.request import Request, RequestError
from nsa_caps.probes.probe import probe
from nsa_caps.probes.timeout import is_within_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsa_caps.capabilities.engines import EngineName
    from nsa_caps.layout.layout import IndexerLayout
    from nsa_caps.selfcheck.proof import Proof

__all__ = ["CircularQuestionError", "get_indexer_layout", "row_table"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
# Engine, request, and how the row is proven.
_Key: TypeAlias = "tuple[str | None, Request | None, bool | Proof]"


class CircularQuestionError(NsaCapsError, RuntimeError):
    """A probe or a row asked for the layout that it is asked about; it may ask `decide` of what it was given."""


class _OncePerEngine:
    """The layouts of this process, by engine and request."""

    def __init__(self) -> None:
        self._renew()
        # A child may see other GPUs than its parent, and a lock that another thread held at the fork would never open.
        if hasattr(os, "register_at_fork"):  # Windows has no forks
            os.register_at_fork(after_in_child=self._renew)

    def clear(self) -> None:
        """Forget every decision, so that the next call probes again."""
        with self._lock:
            self.layouts.clear()

    def _renew(self) -> None:
        self.layouts: dict[_Key, IndexerLayout] = {}
        self._lock = RLock()

    def decide(self, engine: EngineName | None, request: Request | None, prove: bool | Proof) -> IndexerLayout:
        """Return the layout, decided by the first who asks."""
        _check(engine, request, prove)
        if is_within_call():
            # It would wait for a lock that whoever waits for it holds.
            raise CircularQuestionError("a third party's probe or row asks for the layout while it is asked about one")
        with self._lock:
            layout = self.layouts.get((engine, request, prove))
            if layout is None:
                caps, rows = row_table(probe(engine=engine))
                if prove:
                    from nsa_caps.selfcheck.prove import prove_best  # noqa: PLC0415 few start-ups prove

                    proof = None if prove is True else prove
                    caps = prove_best(caps, request or Request(), rows, proof).caps
                decided = select_indexer_layout(caps, request, rows)
                # A signal handler may have asked meanwhile, or somebody by the engine's name: all get one object.
                layout = self.layouts.setdefault((decided.decision.caps.engine, request, prove), decided)
                self.layouts[engine, request, prove] = layout
                if layout is decided:
                    log_layout(layout)
            return layout


def _check(engine: object, request: object, prove: object) -> None:
    """Refuse what is no question, in words of ours.

    Raises:
        UnknownEngineError: the engine is no text.
        RequestError: the request is none, or what is to be proven is neither a truth value nor a `Proof`.
    """
    if not isinstance(engine, (str, type(None))):
        raise UnknownEngineError(f"engine is {shortened(engine)}, needs one of {', '.join(ENGINES)}, or None")
    if not isinstance(request, (Request, type(None))):
        raise RequestError(f"request is {shortened(request)}, needs a Request, or None")
    if not isinstance(prove, bool):
        from nsa_caps.selfcheck.proof import Proof  # noqa: PLC0415 as above

        if not isinstance(prove, Proof):
            raise RequestError(f"prove is {shortened(prove)}, needs True, False or a Proof")


_CACHE = _OncePerEngine()


class _Cached(Protocol[P, R_co]):
    """A function that remembers what it returned."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return what was returned before, or decide."""

    def cache_clear(self) -> None:
        """Forget every decision, so that the next call probes again."""


def _with_cache_clear(function: Callable[P, R_co]) -> _Cached[P, R_co]:
    """Return the function itself, with `cache_clear`: `help()` and engines find a function."""
    cached = cast("_Cached[P, R_co]", function)
    cached.cache_clear = _CACHE.clear  # type: ignore[method-assign]  # this is where it comes from
    return cached


@_with_cache_clear
def get_indexer_layout(
    *, engine: EngineName | None = None, request: Request | None = None, prove: bool | Proof = False
) -> IndexerLayout:
    """Return the layout of this process for an engine; decided once, thread-safe, and anew in a forked child.

    A signal handler may ask too, while its own thread is asking. What is decided is logged once, under the name
    `nsa_caps`: at INFO the layout in one line, at WARNING where it is a fallback or its kernels go wrong somewhere.
    `get_indexer_layout.cache_clear()` forgets every decision.

    Args:
        engine: whose switches to read; None: as `probe` finds it.
        request: the model and the engine's limits, decided once each; None: `Request()`.
        prove: take the best row that was seen to run right on this machine's devices, each tried in a process of its
            own; a verdict that is kept takes milliseconds, a first one seconds. True: as `Proof()` has it.

    Raises:
        NoUsableLayoutError: every row is out.
        UnknownEngineError: the engine has no switches here.
        RequestError: the request is none, or asks for a row that does not exist.
        CircularQuestionError: a third party's probe or row asks, while it is asked.
    """
    try:
        layout = _CACHE.layouts.get((engine, request, prove))
    except TypeError:
        # Not hashable: `decide` says what is wrong.
        layout = None
    return _CACHE.decide(engine, request, prove) if layout is None else layout
