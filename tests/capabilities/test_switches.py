"""Every switch, read by its consumer's own grammar."""

from __future__ import annotations

import pytest

from nsa_caps import Capabilities, Host, Note, UnknownEngineError, probe
from nsa_caps.capabilities.engines import ENGINES
from nsa_caps.capabilities.switches import (
    GRAMMARS,
    SWITCHES,
    VARIABLES,
    engine_meant,
    resolve,
    variable_to_set,
    with_variables,
)

NEW_NAME, OLD_NAME = "SGLANG_DSA_HIP_DISABLE_PRESHUFFLE", "SGLANG_NSA_HIP_DISABLE_PRESHUFFLE"
AOT, ESCAPE = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS", "AITER_USE_SYSTEM_TRITON"
WORDS: tuple[str, ...] = (
    "1",
    "0",
    "true",
    "True",
    "TRUE",
    "false",
    "FALSE",
    "yes",
    "YES",
    "no",
    "y",
    "Y",
    "n",
    "on",
    "off",
)
WORDS += ("2", "-1", "01", "1.0", " 1", "1 ", "t", "enabled", "ja")


def value(name: str, engine: str, **variables: str) -> bool | str | None:
    """Return a switch's value under these variables."""
    return resolve(variables, engine)[0][name].value


def notes(engine: str, **variables: str) -> list[tuple[str, str]]:
    """Return the notes that reading these variables leaves, as (variable, text)."""
    return [(note.source, note.text) for note in resolve(variables, engine)[1]]


@pytest.mark.parametrize("word", WORDS)
def test_sglang_get_bool_env_var(word: str) -> None:
    """SGLANG_USE_AITER: true and 1, in any case and not stripped; everything else is false."""
    assert value("use_aiter", "sglang", SGLANG_USE_AITER=word) is (word in ("1", "true", "True", "TRUE"))


@pytest.mark.parametrize("name", [NEW_NAME, OLD_NAME])
@pytest.mark.parametrize("word", WORDS)
def test_sglang_env_bool(name: str, word: str) -> None:
    """SGLang's EnvBool takes yes and y too, in any case; what it cannot read is the default."""
    expected = word in ("1", "true", "True", "TRUE", "yes", "YES", "y", "Y")
    assert value("disable_preshuffle", "sglang", **{name: word}) is expected


@pytest.mark.parametrize("word", WORDS)
def test_vllm(word: str) -> None:
    """VLLM_ROCM_USE_AITER: true and 1 in any case; everything else is false."""
    assert value("use_aiter", "vllm", VLLM_ROCM_USE_AITER=word) is (word in ("1", "true", "True", "TRUE"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("word", WORDS)
def test_aiters_aot_variable(engine: str, word: str) -> None:
    """Exactly 1 is true to aiter, whichever engine runs: `true` is not 1."""
    assert value("aiter_aot", engine, **{AOT: word}) is (word == "1")


@pytest.mark.parametrize(
    ("word", "expected"),
    [("1", True), ("0", False), ("00", False), ("-1", True), ("+1", True), (" 1 ", True), ("1_0", True), ("2", True)]
    + [(word, None) for word in ("true", "yes", "1.0", "", " ", "0x1", "one")],
)
def test_aiters_integer(word: str, expected: bool | None) -> None:
    """AITER_USE_SYSTEM_TRITON goes through int(): a non-zero integer is true, and no integer, also a blank, fails."""
    assert value("aiter_system_triton", "generic", **{ESCAPE: word}) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("native", ""),
        ("gfx942", "gfx942"),
        ("gfx942;gfx950", "gfx950"),
        ("gfx942; gfx950", " gfx950"),
        ("gfx942,gfx950", "gfx942,gfx950"),
        ("GFX942", "GFX942"),
        ("native;gfx942", "gfx942"),
        ("gfx942;native", "native"),
        (" ", " "),
        ("", None),
        ("gfx942;", None),
        (";", None),
    ],
)
def test_gpu_archs(text: str, expected: str | None) -> None:
    """GPU_ARCHS is `native` or its last entry as it stands; an empty one cannot be read."""
    assert value("gpu_archs", "generic", GPU_ARCHS=text) == expected


@pytest.mark.parametrize("word", WORDS)
def test_our_own_switches(word: str) -> None:
    """This library's own switches are stripped and take yes, on and the like; what they cannot read is ignored."""
    true = word.strip().lower() in ("1", "true", "yes", "y", "on")
    false = word.strip().lower() in ("0", "false", "no", "n", "off")
    for engine in ENGINES:
        # ATOM asks for aiter by itself.
        assert value("use_aiter", engine, NSA_CAPS_USE_AITER=word) is (true or (engine == "atom" and not false))
        assert value("row_force", engine, NSA_CAPS_ROW_FORCE=word) is true
    expected = true if true or false else True
    assert value("use_aiter", "sglang", NSA_CAPS_USE_AITER=word, SGLANG_USE_AITER="1") is expected
    assert bool(notes("generic", NSA_CAPS_USE_AITER=word)) is not (true or false)


@pytest.mark.parametrize("row", [row for row in SWITCHES if row.name not in ("aiter_system_triton", "gpu_archs")])
@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_blank_counts_as_unset(row: object, blank: str) -> None:
    """A blank variable is none, except where its consumer reads the blank itself and fails on it."""
    switch = next(each for each in SWITCHES if each is row)
    for engine in ENGINES:
        for reading in switch.readings(engine):
            resolved, left = resolve({reading.variable: blank}, engine)
            assert resolved[switch.name].value == switch.default_under(engine)
            assert (resolved[switch.name].variable, left) == (None, ())


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_set_is_every_default(engine: str) -> None:
    """Without variables every switch has its default, comes from no variable and leaves no note."""
    resolved, left = resolve({}, engine)
    values = {name: switch.value for name, switch in resolved.items()}
    assert values == {row.name: row.default_under(engine) for row in SWITCHES}
    assert {switch.variable for switch in resolved.values()} == {None}
    assert left == ()
    # An engine that sets nothing gets no fast row of aiter's, but ATOM, no third party's code and nothing forced.
    assert {name for name, value in values.items() if value} == ({"use_aiter"} if engine == "atom" else set())


def test_an_engines_variables_are_its_own() -> None:
    """An engine's variables mean nothing to another engine; aiter's and this library's mean the same to all."""
    assert value("use_aiter", "vllm", SGLANG_USE_AITER="1") is False
    assert value("use_aiter", "sglang", VLLM_ROCM_USE_AITER="1") is False
    assert value("use_aiter", "generic", SGLANG_USE_AITER="1", VLLM_ROCM_USE_AITER="1") is False
    assert value("disable_preshuffle", "vllm", **{NEW_NAME: "1"}) is False


def test_our_own_switch_comes_before_the_engines() -> None:
    """NSA_CAPS_USE_AITER wins over SGLANG_USE_AITER, and the one that is not read is noted."""
    variables = {"NSA_CAPS_USE_AITER": "0", "SGLANG_USE_AITER": "1"}
    switch = resolve(variables, "sglang")[0]["use_aiter"]
    assert (switch.value, switch.variable, switch.raw) == (False, "NSA_CAPS_USE_AITER", "0")
    assert notes("sglang", **variables) == [
        ("SGLANG_USE_AITER", "is set to '1' too and not read: NSA_CAPS_USE_AITER comes first")
    ]
    assert notes("sglang", NSA_CAPS_USE_AITER="1", SGLANG_USE_AITER="1") == []
    assert [variable for variable, _ in notes("sglang", NSA_CAPS_USE_AITER="1", SGLANG_USE_AITER="0")] == [
        "SGLANG_USE_AITER"
    ]


def test_every_variable_that_is_not_read_is_noted() -> None:
    """Where the first of three variables decides, both of the others are told."""
    found = notes("sglang", NSA_CAPS_DISABLE_PRESHUFFLE="1", **{NEW_NAME: "0", OLD_NAME: "no"})
    assert [variable for variable, _ in found] == [NEW_NAME, OLD_NAME]
    assert all("NSA_CAPS_DISABLE_PRESHUFFLE comes first" in text for _, text in found)


def test_our_own_switch_that_cannot_be_read_leaves_the_engines() -> None:
    """A typing mistake in our own variable is noted and decides nothing."""
    variables = {"NSA_CAPS_USE_AITER": "ture", "SGLANG_USE_AITER": "1"}
    assert value("use_aiter", "sglang", **variables) is True
    ((variable, text),) = notes("sglang", **variables)
    assert variable == "NSA_CAPS_USE_AITER"
    assert "'ture' is neither true" in text


def test_the_new_name_wins_over_the_old() -> None:
    """SGLang's newer name of the off switch decides where both are set, also where it says no."""
    assert value("disable_preshuffle", "sglang", **{NEW_NAME: "0", OLD_NAME: "1"}) is False
    assert value("disable_preshuffle", "sglang", **{NEW_NAME: "1", OLD_NAME: "0"}) is True
    assert value("disable_preshuffle", "sglang", **{NEW_NAME: "what", OLD_NAME: "1"}) is False


def test_the_old_name_is_honoured_and_noted() -> None:
    """SGLang ignores its older name since 0.5.21; we honour it, and say so."""
    switch = resolve({OLD_NAME: "1"}, "sglang")[0]["disable_preshuffle"]
    assert (switch.value, switch.variable) == (True, OLD_NAME)
    ((variable, text),) = notes("sglang", **{OLD_NAME: "1"})
    assert variable == OLD_NAME
    assert "since 0.5.21" in text
    assert NEW_NAME in text


@pytest.mark.parametrize("word", ["yes", "y", "Y"])
def test_a_value_that_two_sites_of_sglang_read_differently(word: str) -> None:
    """SGLANG_USE_AITER=yes is false at one site and true at 15 others: a note says so."""
    texts = [text for _, text in notes("sglang", SGLANG_USE_AITER=word)]
    assert f"{word!r} is false to SGLang get_bool_env_var and true to SGLang EnvBool" in texts


@pytest.mark.parametrize("word", ["true", "True", "TRUE"])
def test_a_value_that_aiter_and_sglang_read_differently(word: str) -> None:
    """AOT=true is false to aiter and true to SGLang: a note where SGLang runs, and none elsewhere."""
    text = f"{word!r} is false to aiter AOT variable and true to SGLang get_bool_env_var"
    assert notes("sglang", **{AOT: word}) == [(AOT, text)]
    assert notes("vllm", **{AOT: word}) == notes("generic", **{AOT: word}) == []


@pytest.mark.parametrize("word", ["1", "0", "false"])
def test_a_value_that_all_read_alike_leaves_no_note(word: str) -> None:
    """Where every consumer reads the same there is nothing to remark."""
    assert notes("sglang", **{AOT: word, "SGLANG_USE_AITER": word}) == []


@pytest.mark.parametrize("word", ["2", "on", " 1"])
def test_a_value_that_sglang_cannot_read_is_noted(word: str) -> None:
    """What is neither true nor false to SGLang is false, and is noted with what it would take."""
    text = f"{word!r} is neither true (true, 1 (any case, not stripped)) nor false to SGLang get_bool_env_var"
    assert any(found.startswith(text) for _, found in notes("sglang", SGLANG_USE_AITER=word))


def test_a_switch_says_where_it_comes_from() -> None:
    """Every switch that is set names its variable, the text as it stands, and whose grammar read it."""
    switch = resolve({"SGLANG_USE_AITER": "True"}, "sglang")[0]["use_aiter"]
    assert (switch.variable, switch.raw, switch.source) == ("SGLANG_USE_AITER", "True", "SGLang get_bool_env_var")


def test_a_row_is_named_as_text() -> None:
    """NSA_CAPS_ROW carries a name, stripped of blanks around it."""
    assert value("row", "sglang", NSA_CAPS_ROW=" portable ") == "portable"


def test_an_unknown_engine_is_an_error() -> None:
    """An engine without switches here is refused by name, with those that are known and the way for one's own."""
    with pytest.raises(
        UnknownEngineError, match="'trtllm' is not known; known are sglang, vllm, generic, atom"
    ) as caught:
        resolve({}, "trtllm")
    assert "generic" in str(caught.value)
    with pytest.raises(UnknownEngineError):
        probe(Host({}, (), {}, "/nowhere"), engine="trtllm")


def test_every_reading_has_a_grammar() -> None:
    """Every grammar that a variable names exists, and every grammar is somebody's."""
    readings = [reading for row in SWITCHES for engine in ENGINES for reading in row.readings(engine)]
    named = {grammar for reading in readings for grammar in (reading.grammar, *reading.also)}
    assert named == set(GRAMMARS)


def test_the_variables_are_those_of_the_readings() -> None:
    """The probe carries every variable that a switch may come from, once, and no other."""
    environ = {**dict.fromkeys(VARIABLES, "x"), "HOME": "/root", "PATH": "/bin"}
    caps = probe(Host(environ, (), {}, "/nowhere"))
    assert set(caps.variables) == set(VARIABLES)
    assert len(VARIABLES) == len(set(VARIABLES))


@pytest.mark.parametrize(
    ("name", "engine", "decided", "expected"),
    [
        ("use_aiter", "sglang", None, "SGLANG_USE_AITER"),
        ("use_aiter", "vllm", None, "VLLM_ROCM_USE_AITER"),
        ("use_aiter", "generic", None, "NSA_CAPS_USE_AITER"),
        ("use_aiter", "sglang", "NSA_CAPS_USE_AITER", "NSA_CAPS_USE_AITER"),
        ("disable_preshuffle", "sglang", OLD_NAME, OLD_NAME),
        ("disable_preshuffle", "sglang", None, NEW_NAME),
        ("aiter_aot", "vllm", None, AOT),
        ("row", "sglang", None, "NSA_CAPS_ROW"),
    ],
)
def test_the_variable_that_one_sets(name: str, engine: str, decided: str | None, expected: str) -> None:
    """A fix names the variable that decided, else the engine's own, else this library's."""
    assert variable_to_set(name, engine, decided) == expected


@pytest.mark.parametrize(
    ("named", "installed", "meant", "words"),
    [
        ("", (), "sglang", None),
        ("", ("vllm",), "vllm", None),
        ("", ("vllm", "atom"), "sglang", "vllm and atom are installed: sglang is taken"),
        ("", ("vllm", "atom", "sglang"), "sglang", "vllm and atom and sglang are installed: sglang is taken"),
        (" atom ", ("vllm",), "atom", None),
        ("other", ("vllm",), "vllm", f"'other' is no engine known here ({', '.join(ENGINES)}): vllm is taken"),
        ("other", (), "sglang", f"'other' is no engine known here ({', '.join(ENGINES)}): sglang is taken"),
    ],
)
def test_which_engine_is_meant(named: str, installed: tuple[str, ...], meant: str, words: str | None) -> None:
    """The one that is named, else the only one that is installed, else SGLang; a note where another may be meant."""
    engine, notes = engine_meant({"NSA_CAPS_ENGINE": named}, installed)
    assert engine == meant
    assert [note.text.partition("; NSA_CAPS_ENGINE")[0] for note in notes] == ([] if words is None else [words])


def test_other_variables_leave_the_notes_of_others() -> None:
    """Of a machine with other variables the notes on its switches are made anew, and no other probe's is lost."""
    kept = (Note("devices", "/a", "a"), Note("zzz", "/z", "z"))
    caps = Capabilities(notes=(kept[0], Note("switches", "OLD", "of variables that are gone"), kept[1]))
    found = with_variables(caps, {"SGLANG_USE_AITER": "perhaps"}, "sglang").notes
    assert found[:2] == kept
    assert [note.source for note in found[2:]] == ["SGLANG_USE_AITER"]
