"""Verdicts on rows that were run on this machine's device and kept: facts, which the policy reads like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["BoundPackage", "KeptVerdict", "Proven", "Timing"]

Proven: TypeAlias = Literal["proven", "wrong", "cannot-run", "timed-out"]


@dataclass(frozen=True)
class BoundPackage:
    """A package whose code ran.

    Attributes:
        name: the import name.
        version: its version then; None: not known.
    """

    name: str
    version: str | None


@dataclass(frozen=True)
class Timing:
    """What one call cost.

    Attributes:
        shape: what was asked, such as `decode 64 x 32,768`.
        microseconds: the median of a call on the device.
    """

    shape: str
    microseconds: float


@dataclass(frozen=True, kw_only=True)
class KeptVerdict:
    """What came of running a row's kernels on a device, in a process of its own, and what that is bound to.

    Attributes:
        row: the row's name.
        verdict: `proven`, `wrong`, `cannot-run` or `timed-out`.
        format: the fields of the page format, each as `name=value`.
        heads: query heads of the indexer.
        device: the kind of device, as `Device.model` tells it; `cpu` without a GPU; None: not known.
        driver: the driver then; None: not known.
        packages: the packages whose code ran.
        variables: the variables that kernels, compilers and drivers read, each as `NAME=text`.
        told: what came of it, in words: the steps that were right, the first mismatch, or the last words.
        made: the day, in UTC.
        limit: seconds that it was given.
        timings: what its calls cost; empty where that was not measured.
        source: the file that it was read from; None: it was made by this process, or is not kept.
    """

    row: str
    verdict: Proven
    format: tuple[str, ...]
    heads: int
    device: str | None
    driver: str | None
    packages: tuple[BoundPackage, ...]
    variables: tuple[str, ...]
    told: str
    made: str
    limit: float
    timings: tuple[Timing, ...] = ()
    source: str | None = None
