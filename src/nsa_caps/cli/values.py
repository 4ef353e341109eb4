"""What options may be: each text as the change that it asks for, or an error that says what could be."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

from nsa_caps.archs import ARCHS, CARDS
from nsa_caps.base.hints import did_you_mean
from nsa_caps.capabilities.aiter_history import KNOWN_AITERS
from nsa_caps.capabilities.switches import VARIABLES
from nsa_caps.policy.changes import Change
from nsa_caps.policy.versions import parse_version

__all__ = ["aiter_release", "arch", "package", "set_variable", "triton", "unset_variable"]

# GPUs that are not in the table, yet may be asked about: what is told of them is that nothing is known.
_ARCH = re.compile(r"gfx([6-9]|1[0-3])[0-9a-f]{2}|sm_([5-9]\d|1[0-3]\d)", re.ASCII)
# The distribution that brings each package which `--package` may add.
_DISTRIBUTIONS = {"torch": "torch", "deep_gemm": "sgl-deep-gemm"}
# Read before any question is asked, so that to suppose another value changes nothing.
_TOO_EARLY = ("NSA_CAPS_PLUGINS",)


def triton(text: str) -> Change:
    """Return a change of Triton's version."""
    _check_version(text, "3.6.0")
    return Change.triton(text)


def arch(text: str) -> Change:
    """Return a change of the GPUs."""
    if text not in ARCHS and not _ARCH.fullmatch(text):
        card = next((card for card in CARDS if _bare(card) == _bare(text)), None)
        hint = f". {card} is {CARDS[card]}" if card else did_you_mean(text, ARCHS)
        raise ArgumentTypeError(f"{text!r} is no arch; one looks like gfx942 or sm_90{hint}")
    return Change.arch(text)


def _bare(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def aiter_release(text: str) -> Change:
    """Return a change of aiter."""
    if text not in KNOWN_AITERS:
        hint = did_you_mean(text, KNOWN_AITERS)
        raise ArgumentTypeError(f"{text!r} is not known; known are {', '.join(KNOWN_AITERS)}{hint}")
    return Change.aiter(text)


def package(text: str) -> Change:
    """Return a change of another package, or of the CUDA toolkit: `NAME` or `NAME=VERSION`."""
    name, equals, version = text.partition("=")
    name = name.replace("-", "_")
    if name == "cuda":
        if equals:
            _check_version(version, "cuda=13.0")
        return Change("toolkit", "the CUDA toolkit", version or None)
    if name in ("triton", "aiter"):
        raise ArgumentTypeError(f"{text!r}: for {name} there is --{name}")
    if name not in _DISTRIBUTIONS:
        hint = did_you_mean(name, _DISTRIBUTIONS)
        raise ArgumentTypeError(f"no row stands on a package {name!r}; write {', '.join(_DISTRIBUTIONS)} or cuda{hint}")
    if equals:
        _check_version(version, f"{name}=2.1.1")
    return Change("package", name, _DISTRIBUTIONS[name] + (f"=={version}" if equals else ""))


def _check_version(text: str, example: str) -> None:
    if parse_version(text) is None:
        raise ArgumentTypeError(f"{text!r} is no version; write one such as {example}")


def set_variable(text: str) -> Change:
    """Return the change `NAME=VALUE` of a variable."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"{text!r} has no '='; write {name}=VALUE, or --unset {name}")
    return Change("set", _variable(name), value)


def unset_variable(text: str) -> Change:
    """Return the change of a variable that is not set."""
    return Change("unset", _variable(text))


def _variable(name: str) -> str:
    if name in _TOO_EARLY:
        raise ArgumentTypeError(f"{name} is read before anything is supposed; set it in the environment")
    if name not in VARIABLES:
        hint = did_you_mean(name, VARIABLES)
        raise ArgumentTypeError(f"no switch reads {name!r}; those that one does are {', '.join(VARIABLES)}{hint}")
    return name
