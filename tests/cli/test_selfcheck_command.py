"""`nsa-caps selfcheck`: the verdict on rows, as text, document and exit code."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

from jsonschema import Draft202012Validator

from nsa_caps.cli.main import main
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

REFERENCE = ("selfcheck", "--device", "cpu", "--row", "reference")


def test_a_proven_row_is_a_yes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The reference proves itself on the CPU, which is told with the steps and the format's fingerprint."""
    assert main(REFERENCE, host=machine(tmp_path, platform="cpu")) == 0
    told = capsys.readouterr().out
    assert told.startswith("reference: proven\n")
    assert "store, quantise_and_store, gather" in told


def test_the_document_follows_the_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`--json` prints a `selfcheck` document of schemas/report.json."""
    assert main((*REFERENCE, "--json"), host=machine(tmp_path, platform="cpu")) == 0
    document = json.loads(capsys.readouterr().out)
    schema = json.loads((files("nsa_caps") / "schemas/report.json").read_text(encoding="utf-8"))
    part = {"$ref": "#/$defs/selfcheck", "$defs": schema["$defs"]}
    Draft202012Validator(part).validate(document)
    assert [check["verdict"] for check in document["checks"]] == ["proven"]


def test_a_refused_row_is_a_no_with_its_reasons(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A row that the policy refuses cannot run, and its reasons are told."""
    arguments = ("selfcheck", "--device", "cpu", "--row", "deepgemm")
    assert main(arguments, host=machine(tmp_path, platform="cpu")) == 1
    told = capsys.readouterr().out
    assert told.startswith("deepgemm: cannot-run\n")
    assert "this row is for another platform" in told


def test_no_row_to_check_is_a_no(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Where every row is refused there is nothing to prove."""
    assert main(("selfcheck",), host=machine(tmp_path, platform="unknown", torch=None)) == 1
    assert "no row to check" in capsys.readouterr().out
