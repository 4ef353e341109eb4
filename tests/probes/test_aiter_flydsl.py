"""What `aiter.ops.flydsl` asks of the package flydsl: read from its source, and unknown where it asks otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nsa_caps import Capabilities, Package, decide, probe
from nsa_caps.capabilities.aiter_history import AITER_RELEASES
from nsa_caps.policy.request import Request
from nsa_caps.policy.requirements.flydsl import flydsl_fits
from nsa_caps.testing import GENERATIONS, machine

FLYDSL = "ops/flydsl/__init__.py"
NEWEST = AITER_RELEASES["0.1.18"].source
VLLM, ASKED = {"VLLM_ROCM_USE_AITER": "1"}, {"SGLANG_USE_AITER": "1"}


def vllm_caps(folder: Path, arch: str = "gfx942", release: str | None = "0.33.0", **more: object) -> Capabilities:
    """Return a machine with vLLM and an aiter that has the kernel that vLLM imports."""
    engines = {"vllm": release} if release else {}
    described = {"archs": [arch], "triton": "3.7.0", "aiter": NEWEST, "engines": engines, "environ": VLLM, **more}
    return probe(machine(folder, **described), engine="vllm")  # type: ignore[arg-type]  # machine's own


@pytest.mark.parametrize(
    ("flydsl", "code"),
    [(None, "package.missing"), ("0.2.2", "aiter.flydsl"), ("0.2.4rc1", "aiter.flydsl"), ("0.2.4", None)],
)
def test_vllm_on_gfx942_needs_flydsl_too(tmp_path: Path, flydsl: str | None, code: str | None) -> None:
    """Without it, or with one that aiter refuses, aiter has no `flydsl_fp8_mqa_logits`; installing it mends that."""
    decision = decide(vllm_caps(tmp_path / "m", flydsl=flydsl))
    if code is None:
        assert decision.chosen == "aiter-preshuffle"
        return
    (reason,) = decision.verdict("aiter-preshuffle").reasons
    assert (reason.code, reason.verdict, reason.fix) == (code, "unmet", "pip install flydsl==0.2.4")
    assert decision.smallest_fix("aiter-preshuffle") == [reason]


def test_vllm_elsewhere_needs_no_flydsl(tmp_path: Path) -> None:
    """On gfx950 vLLM calls aiter's Triton kernel."""
    assert decide(vllm_caps(tmp_path / "m", "gfx950")).chosen == "aiter-preshuffle"


@pytest.mark.parametrize("state", ["unknown", "broken", "impostor"])
def test_a_flydsl_of_which_nothing_is_known_selects_nothing(tmp_path: Path, state: str) -> None:
    """Whatever may come of its import, no row of aiter is met by it."""
    caps = vllm_caps(tmp_path / "m").replace(flydsl=Package("flydsl", state))  # type: ignore[arg-type]  # a state
    assert decide(caps).verdict("aiter-preshuffle").verdict != "met"
    assert Capabilities().flydsl.state == "unknown"


def test_a_release_of_vllm_that_is_not_known_is_not_refused(tmp_path: Path) -> None:
    """It is taken for the newest that was read, which it may not be."""
    caps = vllm_caps(tmp_path / "m")
    caps = caps.replace(engines=(Package("vllm", "found"),))
    assert decide(caps).verdict("aiter-preshuffle").verdict == "unknown"


@pytest.mark.parametrize(
    ("generation", "version", "arch", "verdict"),
    [
        ("861b4c93", None, "gfx942", "met"),
        ("861b4c93", "0.1.8", "gfx942", "met"),
        ("861b4c93", "0.1.8+rocm7", "gfx942", "met"),
        ("861b4c93", "0.1.8.dev1", "gfx942", "unmet"),
        ("861b4c93", "0.1.7", "gfx942", "unmet"),
        ("861b4c93", "0.1.7", "gfx90a", "unknown"),
        ("861b4c93", "of today", "gfx942", "unknown"),
        ("04907edc", "0.1.7", "gfx942", "met"),
        ("a1bdcec9", "0.1.7", "gfx942", "met"),
    ],
)
def test_an_import_of_aiter_that_comes_to_flydsl_needs_one_that_it_takes(
    generation: str, version: str | None, arch: str, verdict: str, tmp_path: Path
) -> None:
    """Releases 0.1.13, 0.1.15 and 0.1.16 run `aiter.ops.flydsl` in `import aiter`: it raises below its minimum."""
    host = machine(tmp_path / "m", archs=[arch], triton="3.7.0", aiter=generation, flydsl=version, environ=ASKED)
    reason = flydsl_fits(probe(host), Request())
    assert (reason.verdict if reason else "met") == verdict


def test_versions_that_must_be_equal_are_compared_as_texts() -> None:
    """a1bdcec9 takes one version of flydsl, to the letter."""
    source = replace(GENERATIONS["a1bdcec9"], imports_flydsl=True)
    for version, verdict in (("0.1.1.dev409", "met"), ("0.1.1.dev409+a", "unmet"), ("0.1.2", "unmet")):
        caps = Capabilities(
            aiter_source=source, flydsl=Package("flydsl", "found", version), devices=probe().replace(devices=()).devices
        )
        reason = flydsl_fits(caps, Request())
        assert (reason.verdict if reason else "met") == verdict


EDITS = {
    "another comparison": ("if _base_version < ", "if _base_version <= "),
    "a refusal of its own": ("if is_flydsl", "raise OSError\nif is_flydsl"),
    "a refusal beside the gate": ("    import flydsl as", "    assert False\n    import flydsl as"),
    "the minimum is computed": ('Version("0.1.8")', "Version(str(1))"),
    "nothing is compared": ("_base_version < _MIN_FLYDSL_VERSION", "False"),
    "no minimum": ('_MIN_FLYDSL_VERSION = Version("0.1.8")\n', ""),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_another_way_to_ask_for_flydsl_is_not_known(tmp_path: Path, what: str) -> None:
    """After one edit of the module, what it takes is not known, its line is named, and no row of aiter is met."""
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.7.0", aiter="861b4c93", environ=ASKED)
    path = Path(host.search_path[0], "aiter", FLYDSL)
    old, new = EDITS[what]
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    caps = probe(host)
    assert caps.aiter_source is not None
    assert caps.aiter_source.flydsl_needs is None
    assert any(FLYDSL in line for line in caps.aiter_source.unaccounted)
    assert not [each.row for each in decide(caps).verdicts if each.verdict == "met" and each.row.startswith("aiter")]


@pytest.mark.parametrize("names", ["{} = least", "least = {}"])
def test_a_minimum_may_have_two_names(tmp_path: Path, names: str) -> None:
    """It is read whichever comes first."""
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.7.0", aiter="861b4c93", environ=ASKED)
    path, needs = Path(host.search_path[0], "aiter", FLYDSL), probe(host).aiter_source
    path.write_text(path.read_text().replace("_MIN_FLYDSL_VERSION =", f"{names.format('_MIN_FLYDSL_VERSION')} =", 1))
    source = probe(host).aiter_source
    assert source is not None
    assert needs is not None
    assert source.flydsl_needs == needs.flydsl_needs == ">=0.1.8"


def test_another_way_to_look_for_it_is_not_known(tmp_path: Path) -> None:
    """One that finds it where it is not installed would import kernels that fail."""
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.7.0", aiter="861b4c93", environ=ASKED)
    path = Path(host.search_path[0], "aiter/ops/flydsl/utils.py")
    path.write_text(path.read_text().replace('find_spec("flydsl") is not None', 'find_spec("flydsl") is None'))
    source = probe(host).aiter_source
    assert source is not None
    assert source.flydsl_needs is None


# The text of the module, and what it needs; None: that is not known.
MODULES: dict[str, tuple[str, str | None]] = {
    "nothing": ("", "none"),
    "a docstring and an import": ("'Kernels.'\nfrom .utils import is_flydsl_available\n", "none"),
    "a list of names": ("__all__ = ['a', 'b']\n__all__ += ['c']\n", "none"),
    "another list": ("names = ['a']\n", None),
    "a list of no names": ("__all__ = [f()]\n", None),
    "names that are no list": ("__all__ = f('a')\n", None),
    "an item of the names": ("__all__[0] = 'a'\n", None),
    "two lists of names": ("__all__ = names = ['a']\n", None),
    "a version that nothing asks for": ("_MIN_FLYDSL_VERSION = Version('1')\n", None),
    "a version of another name": ("_FLYDSL_VERSION = Version('1')\n", None),
    "a version in a call of two": ("_MIN_FLYDSL_VERSION = Version('1', 2)\n", None),
    "a version by another call": ("_MIN_FLYDSL_VERSION = parse('1')\n", None),
    "a version that is a number": ("_MIN_FLYDSL_VERSION = 1\n", None),
    "kernels where it is there": ("if is_flydsl_available():\n    from .kernels import x\n", "none"),
    "a gate that is not known": ("if is_flydsl_available():\n    f()\n", None),
    "another question": ("if f():\n    from .kernels import x\n", None),
    "what cannot be parsed": ("x = (\n", None),
}


@pytest.mark.parametrize("what", MODULES)
def test_what_the_module_needs_is_read_from_all_of_it(tmp_path: Path, what: str) -> None:
    """Each of its statements is one that is known, or what it needs is not."""
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.7.0", aiter="861b4c93")
    text, needs = MODULES[what]
    Path(host.search_path[0], "aiter", FLYDSL).write_text(text)
    source = probe(host).aiter_source
    assert source is not None
    assert source.flydsl_needs == needs
    assert any(FLYDSL in line for line in source.unaccounted) is (needs is None)


def test_of_a_module_that_cannot_be_read_it_is_not_known_what_it_needs(tmp_path: Path) -> None:
    """It is no module that needs nothing."""
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.7.0", aiter="861b4c93")
    Path(host.search_path[0], "aiter", FLYDSL).write_bytes(b"\xff")
    source = probe(host).aiter_source
    assert source is not None
    assert source.flydsl_needs is None
    assert f"{FLYDSL}: cannot be read" in source.unaccounted


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("from .utils import is_flydsl_available\n", False),
        ("x = 1\n", False),
        ("if is_flydsl_available():\n    from .a import flydsl_fp8_mqa_logits\n", True),
        ("if is_flydsl_available():\n    from .a import b  # no flydsl_fp8_mqa_logits\n", False),
        ("from .a import flydsl_fp8_mqa_logits\n", True),
        ("flydsl_fp8_mqa_logits = (\n", True),
    ],
)
def test_the_kernel_that_the_module_brings_is_taken(tmp_path: Path, text: str, taken: bool) -> None:
    """Where it is imported, or named in a way that is not known."""
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.7.0", aiter="861b4c93")
    Path(host.search_path[0], "aiter", FLYDSL).write_text(text)
    source = probe(host).aiter_source
    assert source is not None
    assert ("flydsl_fp8_mqa_logits" in (source.takes or ())) is taken


def test_a_kernel_that_the_module_only_mentions_is_not_taken(tmp_path: Path) -> None:
    """A comment names `flydsl_fp8_mqa_logits` and nothing imports it."""
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.7.0", aiter="861b4c93")
    path = Path(host.search_path[0], "aiter", FLYDSL)
    path.write_text(path.read_text() + "    # flydsl_fp8_mqa_logits\n")
    source = probe(host).aiter_source
    assert source is not None
    assert "flydsl_fp8_mqa_logits" not in (source.takes or ())
