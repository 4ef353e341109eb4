"""`nsa-caps dry-run`, and `--dry-run` of the other commands: exit codes, text and document."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from referencing import Registry, Resource

from nsa_caps.cli import main
from nsa_caps.testing import machine
from tests.probes.dry_run_tree import AITER, LOGITS, lay_out

if TYPE_CHECKING:
    from pathlib import Path

    from nsa_caps import Host


def schema() -> Any:
    """Return what checks a document."""
    report, capabilities = (
        json.loads((files("nsa_caps") / f"schemas/{name}.json").read_text(encoding="utf-8"))
        for name in ("report", "capabilities")
    )
    resource: Resource[Any] = Resource.from_contents(capabilities)
    return jsonschema.Draft202012Validator(report, registry=Registry().with_resource(capabilities["$id"], resource))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Return a machine with a small aiter that can be executed."""
    return lay_out(tmp_path_factory.mktemp("dry-run"))


def test_it_says_what_was_settled_and_what_no_dry_run_sees(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 where all that the gates decide is known after it."""
    assert main(["dry-run"], host=host) == 0
    text = capsys.readouterr().out
    assert text.startswith("dry run, executed: all that aiter's gates decide is known")
    assert "  - gluon_archs\n" in text
    assert "a body that was never compiled stays unproven" in " ".join(text.split())


def test_its_document_follows_the_schema(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json`, with the answer that the exit code gives."""
    assert main(["dry-run", "--json"], host=host) == 0
    document = json.loads(capsys.readouterr().out)
    schema().validate(document)
    assert (document["command"], document["answer"], document["unknown"]) == ("dry-run", True, [])
    assert document["capabilities"]["aiter_source"]["gluon_archs"] == ["gfx942", "gfx950"]


def test_what_stays_unknown_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gate that only a GPU could answer is named."""
    text = AITER[LOGITS].replace(
        "    if Preshuffle:\n", "    assert torch.cuda.is_available()\n    if Preshuffle:\n", 1
    )
    assert main(["dry-run"], host=lay_out(tmp_path, {LOGITS: text})) == 1
    assert "truth of torch.cuda.is_available()" in capsys.readouterr().out


def test_without_aiter_there_is_nothing_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and no process."""
    assert main(["dry-run"], host=machine(tmp_path, archs=("gfx942",))) == 1
    assert capsys.readouterr().out.startswith("dry run, nothing to run: ")


def test_other_commands_take_it_too(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """`--dry-run` makes `snapshot` hold what was executed; without it nothing is."""
    assert main(["snapshot"], host=host) == 0
    assert "dry_run" not in json.loads(capsys.readouterr().out)["extras"]
    assert main(["snapshot", "--dry-run"], host=host) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["aiter_source"]["wrapper"] == "switch"
    assert document["extras"]["dry_run"]["settled"]


@pytest.mark.parametrize("option", ["--from=x.json", "--machine=mi300x_rocm700"])
def test_another_machine_is_wrong_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a snapshot there are no sources, and a known machine is an excerpt."""
    with pytest.raises(SystemExit) as ended:
        main(["dry-run", *option.split("=")])
    assert ended.value.code == 2
    assert "not with --from or --machine" in capsys.readouterr().err


def test_another_python_runs_it(capsys: pytest.CaptureFixture[str]) -> None:
    """`--python` names the interpreter that runs aiter's code, whose packages are asked about."""
    assert main(["dry-run", "--python", sys.executable, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["state"] == "nothing to run"
