"""What a dry run came to, as lines and as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.base.lines import indented, printable
from nsa_caps.policy.document import document_head
from nsa_caps.probes.dry_run.probe import CANNOT_SEE
from nsa_caps.probes.dry_run.settle import CALLS, FACTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.base.lines import Line
    from nsa_caps.capabilities.records import Capabilities

__all__ = ["dry_run_document", "dry_run_lines", "left_unknown"]


def left_unknown(caps: Capabilities) -> list[str]:
    """Return what aiter's gates decide and is not known after a dry run."""
    source = caps.aiter_source
    if source is None or source.logits_preshuffle is False:
        return ["whether there is an aiter with the indexer's kernel"]
    calls = [f"what it does with {name}" for name in CALLS if name not in (source.calls or ())]
    # Where gluon is never called, nothing tells how it would be.
    facts = () if source.wrapper == "plain" else FACTS
    # Of an aiter whose kernel has no ahead-of-time form, and of one that knows no gfx1250, there is nothing to say.
    free = ("aot_stops_jit", "gfx1250_waves")
    return [*(name for name in facts if name not in free and getattr(source, name) is None), *calls]


def dry_run_document(caps: Capabilities, *, answer: bool) -> dict[str, Any]:
    """Return what `nsa-caps dry-run --json` prints."""
    return {
        **document_head("dry-run"),
        "answer": answer,
        **caps.extras["dry_run"],
        "unknown": left_unknown(caps),
        "cannot_see": list(CANNOT_SEE),
        "capabilities": caps.to_dict(),
    }


def dry_run_lines(caps: Capabilities, *, answer: bool) -> Iterator[Line]:
    """Return what was settled, what differs, what stays unknown, and what no dry run can say."""
    told = caps.extras["dry_run"]
    first = "all that aiter's gates decide is known" if answer else "not all that aiter's gates decide is known"
    yield ((f"dry run, {told['state']}: {first}", "good" if answer else "bad"),)
    parts = (
        ("settled", told["settled"], "by executing, not by reading"),
        ("differs", told["differs"], "reading and running disagree: not known"),
        ("unknown", left_unknown(caps), "neither read nor executed"),
        ("not said", told["unsaid"], "by the run"),
        ("not seen", CANNOT_SEE, "by any dry run"),
    )
    for title, lines, why in parts:
        if lines:
            yield ()
            yield (f"{title}", "label"), (f", {why}:", "")
            for line in lines:
                yield from indented("  - ", printable(line))
