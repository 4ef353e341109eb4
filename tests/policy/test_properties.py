"""What holds of every machine and every request, drawn by Hypothesis."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from dataclasses import replace
from importlib.resources import files
from itertools import combinations
from typing import TYPE_CHECKING

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nsa_caps
from nsa_caps import (
    ROWS,
    Capabilities,
    Decision,
    ForcedRowWarning,
    NoUsableLayoutError,
    Reason,
    Request,
    SnapshotError,
    UnknownRowError,
    decide,
    probe,
    select_indexer_layout,
)
from nsa_caps.capabilities.engines import ENGINES
from nsa_caps.policy.reasons import CODES
from nsa_caps.testing.strategies import any_capabilities, capabilities, hosts, requests

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = tuple(row.name for row in ROWS)


SCHEMA = jsonschema.Draft202012Validator(
    json.loads(files("nsa_caps").joinpath("schemas/capabilities.json").read_text(encoding="utf-8"))
)


def decision_of(caps: Capabilities, request: Request) -> Decision | None:
    """Return the decision, or None where a variable names no row, which is an error of its own."""
    try:
        return decide(caps, request)
    except UnknownRowError:
        return None


# --- Capabilities


@given(any_capabilities())
def test_json_loses_nothing(caps: Capabilities) -> None:
    """From JSON comes what went into it: equal, of the same hash, and the same text again."""
    for back in (Capabilities.from_json(caps.to_json()), Capabilities.from_dict(caps.to_dict())):
        assert back == caps
        assert hash(back) == hash(caps)
        assert back.to_json() == caps.to_json()


@given(any_capabilities())
def test_a_snapshot_is_plain_json_by_the_schema(caps: Capabilities) -> None:
    """What `to_dict` returns is made of JSON values alone, and the schema in the package describes it."""
    document = caps.to_dict()
    assert json.loads(json.dumps(document)) == document
    SCHEMA.validate(document)


@given(any_capabilities())
def test_pickles_and_copies_are_equal(caps: Capabilities) -> None:
    """Capabilities go to worker processes."""
    assert pickle.loads(pickle.dumps(caps)) == caps  # noqa: S301 our own bytes
    assert copy.deepcopy(caps) == caps


@given(any_capabilities(), any_capabilities())
def test_equal_capabilities_have_equal_text(one: Capabilities, other: Capabilities) -> None:
    """Equality and the JSON text agree, so the text is a key."""
    assert (one == other) == (one.to_json() == other.to_json())


@given(capabilities())
def test_capabilities_cannot_be_changed(caps: Capabilities) -> None:
    """Neither a field nor a mapping in one can be assigned to."""
    with pytest.raises(AttributeError):
        caps.platform = "cpu"  # type: ignore[misc]  # that is the point
    for mapping in (caps.variables, caps.switches, caps.extras):
        with pytest.raises(TypeError):
            mapping["x"] = "y"  # type: ignore[index]  # that is the point


@given(any_capabilities(), st.data())
def test_a_snapshot_with_a_field_changed_is_read_or_refused(caps: Capabilities, data: st.DataObject) -> None:
    """A document with any value in the place of another is capabilities, or a SnapshotError that names the place."""
    document = caps.to_dict()
    name = data.draw(st.sampled_from(sorted(document)))
    document[name] = data.draw(
        st.sampled_from((None, 1, True, "x", [], {}, [1], ["x"], {"x": 1}, [{}], {"name": 1}, -1, 1.5, [[]]))
    )
    problem = ""
    try:
        back = Capabilities.from_dict(document)
    except SnapshotError as error:
        problem = str(error)
    if problem:
        assert f"snapshot.{name}" in problem or name == "schema_version"
    else:
        assert Capabilities.from_json(back.to_json()) == back


@given(st.text(max_size=30) | st.sampled_from(["", "{", "[]", "null", "3", '"x"', "{}x", "[" * 100_000]))
def test_a_text_that_is_no_snapshot_is_refused(text: str) -> None:
    """What is no JSON, or no object, is a SnapshotError."""
    try:
        Capabilities.from_json(text)
    except SnapshotError:
        return
    assert isinstance(json.loads(text), dict)


# --- The decision


@given(capabilities() | any_capabilities(), requests())
def test_the_verdicts_are_exactly_the_rows(caps: Capabilities, request: Request) -> None:
    """Every row has one verdict, in order of preference: none is left out, whatever the machine."""
    decision = decision_of(caps, request)
    if decision is not None:
        assert tuple(verdict.row for verdict in decision.verdicts) == NAMES


@given(capabilities() | any_capabilities(), requests())
def test_a_verdict_is_what_its_reasons_say(caps: Capabilities, request: Request) -> None:
    """Met without reasons; unmet with an unmet one; unknown where all that is left is unknown; every code is known."""
    decision = decision_of(caps, request)
    for verdict in decision.verdicts if decision else ():
        kinds = {reason.verdict for reason in verdict.reasons}
        assert verdict.verdict == ("met" if not kinds else "unmet" if "unmet" in kinds else "unknown")
        assert {reason.code for reason in verdict.reasons} <= CODES.keys()
        assert all(reason.observed and reason.required for reason in verdict.reasons)
        assert all(reason.fix != "" for reason in verdict.reasons)


@given(capabilities() | any_capabilities(), requests())
def test_chosen_is_the_first_row_that_is_met(caps: Capabilities, request: Request) -> None:
    """Unknown never selects, nor does anything but the order; only force takes a row that is not met."""
    decision = decision_of(caps, request)
    if decision is None:
        return
    met = [verdict.row for verdict in decision.verdicts if verdict.verdict == "met"]
    if decision.forced:
        assert met == []
        assert caps.switches["row_force"].value is True
        assert decision.chosen == caps.switches["row"].value
    else:
        assert decision.chosen == (met[0] if met else None)
    assert request.rows is None or decision.chosen in (None, *request.rows)


@given(capabilities(), requests())
def test_deciding_is_pure(caps: Capabilities, request: Request) -> None:
    """The same machine and request give the same decision, and neither is changed by it."""
    before = caps.to_json()
    first, second = decision_of(caps, request), decision_of(Capabilities.from_json(before), request)
    assert first == second
    assert caps.to_json() == before


@given(capabilities() | any_capabilities(), requests())
def test_every_decision_can_be_explained(caps: Capabilities, request: Request) -> None:
    """A decision has words, the verdict first, that any terminal can print."""
    decision = decision_of(caps, request)
    if decision is not None:
        text = decision.explain()
        assert text.startswith(decision.chosen or "No row may be used")
        assert all(char.isprintable() or char == "\n" for char in text)


@given(capabilities(), requests())
def test_a_layout_is_its_decision(caps: Capabilities, request: Request) -> None:
    """A layout has the chosen row's order and page size and the GPUs' dialect; without a row it is the one error."""
    decision = decision_of(caps, request)
    if decision is None:
        return
    if decision.chosen is None:
        with pytest.raises(NoUsableLayoutError) as caught:
            select_indexer_layout(caps, request)
        assert caught.value.reasons
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ForcedRowWarning)
        layout = select_indexer_layout(caps, request)
    row = next(row for row in ROWS if row.name == layout.row)
    assert layout.row == layout.decision.chosen
    assert layout.page_size == (request.page_size or row.page_size)
    assert layout.model_page_size == layout.page_size * request.index_kpool
    assert layout.preshuffle == (row.order == "tiles")
    assert (layout.format.head_dim, layout.format.quant_block_size) == (request.head_dim, request.quant_block_size)
    fnuz = caps.platform == "rocm" and any(arch.startswith("gfx94") for arch in caps.archs or ())
    assert layout.format.dialect == ("e4m3fnuz" if fnuz else "e4m3fn")


@given(capabilities(), requests(), st.sampled_from(NAMES))
def test_more_rows_never_make_it_worse(caps: Capabilities, request: Request, row: str) -> None:
    """A row that is chosen among few is met among all: limiting the choice changes no other row's verdict."""
    alone, free = (decision_of(caps, replace(request, rows=rows)) for rows in ((row,), None))
    if alone is not None and free is not None:
        assert alone.verdict(row) == free.verdict(row)


# --- The smallest fix


def applied(decision: Decision, steps: Iterable[Reason]) -> Decision:
    """Return the decision after the changes of a fix."""
    caps, request = decision.caps, decision.request
    for step in steps:
        (change,) = step.changes
        caps, request = change.apply(caps, request)
    return decide(caps, request)


@given(capabilities(), requests(), st.sampled_from(NAMES))
def test_the_smallest_fix_brings_the_row(caps: Capabilities, request: Request, row: str) -> None:
    """After the changes of the fix the row is chosen, and after no proper part of them: none is superfluous."""
    decision = decision_of(caps, request)
    steps = decision.smallest_fix(row) if decision else None
    if decision is None or steps is None:
        return
    assert applied(decision, steps).chosen == row
    assert all(step.fix for step in steps)
    for fewer in range(len(steps)):
        for part in combinations(steps, fewer):
            after = applied(decision, part)
            assert after.chosen != row or after.forced


@given(capabilities(), requests(), st.sampled_from(NAMES))
def test_no_single_change_is_overlooked(caps: Capabilities, request: Request, row: str) -> None:
    """Where one change of any reason would bring the row, the smallest fix is one change at most."""
    decision = decision_of(caps, request)
    if decision is None:
        return
    for reason in decision.verdict(row).reasons:
        for change in reason.changes:
            if decide(*change.apply(caps, request)).chosen == row:
                steps = decision.smallest_fix(row)
                assert steps is not None
                assert len(steps) <= 1


@given(capabilities(), requests())
def test_a_change_keeps_the_machine_in_one_piece(caps: Capabilities, request: Request) -> None:
    """What a change leaves is a machine as good as any: it goes through JSON, and its switches are its variables'."""
    decision = decision_of(caps, request)
    for verdict in decision.verdicts if decision else ():
        for reason in verdict.reasons:
            for change in reason.changes:
                after, _ = change.apply(caps, request)
                assert Capabilities.from_json(after.to_json()) == after
                assert nsa_caps.switches.resolve(after.variables, after.engine)[0] == dict(after.switches)
                assert change.text


# --- Probing


@settings(max_examples=60)
@given(st.data(), st.sampled_from(ENGINES))
def test_probing_is_repeatable_and_lossless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, engine: str
) -> None:
    """Any laid-out machine gives the same capabilities twice, which go through JSON and can be decided about."""
    host = data.draw(hosts(tmp_path_factory.mktemp("hosts")))
    caps = probe(host, engine=engine)
    assert probe(host, engine=engine) == caps
    assert Capabilities.from_json(caps.to_json()) == caps
    assert "probe" not in {note.source.partition(" ")[0] for note in caps.notes}
    assert decision_of(caps, Request()) is not None


def test_equal_capabilities_have_one_hash() -> None:
    """Extras that compare equal are equal capabilities, and so one key, also where JSON writes them apart."""
    whole, decimal = Capabilities(extras={"x": 1}), Capabilities(extras={"x": 1.0})
    assert whole == decimal
    assert hash(whole) == hash(decimal)
    assert len({Capabilities(engine="vllm"), Capabilities(engine="sglang")}) == 2
