"""The public surface is what was declared."""

from __future__ import annotations

from nsa_caps.policy.reasons import CODES

from . import public_api


def test_nothing_public_goes_or_changes_undeclared() -> None:
    """Whoever means it runs `python -m tests.public_api`, and says it in CHANGELOG.md."""
    found, declared = set(public_api.surface()), set(public_api.recorded())
    changed = [f"- {line}" for line in sorted(declared - found)] + [f"+ {line}" for line in sorted(found - declared)]
    assert not changed, "run `python -m tests.public_api` if this is meant:\n" + "\n".join(changed)


def test_a_reason_code_that_was_released_is_never_renamed() -> None:
    """Engines and dashboards key on codes: the record keeps every one that there ever was, and each has its meaning."""
    codes = {line.removeprefix(public_api.CODE) for line in public_api.recorded() if line.startswith(public_api.CODE)}
    assert codes == set(CODES)
    assert len(codes) >= 39
