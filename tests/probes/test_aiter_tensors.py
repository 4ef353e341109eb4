"""What the reader says of sizes and strides of tensors: the oracle is torch, for pages of three sizes."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest

from nsa_caps.probes.aiter.calling import call_function
from nsa_caps.probes.aiter.expressions import evaluate
from nsa_caps.probes.aiter.run import Run
from nsa_caps.probes.aiter.space import Opaque, Space, Thing, choice, lifted, parts_of, text_of
from nsa_caps.probes.aiter.values import Frame, Symbol, Tensor

torch: Any = pytest.importorskip("torch")
PAGES = (1, 16, 64)
ROWS = 6
SPACE = Space({"page": PAGES})
# Types that differ between pages: of one width, and of two.
BYTES = {1: "uint8", 16: "float8_e4m3fn", 64: "float8_e4m3fnuz"}
MIXED = {1: "uint8", 16: "float32", 64: "float32"}


def read(expression: str) -> tuple[Run, Any]:
    """Return a run, and what it comes to in an expression of `kv`, `w`, `page`, `rows` and types."""
    page = SPACE.choice("page")
    names = {
        "kv": Tensor("kv", (ROWS, page, 1, 132), lifted(lambda each: each * 132, [page], SPACE.all, "page*132")),
        "w": Tensor("w", (Opaque("rows"), 132)),
        "page": page,
        "rows": ROWS,
        "torch": Symbol("torch"),
        "dtypes": Opaque("aiter.dtypes"),
        "bytes": _types(BYTES),
        "mixed": _types(MIXED),
    }
    run = Run(SPACE, None, call_function)
    return run, evaluate(run, _parsed(expression), Frame(names, names, "it.py", "it", "it"))


def _types(names: dict[int, str]) -> Any:
    return choice([(SPACE.has("page", page), Symbol(f"torch.{name}")) for page, name in names.items()], "types")


def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def real(expression: str, page: int) -> tuple[str | None, Any]:
    """Return the error that torch raises, if any, and what it comes to, for one page size."""
    names = {
        "kv": torch.empty((ROWS, page, 1, 132), dtype=torch.uint8),
        "w": torch.empty((5, 132)),
        "page": page,
        "rows": ROWS,
        "torch": torch,
        "dtypes": SimpleNamespace(fp8=torch.float8_e4m3fnuz),
        "bytes": getattr(torch, BYTES[page]),
        "mixed": getattr(torch, MIXED[page]),
    }
    try:
        return None, eval(compile(expression, "it.py", "eval"), names)  # noqa: S307 - of these tests, and harmless
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return type(error).__name__, None


def known(expression: str) -> int:
    """Return how many numbers and errors are known on all pages together, after holding each against torch's."""
    count = 0
    run, found = read(expression)
    for page in PAGES:
        mask = SPACE.has("page", page)
        error, truth = real(expression, page)
        raised = [event.detail for event in run.events if event.must & mask]
        if error is not None:
            assert raised in ([], [error]), page
            count += len(raised)
            continue
        assert raised == [], page
        one = (found, truth)
        for said, is_so in zip(*one, strict=True) if isinstance(found, tuple) else [one]:
            ((_, here),) = parts_of(said, mask)
            if not isinstance(here, (Opaque, Thing)):
                count += 1
                assert here == is_so, (page, here, is_so)
    return count


# An expression, and how many of its numbers are known for each page.
SHOWN = {
    "kv.size()": 4,
    "kv.shape": 4,
    "kv.size(0)": 1,
    "kv.size(1)": 1,
    "kv.size(3)": 1,
    "kv.size(-1)": 1,
    "kv.size(-4)": 1,
    "kv.size(4)": 1,
    "kv.size(-5)": 1,
    "kv.size()[1]": 1,
    "w.size()": 1,
    "w.size(0)": 0,
    "kv.size(dim=1)": 0,
    "kv.stride(0)": 1,
    "kv.stride(1)": 0,
    "kv.stride()": 0,
    "kv.stride(dim=0)": 0,
    "w.stride(0)": 0,
    "kv.numel()": 0,
    "kv.dim()": 0,
    "kv.view(dtypes.fp8).stride(0)": 1,
    # The last axis is cut.
    "kv[..., :128].stride(0)": 1,
    "kv[..., 128:].stride(0)": 1,
    "kv[..., 1:5].size()": 3,
    "kv.view(-1, page * 132)[:, :128].stride(0)": 1,
    "kv.view(-1, page * 132)[:, :128].size()": 1,
    # Another axis is cut, or not only that one.
    "kv[:, :1].size()": 0,
    "kv[:, :1].stride(0)": 0,
    "kv[0, ..., :4].stride(0)": 0,
    "kv[0, ..., :4].size()": 0,
    "kv[..., 0, :4].size()": 0,
    "kv[None, ..., :4].size(0)": 0,
    "kv[..., 5].size()": 0,
    "kv[..., ::2].size()": 0,
    "kv[...].stride(0)": 0,
    "kv[()].stride(0)": 0,
    "kv[0].stride(0)": 0,
    "kv[1:].stride(0)": 0,
    # As another type.
    "kv.view(torch.float32).stride(0)": 1,
    "kv.view(torch.float32).size()": 3,
    "kv.view(torch.float32).view(torch.uint8).stride(0)": 1,
    "kv.view(torch.float32).view(torch.uint8).size()": 3,
    "kv.view(torch.float32).view(torch.float32).stride(0)": 1,
    "kv.view(torch.uint8).size()": 4,
    "kv.view(torch.uint8).stride(0)": 1,
    "kv.view(torch.float8_e4m3fn).size()": 4,
    "kv.view(torch.float8_e4m3fnuz).stride(0)": 1,
    "kv.view(bytes).stride(0)": 1,
    "kv.view(bytes).size()": 4,
    "kv.view(torch.int16).stride(0)": 0,
    "kv.view(torch.int16).size()": 3,
    "kv.view(torch.int16).view(torch.uint8).stride(0)": 0,
    "kv.view(torch.int16).view(torch.int16).stride(0)": 0,
    "kv.view(mixed).stride(0)": 0,
    "kv.view(mixed).size()": 3,
    "kv.view(dtype=torch.float32).size()": 0,
    "kv.view(dtype=torch.float32).stride(0)": 0,
    "w.view(torch.uint8).stride(0)": 0,
    "kv[..., 128:].view(torch.float32).stride(0)": 1,
    "kv.view(-1, page * 132)[..., page * 128:].view(torch.float32).stride(0)": 1,
    # In other sizes.
    "kv.view(-1, page * 132).stride(0)": 1,
    "kv.view(-1, page * 132).size()": 2,
    "kv.view(-1, page * 264).size(0)": 0,
    "kv.view(-1, 132).size(0)": 0,
    "w.view(-1, 132).size(0)": 0,
    "w.view(-1, 132).stride(0)": 1,
    "kv.view(-1, 66).stride(0)": 1,
    "kv.view(-1, 66).size(1)": 1,
    "kv.view(rows, -1).stride(0)": 1,
    "kv.view(rows, -1).size()": 1,
    "kv.view(rows, -1).size(1)": 0,
    "kv.view(rows, page, 132).size()": 3,
    "kv.view(rows, page, 132).stride(0)": 1,
    "kv.view(6, page, -1).stride(0)": 1,
    "kv.view(3, -1).stride(0)": 0,
    "kv.view(3, -1).size()": 1,
    "kv.view(-1).size()": 0,
    "kv.view(-1).stride(0)": 0,
    "kv.view(-1, page, 132).size()": 2,
    "kv.view(-1, page, 132).stride(0)": 0,
    "kv.view(page * 132, -1).stride(0)": 0,
    "kv.view((rows, -1)).stride(0)": 0,
    "kv.view((rows, -1)).size()": 0,
    "kv.view([rows, -1]).size()": 0,
    "kv.view(-1, page * 132).view(torch.float32).stride(0)": 1,
    "kv.view(torch.float32).view(-1, page * 33).view(torch.uint8).stride(0)": 1,
}


@pytest.mark.parametrize("expression", SHOWN)
def test_sizes_and_strides_are_those_of_torch(expression: str) -> None:
    """What is known is what torch says, on each page size; what torch raises is raised, or nothing is known."""
    assert known(expression) == SHOWN[expression] * len(PAGES)


# Two that hand a kernel something else, which the digest of a launch must tell apart.
APART = (
    ("kv[..., :128]", "kv[..., 128:]"),
    ("kv[..., 1:128]", "kv[..., :128]"),
    ("kv[..., :128]", "kv[..., :64]"),
    ("kv[..., :128]", "kv[..., :128:2]"),
    ("kv[..., :128]", "kv[:, :128]"),
    ("kv.stride(0)", "kv.stride(1)"),
    ("kv.view(torch.float32)", "kv.view(torch.uint8)"),
    ("kv.view(-1, 66)", "kv.view(-1, 132)"),
    ("w.size(0)", "kv.view(-1, 66).size(0)"),
    ("w.stride(0)", "w.stride(1)"),
    ("kv.stride(dim=0)", "kv.stride(dim=1)"),
    ("w.contiguous()", "w.squeeze()"),
)


@pytest.mark.parametrize(("one", "other"), APART)
def test_what_is_not_the_same_has_another_text(one: str, other: str) -> None:
    """By its text an argument of a launch is known as one of history's."""
    assert text_of(read(one)[1]) != text_of(read(other)[1])


@pytest.mark.parametrize("expression", ["kv.tolist()", "kv.cpu()", "kv.size.nothing()", "w.view_as(kv)"])
def test_a_method_that_is_not_known_leaves_nothing_sure(expression: str) -> None:
    """It may read the GPU, or raise."""
    run, _ = read(expression)
    assert [(event.kind, event.file, event.line) for event in run.events] == [("unaccounted", "it.py", 1)]
    assert run.must == 0


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("kv[0].size()", "kv[?].size()"),
        ("len(kv[0])", "len(kv[?])"),
        ("len(obj=kv)", "len(obj=kv)"),
        ("'ab'.count(kv[0])", "'ab'.count(kv[?])"),
        ("{1: 2}.values()", "{1:2}.values()"),
        ("{1: 2}.get(kv[0])", "{1:2}.get(kv[?])"),
        ("kv.size(dim=0)", "kv.size(dim=0)"),
    ],
)
def test_what_is_asked_of_what_is_not_known_is_not_known(expression: str, text: str) -> None:
    """It is called what it was made of, and nothing happens."""
    run, found = read(expression)
    assert (run.events, type(found), text_of(found)) == ([], Opaque, text)


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("torch.cuda.size()", "a call of torch.cuda.size"),
        ("kv[0].tolist()", "a call of kv[?].tolist"),
        ("{1: 2}.pop(1)", "a call of .pop"),
        ("'ab'.split(sep='b')", "a call of .split"),
        ("page()", "a call of what is no function"),
        (f"torch.{'a' * 90}()", f"a call of torch.{'a' * 74}"),
    ],
)
def test_a_call_that_is_not_known_is_told(expression: str, what: str) -> None:
    """By at most eighty characters of what is called."""
    run, _ = read(expression)
    assert {(event.kind, event.detail) for event in run.events} == {("unaccounted", what)}
