"""What the module of `deepgemm_fp8_paged_mqa_logits` does with a call, machine by machine, and the facts that say so.

The module is executed over every machine that can make a difference to it. The facts are asked of the outcome; then
what they foretell is compared with the outcome on every machine. Where the two differ, or the outcome is not sure, a
statement of the source is one that no fact stands for, and nothing is known of that call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.probes.aiter.calling import call_function
from nsa_caps.probes.aiter.known import KERNELS
from nsa_caps.probes.aiter.machines import archs_of, page_sizes, triton_versions, variables
from nsa_caps.probes.aiter.normal import text_digest
from nsa_caps.probes.aiter.run import Event, Run, TooMuchError
from nsa_caps.probes.aiter.space import Opaque, Space, lifted, parts_of, text_of, without
from nsa_caps.probes.aiter.values import Compiled, Function, Kernel, Launch, Source, Tensor, Where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsa_caps.probes.aiter.modules import Modules

__all__ = ["LOGITS", "Outcome", "outcome_of"]

LOGITS = ("aiter.ops.triton.attention.pa_mqa_logits", "aiter.ops.triton.pa_mqa_logits")
# In the place of a launch's digest: an excerpt leaves the kernel out, so that there is nothing to compare it with.
LEFT_OUT = "left out"
ENTRY = "deepgemm_fp8_paged_mqa_logits"
_VALUES = (None, "", "0", "1", "true")


class Fired(NamedTuple):
    """A kernel that machines of a mask surely launch."""

    mask: int
    kernel: str
    module: str
    how: str
    path: Any
    key: str
    launch: Launch


@dataclass
class Outcome:
    """What becomes of the call, machine by machine.

    Attributes:
        space: the machines.
        raised: those that raise.
        unsure: those of which that is not known.
        fired: the launches of the others.
        events: what happened, in order.
        module: the logits module.
        text: of a file below the package.
    """

    space: Space
    raised: int = 0
    unsure: int = 0
    fired: list[Fired] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    module: str = ""
    text: Callable[[str], str | None] = str

    def line(self, event: Event) -> str:
        """Return the line of source that an event is at."""
        lines = (self.text(event.file) or "").split("\n")
        return lines[event.line - 1].strip() if 0 < event.line <= len(lines) else ""


def outcome_of(modules: Modules, files: Any) -> Outcome | None:
    """Return what becomes of a call of the logits function; None where there is none."""
    module = next((name for name in LOGITS if files.module(name)), None)
    text = files.text(files.module(module)) if module else None
    if module is None or text is None:
        return None
    space = _space(text)
    run = Run(space, modules, call_function)
    found = Outcome(space, events=run.events, module=module, text=files.text)
    try:
        _called(run, modules, module)
    except (TooMuchError, RecursionError) as error:
        # Wherever control had come to.
        run.may = space.all
        run.unaccounted(str(error), Where(files.module(module)))
    _judged(found, modules)
    return found


def _space(text: str) -> Space:
    """Return the machines that can make a difference to a text: every constant in it, and what lies between."""
    return Space(
        {
            "triton": triton_versions(text),
            "arch": archs_of(text)[:14],
            "page": page_sizes(text),
            "tiles": (False, True),
            "heads": (64, 32),
            **{f"env:{name}": _VALUES for name in variables(text)[:2]},
        }
    )


def _called(run: Run, modules: Modules, module: str) -> None:
    entry = modules.load(run, module, ENTRY)
    space, where = run.space, Where("the engine")
    if not isinstance(entry, Function):
        run.unaccounted(f"{ENTRY} is no plain function", Where(module))
        return
    heads, page = space.choice("heads"), space.choice("page")
    rows, columns, batch = Opaque("rows"), Opaque("columns"), Opaque("batch")
    arguments: list[Any] = [
        Tensor("q", (batch, Opaque("next_n"), heads, 128)),
        Tensor("kv", (Opaque("pages"), page, 1, 132), lifted(lambda each: each * 132, [page], space.all, "page*132")),
        Tensor("weights", (rows, heads)),
        Tensor("out", (rows, columns)),
        Tensor("lens", (batch,)),
        Tensor("table", (batch, columns)),
        Opaque("max_len"),
    ]
    call_function(run, entry, arguments, {"Preshuffle": space.choice("tiles"), "KVBlockSize": page}, where)


def _judged(found: Outcome, modules: Modules) -> None:
    doubt = raised = launched = 0
    for event in found.events:
        if event.kind == "launch":
            doubt |= launched & event.may
            launched |= event.may
        doubt |= without(event.may, event.must)
        if event.kind == "raise":
            raised |= event.must
    found.raised = without(raised, doubt)
    for event in found.events:
        if event.kind == "launch":
            found.fired += _fired(event, without(without(event.must, raised), doubt), modules)
    settled = found.raised
    for each in found.fired:
        settled |= each.mask
    found.unsure = found.space.all ^ settled


def _fired(event: Event, mask: int, modules: Modules) -> Iterator[Fired]:
    launch: Launch = event.detail
    for part, target in parts_of(launch.kernel, mask):
        if isinstance(target, Compiled):
            how = "jit" if target.bundle is None else "aot"
            for inner, source in parts_of(target.source, part):
                if isinstance(source, Source):
                    for least, kernel in parts_of(source.function, inner):
                        yield from _one(least, kernel, how, target.bundle, source, launch, modules)
        else:
            yield from _one(part, target, "plain", None, None, launch, modules)


def _one(
    mask: int, kernel: Any, how: str, path: Any, source: Source | None, launch: Launch, modules: Modules
) -> Iterator[Fired]:
    kind = KERNELS.get(kernel.name) if isinstance(kernel, Kernel) else None
    if kind is None:
        return
    parameters = modules.parameters(kernel)
    if parameters is None:
        yield Fired(mask, kind, kernel.module, how, path, LEFT_OUT, launch)
        return
    given = [*map(text_of, launch.positional), *(f"{name}={text_of(value)}" for name, value in launch.named.items())]
    parts = [",".join(parameters), ";".join(given)]
    if source is not None:
        parts += [",".join(source.signature), ",".join(source.constants)]
    yield Fired(mask, kind, kernel.module, how, path, text_digest("\n".join(parts)), launch)
