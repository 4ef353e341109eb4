"""The environment switches, each read by its consumer's own grammar: a table and its reader, pure.

A value that two consumers read differently becomes a note. The grammars are those of the sources named beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from nsa_caps.capabilities.engines import ENGINE_TABLE, ENGINES, Reading
from nsa_caps.capabilities.records import Capabilities, Note, Switch
from nsa_caps.errors import NsaCapsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "ENGINES",
    "GRAMMARS",
    "SWITCHES",
    "VARIABLES",
    "Grammar",
    "Reading",
    "SwitchRow",
    "UnknownEngineError",
    "engine_meant",
    "resolve",
    "variable_to_set",
]


class UnknownEngineError(NsaCapsError, ValueError):
    """The engine named has no switches here."""


class _Unreadable:
    """What a grammar answers where its consumer falls back to the default, or fails (`fails`)."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails


_DEFAULT = _Unreadable(fails=False)
_FAILS = _Unreadable(fails=True)
_Parsed: TypeAlias = "bool | str | _Unreadable"


class Grammar(NamedTuple):
    """How one consumer reads a variable's text.

    Attributes:
        name: the consumer's own name for it.
        true: what it takes for true, in words.
        false: what it takes for false, in words.
        other: what it does with anything else.
        parse: the reading itself.
    """

    name: str
    true: str
    false: str
    other: str
    parse: Callable[[str], _Parsed]


def _words(true: tuple[str, ...], false: tuple[str, ...], *, strip: bool = False) -> Callable[[str], _Parsed]:
    def parse(raw: str) -> _Parsed:
        word = (raw.strip() if strip else raw).lower()
        return True if word in true else False if word in false else _DEFAULT

    return parse


def _true_or_one(raw: str) -> _Parsed:
    return raw.lower() in ("true", "1")


def _exactly_one(raw: str) -> _Parsed:
    return raw == "1"


def _integer(raw: str) -> _Parsed:
    try:
        return int(raw) != 0
    except ValueError:
        return _FAILS


def _last_of_list(raw: str) -> _Parsed:
    return "" if raw == "native" else raw.split(";")[-1] or _FAILS


def _text(raw: str) -> _Parsed:
    return raw.strip()


_OWN_TRUE, _OWN_FALSE = ("1", "true", "yes", "y", "on"), ("0", "false", "no", "n", "off")
_ALL_GRAMMARS = (
    Grammar("nsa_caps bool", f"{', '.join(_OWN_TRUE)} (any case)", ", ".join(_OWN_FALSE), "ignored, with a note",
        _words(_OWN_TRUE, _OWN_FALSE, strip=True)),
    Grammar("nsa_caps text", "the text, stripped", "", "", _text),
    # sglang.srt.utils.get_bool_env_var, 0.5.9 to 0.5.23
    Grammar("SGLang get_bool_env_var", "true, 1 (any case, not stripped)", "false, 0", "false, warns once",
        _words(("true", "1"), ("false", "0"))),
    # sglang.srt.environ.EnvBool
    Grammar("SGLang EnvBool", "true, 1, yes, y (any case)", "false, 0, no, n", "the default, warns",
        _words(("true", "1", "yes", "y"), ("false", "0", "no", "n"))),
    # vllm.envs lower-cases the text and looks for true and 1
    Grammar("vLLM envs", "true, 1 (any case)", "everything else", "", _true_or_one),
    # aiter/ops/triton/attention/pa_mqa_logits.py
    Grammar("aiter AOT variable", "exactly 1", "everything else", "", _exactly_one),
    # aiter/__init__.py since cc31a1a7
    Grammar("aiter import variables", "exactly 1", "everything else", "", _exactly_one),
    # aiter/ops/triton/gluon/__init__.py since 3b2e6f48 takes int() of it
    Grammar("aiter integer", "a non-zero integer", "0", "ValueError at import, where Triton is too old", _integer),
    # aiter/jit/utils/chip_info.py get_gfx_custom_op_core
    Grammar("aiter GPU_ARCHS", "the last entry of a ; list, as it stands", "native", "KeyError", _last_of_list),
)  # fmt: skip
GRAMMARS: Mapping[str, Grammar] = {grammar.name: grammar for grammar in _ALL_GRAMMARS}


class SwitchRow(NamedTuple):
    """One switch: what it decides, its default, and the variables it comes from, the first one set deciding.

    Attributes:
        name: its name in `Capabilities.switches`.
        default: its value where no variable is set.
        decides: what it decides, in words.
        own: the variable of this library, which comes before any engine's; those stand in the table of engines.
        always: variables read whichever engine runs.
    """

    name: str
    default: bool | str
    decides: str
    own: Reading | None = None
    always: tuple[Reading, ...] = ()

    def readings(self, engine: str) -> tuple[Reading, ...]:
        """Return the variables that decide this switch under an engine, the strongest first."""
        own = (self.own,) if self.own else ()
        return own + ENGINE_TABLE[engine].variables.get(self.name, ()) + self.always

    def default_under(self, engine: str) -> bool | str:
        """Return the value where no variable is set."""
        return ENGINE_TABLE[engine].defaults.get(self.name, self.default)


SWITCHES: tuple[SwitchRow, ...] = (
    SwitchRow("use_aiter", False, "whether aiter's fast rows are enabled",
        own=Reading("NSA_CAPS_USE_AITER", "nsa_caps bool")),
    SwitchRow("disable_preshuffle", False, "turns the tiled layout off",
        own=Reading("NSA_CAPS_DISABLE_PRESHUFFLE", "nsa_caps bool")),
    SwitchRow("row", "", "forces one row", own=Reading("NSA_CAPS_ROW", "nsa_caps text")),
    SwitchRow("row_force", False, "takes the forced row even where it is refused",
        own=Reading("NSA_CAPS_ROW_FORCE", "nsa_caps bool")),
    SwitchRow("arch", "", "states the GPUs where they cannot be read: one arch, or a list with commas",
        own=Reading("NSA_CAPS_ARCH", "nsa_caps text")),
    SwitchRow("plugins", False, "loads third-party probes and rows", own=Reading("NSA_CAPS_PLUGINS", "nsa_caps bool")),
    SwitchRow("aiter_aot", False, "makes aiter load its ahead-of-time gluon kernels",
        always=(Reading("AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS", "aiter AOT variable",
            also=("SGLang get_bool_env_var",)),)),
    SwitchRow("aiter_system_triton", False, "lets aiter go on with a Triton below its gluon minimum",
        always=(Reading("AITER_USE_SYSTEM_TRITON", "aiter integer", keep_blank=True),)),
    SwitchRow("aiter_triton_only", False, "keeps all but Triton kernels out of aiter, the cache kernels among it",
        always=(Reading("AITER_TRITON_ONLY", "aiter import variables"),)),
    SwitchRow("aiter_aot_import", False, "imports aiter as its own ahead-of-time builds do, without kernels",
        always=(Reading("AITER_AOT_IMPORT", "aiter import variables"),)),
    SwitchRow("no_fused_indexer", False, "keeps SGLang from aiter's fused writer of index keys on gfx950"),
    SwitchRow("gpu_archs", "", "the arch that aiter builds for; empty: it asks rocminfo",
        always=(Reading("GPU_ARCHS", "aiter GPU_ARCHS", keep_blank=True),)),
    SwitchRow("engine", "", "which engine is meant where none is named",
        own=Reading("NSA_CAPS_ENGINE", "nsa_caps text")),
    SwitchRow("install", False, "lets the entry points put this library into the engine that runs",
        own=Reading("NSA_CAPS_INSTALL", "nsa_caps bool")),
    SwitchRow("torch_logits", False, "makes the engine score with plain torch"),
)  # fmt: skip

VARIABLES: tuple[str, ...] = tuple(
    dict.fromkeys(
        reading.variable for row in SWITCHES for engine in ENGINES for reading in row.readings(engine)
    )
)  # fmt: skip


def resolve(variables: Mapping[str, str], engine: str) -> tuple[dict[str, Switch], tuple[Note, ...]]:
    """Return every switch as `engine` and aiter read it, with the notes that reading leaves.

    Args:
        variables: the text of the variables that are set.
        engine: one of `ENGINES`.

    Raises:
        UnknownEngineError: the engine is none of `ENGINES`.
    """
    if engine not in ENGINES:
        raise UnknownEngineError(
            f"engine {engine!r} is not known; known are {', '.join(ENGINES)}. An engine of your own takes 'generic'"
            " and this library's NSA_CAPS_* switches."
        )
    switches: dict[str, Switch] = {}
    notes: list[Note] = []
    for row in SWITCHES:
        switches[row.name] = _resolve_row(row, variables, engine, notes)
    return switches, tuple(notes)


def _resolve_row(row: SwitchRow, variables: Mapping[str, str], engine: str, notes: list[Note]) -> Switch:
    decided: Switch | None = None
    for reading in row.readings(engine):
        raw = variables.get(reading.variable)
        if raw is None or not (raw.strip() or reading.keep_blank):
            continue
        if decided is not None:
            if raw != decided.raw:
                text = f"is set to {raw!r} too and not read: {decided.variable} comes first"
                notes.append(Note("switches", reading.variable, text))
            continue
        decided = _read(row, reading, raw, engine, notes)
    return decided or Switch(row.name, row.default_under(engine), None, None, "default")


def _read(row: SwitchRow, reading: Reading, raw: str, engine: str, notes: list[Note]) -> Switch | None:
    grammar = GRAMMARS[reading.grammar]
    parsed = grammar.parse(raw)
    value = _value(parsed, row.default_under(engine))
    if parsed is _DEFAULT and grammar.other:
        notes.append(
            Note(
                "switches",
                reading.variable,
                f"{raw!r} is neither true ({grammar.true}) nor false to {grammar.name}: {grammar.other}",
            )
        )
        if reading == row.own:
            return None
    # SGLang's own reading of a variable matters only where SGLang runs.
    for other in (name for name in reading.also if engine == "sglang" or not name.startswith("SGLang")):
        seen = _value(GRAMMARS[other].parse(raw), row.default_under(engine))
        if seen != value:
            text = f"{raw!r} is {str(value).lower()} to {grammar.name} and {str(seen).lower()} to {other}"
            notes.append(Note("switches", reading.variable, text))
    if reading.remark:
        notes.append(Note("switches", reading.variable, reading.remark))
    return Switch(row.name, value, reading.variable, raw, reading.grammar)


def _value(parsed: _Parsed, default: bool | str) -> bool | str | None:
    return parsed if not isinstance(parsed, _Unreadable) else None if parsed.fails else default


def engine_meant(variables: Mapping[str, str], installed: Iterable[str]) -> tuple[str, tuple[Note, ...]]:
    """Return the engine that is meant where none is named: NSA_CAPS_ENGINE's, the only one installed, or SGLang.

    Args:
        variables: the text of the variables that are set.
        installed: the names of the engines that are installed.

    Returns:
        Its name, and a note where somebody may have meant another.
    """
    named, found = variables.get("NSA_CAPS_ENGINE", "").strip(), list(installed)
    if named in ENGINES:
        return named, ()
    (engine,) = found if len(found) == 1 else ("sglang",)
    if named:
        text = f"{named!r} is no engine known here ({', '.join(ENGINES)}): {engine} is taken"
        return engine, (Note("switches", "NSA_CAPS_ENGINE", text),)
    if len(found) > 1:
        text = f"{' and '.join(found)} are installed: {engine} is taken; NSA_CAPS_ENGINE names another"
        return engine, (Note("switches", "the engines", text),)
    return engine, ()


def variable_to_set(name: str, engine: str, decided: str | None) -> str:
    """Return the variable that changes a switch: the one that decided it, else the engine's, else our own."""
    if decided is not None:
        return decided
    (row,) = (row for row in SWITCHES if row.name == name)
    readings = row.readings(engine)
    others = [reading for reading in readings if reading is not row.own]
    return (others or list(readings))[0].variable


def with_variables(caps: Capabilities, variables: Mapping[str, str], engine: str) -> Capabilities:
    """Return the machine with these variables, as `engine` reads them.

    Raises:
        UnknownEngineError: the engine has no switches here.
    """
    switches, notes = resolve(variables, engine)
    kept = tuple(note for note in caps.notes if note.probe != "switches")
    return caps.replace(engine=engine, variables=variables, switches=switches, notes=kept + notes)
