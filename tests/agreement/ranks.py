"""One rank of a job: lays out its machines, agrees as the plan says, and writes down what it was told.

Started by torchrun as `ranks.py PLAN OUT`; `PLAN` is JSON, `OUT` a folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch.distributed as dist

import nsa_caps
from nsa_caps.testing import machine
from tests.machines.make import keep_verdict


def layout_of(folder: Path, spec: dict[str, Any]) -> nsa_caps.IndexerLayout | Exception:
    """Return the layout of a laid-out machine, or the exception that came instead of one."""
    request, raises, kept = spec.pop("request", {}), spec.pop("raises", None), spec.pop("kept", {})
    if raises:
        return OSError(raises)
    if kept:
        spec["environ"] = {**spec["environ"], "NSA_CAPS_PROOFS": f"{folder}-proofs"}
    try:
        host = machine(folder, **spec)
        for row, verdict in kept.items():
            keep_verdict(host, nsa_caps.probe(host), row, verdict)
        caps = nsa_caps.probe(host)
        return nsa_caps.select_indexer_layout(caps, nsa_caps.Request(**request))
    except nsa_caps.NsaCapsError as error:
        return error


def told(layout: nsa_caps.IndexerLayout | Exception, group: Any, mode: Any, timeout: float) -> dict[str, Any]:
    """Agree, and return what came of it as JSON values."""
    start = time.monotonic()
    try:
        agreed = nsa_caps.agree(layout, group, mode, timeout)
    except nsa_caps.MissingRanksError as error:
        return {"missing": error.missing, "text": str(error), "seconds": time.monotonic() - start}
    except nsa_caps.LayoutMismatchError as error:
        groups = [sorted(rank for party in each.parties for rank in party.ranks) for each in error.groups]
        return {"refused": groups, "text": str(error), "cause": repr(error.__cause__)}
    except nsa_caps.AgreementError as error:
        return {"wrong": str(error)}
    return {
        "row": agreed.row,
        "format": agreed.format.to_dict(),
        "as it was": agreed is layout,
        "forced": agreed.decision.forced,
    }


def main(plan_path: str, out: str) -> None:
    """Play the plan."""
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", nsa_caps.ForcedRowWarning)
    plan: dict[str, Any] = json.loads(Path(plan_path).read_text())
    dist.init_process_group("gloo", **plan.get("init", {}))
    rank = dist.get_rank()
    (Path(out) / f"{rank}.connected").touch()
    results = {}
    for scenario_name, scenario in plan["scenarios"].items():
        group = dist.new_group(scenario["group"]) if "group" in scenario else None
        layout = layout_of(Path(out) / f"{scenario_name}-{rank}", dict(scenario["machines"][rank]))
        if rank in scenario.get("die", ()):
            # Whoever has not reached it by now fails in the backend, and not in what is tested.
            while len(list(Path(out).glob("*.connected"))) < dist.get_world_size():
                time.sleep(0.05)
            os._exit(0)
        while rank in scenario.get("late", ()) and not (Path(out) / "0.json").exists():
            time.sleep(0.05)
        results[scenario_name] = {
            name: told(layout, group, modes[rank], plan["timeout"])
            for name, modes in scenario["modes"].items()
            if rank not in scenario.get("absent", ())
        }
    written = Path(out) / f"{rank}.part"
    written.write_text(json.dumps(results))
    written.rename(Path(out) / f"{rank}.json")
    # Those that were left behind cannot take part in a clean end.
    if plan.get("abrupt"):
        os._exit(0)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
