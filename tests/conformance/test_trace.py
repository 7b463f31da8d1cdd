"""A trace of a checkpoint says in which part of its model a port departs first."""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    GRU,
    LanguageModel,
    from_pretrained,
    mLSTMState,
    save_pretrained,
    sLSTM,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
)
from numpy_xlstm.cli import main
from numpy_xlstm.conformance import (
    SMALL,
    Case,
    from_layer,
    read_trace,
    read_vectors,
    trace,
    verify,
    write_vectors,
)
from numpy_xlstm.conformance.bounds import in_dtype, stored
from numpy_xlstm.conformance.bugs import BUGS, results
from numpy_xlstm.conformance.demo import DEMOS, demo
from numpy_xlstm.conformance.files import write_tensors
from numpy_xlstm.conformance.inside import inside
from numpy_xlstm.conformance.trace import constants, digest
from numpy_xlstm.errors import CheckpointError, NonFiniteError, OptionError
from numpy_xlstm.layers import SoftCap
from numpy_xlstm.models import large
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves
from tests.conformance.shared import narrowed
from tests.models.build import lm_config

IDS = np.array([[3, 1, 4, 1, 5]])
PAGE = Path(__file__).parents[2].joinpath("docs", "trace.md").read_text("utf-8")
MIXED = xLSTMLMModel(lm_config(embedding_dim=16, vocab_size=11, bias=True), dtype="float32", rng=0)
LARGE = xLSTMLarge(
    xLSTMLargeConfig(16, num_heads=2, num_blocks=2, vocab_size=11), dtype="float32", rng=0
)
RNG = np.random.default_rng(2)
LIVE = LARGE.with_params(
    {
        name: (array + 0.3 * RNG.standard_normal(array.shape) + 3 * ("fgate" in name)).astype("f4")
        for name, array in LARGE.params.items()
    }
)
"""A model whose gates depend on the tokens, with forget gates near 1."""


@cache
def traced(model: Any, dtype: str | None = None, *, gradients: bool = False) -> tuple[Case, ...]:
    """Return the trace of a model, the same one in every call."""
    return tuple(trace(model, IDS, dtype, gradients=gradients))


def changed(model: Any, name: str, change: Callable[[Any], Any]) -> Any:
    """Return a model with one other parameter."""
    return model.with_params({**model.params, name: change(model.params[name])})


def part_of(model: Any, name: str) -> Any:
    """Return the part that a case is of."""
    if name.startswith("block."):
        return model.body.blocks[int(name.removeprefix("block."))]
    cap = SoftCap(model.cap) if model.cap else None
    found = {"embedding": model.embedding, "head": model.head, "cap": cap, "model": model}
    return found.get(name, model.body.norm if name == "norm" else model.body)


def port(model: Any) -> Any:
    return from_layer(lambda case: part_of(model, case.id))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("model", [MIXED, LARGE], ids=["mixed", "large"])
def test_the_block_that_is_wrong_is_named(model: Any, gradients: bool, tmp_path: Path) -> None:
    cases = list(write_vectors(tmp_path, traced(model, gradients=gradients)))
    read = read_trace(tmp_path)
    blocks = [f"block.{n}" for n in range(len(model.body.blocks))]
    ends = ["head", "cap", "model"] if model is LARGE else ["head", "model"]
    assert [case.id for case in read] == ["embedding", *blocks, "norm", *ends]
    heads = {case.id: case.options["num_heads"] for case in read}
    assert {heads[name] for name in (*blocks, "model")} == {2}
    assert ("dstate0.m" in cases[2].expected) == (gradients and model is LARGE)
    for chosen in (cases, read):
        assert verify(chosen, port(model)).passed
    assert verify(read, port(model), forward=True).passed
    memory = "final.m" if model is LARGE else "final.slstm.h, final.slstm.c"
    name = "mlstm_layer.igate_preact.bias" if model is LARGE else "xlstm.slstm_cell._bias_"
    prefix = next(n for n in model.params if n.endswith(f"1.{name}"))
    report = verify(read, port(changed(model, prefix, lambda array: array + 0.1)))
    kind = type(model.body.blocks[1]).__name__
    (line,) = report.diagnosis
    assert line.startswith(f"the port departs first in block.1 ({kind}): final.")
    assert memory in line
    assert {v.case.id for v in report.verdicts if not v.passed} == {"block.1", "model"}


def test_the_tensor_that_is_wrong_is_named() -> None:
    cases = traced(MIXED, gradients=True)
    name = next(n for n in MIXED.params if n.endswith("0.xlstm.learnable_skip"))
    skipped = changed(MIXED, name, lambda array: 1.01 * array)
    (line,) = verify(cases, port(skipped), forward=True).diagnosis
    assert line == "the port departs first in block.0 (mLSTMBlock): y"

    def twice(case: Case) -> dict[str, Any]:
        results = dict(port(MIXED)(case))
        if case.id in ("block.0", "block.2"):
            results["grads.xlstm_norm.weight"] = 2 * results["grads.xlstm_norm.weight"]
        return results

    (line,) = verify(cases, twice).diagnosis
    assert line == (
        "the port departs first in block.0 (mLSTMBlock): grads.xlstm_norm.weight; block.2 has "
        "errors too"
    )


def test_parts_that_are_joined_in_another_way() -> None:
    uncapped = xLSTMLarge(LARGE.config, dtype="float32", rng=0).with_params(LARGE.params)
    uncapped.cap = 1.0
    cases = traced(LARGE)
    (line,) = verify(cases, port(uncapped)).diagnosis
    assert line == "the port departs first in cap (SoftCap): y"
    (line,) = verify(cases, port(uncapped), skip=["cap"]).diagnosis
    assert line == (
        "the port departs first in model (xLSTMLarge): y; right are embedding, block.0, block.1, "
        "norm, head: if these are all its parts, the port joins them differently, or their errors "
        "below the bounds add up"
    )
    (line,) = verify(cases, port(uncapped), skip=[case.id for case in cases[:-1]]).diagnosis
    assert line.endswith("(xLSTMLarge): y; none of its parts was checked and is right")
    (*_, whole) = traced(MIXED)
    (line,) = verify([whole], lambda case: {n: a + 1 for n, a in case.expected.items()}).diagnosis
    assert "final.1.slstm.c … and 7 more; none" in line


def by_the_formula(q: Array, k: Array, v: Array, i: Array, f: Array, eps: float) -> Any:
    """Return h, C, n and m by the formula of port-xlstm-7b.md, each exponent in float32."""
    log_f = np.minimum(f, 0) - np.log1p(np.exp(-np.abs(f)))
    C, n, m = np.zeros((*k.shape[:2], k.shape[3], v.shape[3]), "f4"), 0 * k[:, :, 0], -np.inf
    h, k = np.empty_like(v), k / np.sqrt(np.float32(k.shape[3]))
    for t in range(k.shape[2]):
        A = (log_f[..., t] + m).astype("f4")
        m = np.maximum(A, i[..., t])
        w, by = np.exp(i[..., t] - m)[..., None] * k[:, :, t], np.exp(A - m)[..., None]
        C, n = by[..., None] * C + w[..., None] * v[:, :, t, None], by * n + w
        floor = np.maximum(np.abs((q[:, :, t] * n).sum(-1)), np.exp(-m)) + np.float32(eps)
        h[:, :, t] = np.einsum("bhkv,bhk->bhv", C, q[:, :, t]) / floor[..., None]
    return h, C, n, m


def by_the_official_kernel(*inputs: Any) -> Any:
    """Return the same by the recurrent kernel of ``mlstm_kernels``."""
    torch: Any = pytest.importorskip("torch")
    torch.set_num_threads(1)  # the heads are tiny
    *tensors, eps = map(torch.tensor, inputs)
    native = pytest.importorskip("mlstm_kernels.torch.recurrent.native_sequence")
    B, NH, _, DK = tensors[0].shape
    empty = (tensors[0].new_zeros(B, NH, *last) for last in ((DK, tensors[2].shape[3]), (DK,)))
    start = dict(zip(("c_initial", "n_initial"), empty, strict=True))
    start["m_initial"] = tensors[0].new_full((B, NH, 1), -np.inf)
    run = native.mlstm_recurrent_sequence__native_fw
    h, (C, n, m) = run(*tensors, **start, return_last_states=True, eps=float(eps))
    return h.numpy(), C.numpy() / DK**0.5, n.numpy() / DK**0.5, m.numpy()[..., 0]


MISTAKES: dict[str, Callable[..., Any]] = {
    "keys are not divided": lambda q, k, v, i, f: (q, 2 * k, v, i, f),
    "queries are keys": lambda q, k, v, i, f: (k, q, v, i, f),
    "gates are exchanged": lambda q, k, v, i, f: (q, k, v, f, i),
    "a bias is off": lambda q, k, v, i, f: (q, k, v, i, f + np.float32(0.05)),
}


@pytest.mark.parametrize("memory", [by_the_formula, by_the_official_kernel])
@pytest.mark.parametrize(
    ("model", "T"),
    [
        *((LARGE, T) for T in (11, 60, 400)),
        pytest.param(LARGE, 2000, marks=pytest.mark.long),
        (LIVE, 1000),
    ],
)
def test_float32_is_right_over_many_steps(
    model: Any, T: int, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gates of a new model are constant, so that log f + m is rounded alike at each step.

    If all tokens are the same, the state of any model is, too.
    """
    ids = np.random.default_rng(0).integers(11 if model is LARGE else 1, size=(1, T))
    cases = list(trace(model, ids))

    def forward(change: Any, *inputs: Array, eps: float, **options: Any) -> Any:
        by_head = [np.moveaxis(a.reshape(*a.shape[:2], 2, -1), 2, 1).copy() for a in inputs[:5]]
        h, *after = memory(*change(*by_head[:3], *(a[..., 0] for a in by_head[3:])), eps)
        return np.moveaxis(h, 1, 2).reshape(inputs[2].shape), mLSTMState(*after), None

    mistakes = MISTAKES if memory is by_the_formula else ()
    for mistake in (None, *mistakes):
        change = MISTAKES.get(mistake or "", lambda *inputs: inputs)
        monkeypatch.setattr(large, "forms", SimpleNamespace(forward=partial(forward, change)))
        report = verify(cases, port(model))
        wrong = {each.case.id for each in report.verdicts if not each.passed}
        assert ("block.0" in wrong) if mistake else not wrong, mistake


def test_some_parts_and_the_last_logits() -> None:
    every = {case.id: case for case in traced(LARGE)}
    some = list(trace(LARGE, IDS, parts=("model", "block.1", "head", "cap"), last_logits=2))
    assert [case.id for case in some] == ["block.1", "head", "cap", "model"]
    for case in some:
        whole = every[case.id]
        for name, array in case.expected.items():
            last = slice(-2, None) if name == "y" and case.id != "block.1" else slice(None)
            np.testing.assert_array_equal(array, whole.expected[name][:, last])

    def answer(case: Case) -> dict[str, Any]:
        results = dict(port(LARGE)(case))
        if "last_logits" in case.options:
            results["y"] = results["y"][:, -case.options["last_logits"] :]
        return results

    assert verify(some, answer).passed
    assert not verify(some, port(LARGE)).passed
    with pytest.raises(OptionError, match=r"parts: expected some of embedding, .*; got 'block\.2'"):
        list(trace(LARGE, IDS, parts=["block.2"]))
    with pytest.raises(OptionError, match=r"last_logits: expected .*; got 0"):
        list(trace(LARGE, IDS, last_logits=0))


def test_a_trace_knows_its_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the numbers: the format, the kind of file and 16 bits in it do not matter."""
    pytest.importorskip("ml_dtypes")
    monkeypatch.chdir(tmp_path)
    rounded = LARGE.with_params(in_dtype(LARGE.params, "bfloat16"))
    save_pretrained(rounded, "half", format="transformers", dtype="bfloat16")
    save_pretrained(rounded, "same.safetensors")
    save_pretrained(LARGE, "other.safetensors")
    assert digest(from_pretrained("half", weights="stored")) == digest(rounded) != digest(LARGE)
    transposed = changed(rounded, "lm_head.weight", lambda a: a.reshape(16, 11).T.copy())
    assert digest(transposed) != digest(rounded)
    assert main(["trace", "half", "--ids", "1", "--out", "traced", "--parts", "embedding"]) == 0
    capsys.readouterr()
    for path, code in (("same.safetensors", 0), ("other.safetensors", 2)):
        command = ["verify", "traced/results", "--trace", "traced", "--checkpoint", path]
        assert main(command) == code
    expected = f"of the trace, whose digest is {digest(rounded)}; got {digest(LARGE)} in other"
    assert expected in capsys.readouterr().err
    (line,) = verify(traced(LARGE), port(changed(LARGE, "embedding.weight", np.negative))).diagnosis
    assert "embedding (Embedding): y" in line
    assert "only copies rows: verify --checkpoint" in line
    (line,) = verify(traced(LARGE), lambda case: {}).diagnosis
    assert "--checkpoint" not in line


def test_parameters_that_are_one_number_are_named() -> None:
    assert constants(LARGE) == [
        "backbone.blocks.*.norm_mlstm.weight = 1",
        "backbone.blocks.*.mlstm_layer.igate_preact.weight = 0",
        "backbone.blocks.*.mlstm_layer.igate_preact.bias = -10",
        "backbone.blocks.*.mlstm_layer.fgate_preact.weight = 0",
        "backbone.blocks.*.mlstm_layer.multihead_norm.weight = 1",
        "backbone.blocks.*.norm_ffn.weight = 1",
        "backbone.out_norm.weight = 1",
    ]
    names = [f"backbone.blocks.{n}.norm_ffn.weight" for n in range(2)]
    other = LARGE.with_params(LARGE.params | {names[0]: np.full(16, 3, np.float32)})
    assert "backbone.blocks.*.norm_ffn.weight = 3 or 1" in constants(other)
    ones = np.append(np.ones(15), 0).astype(np.float32)
    other = LARGE.with_params(LARGE.params | {name: ones.copy() for name in names})
    assert not [line for line in constants(other) if "norm_ffn" in line]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", DEMOS)
def test_the_demo(name: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("yaml")
    pytest.importorskip("ml_dtypes")
    monkeypatch.chdir(tmp_path)
    narrow = [] if dtype == "float32" else ["--dtype", dtype]
    assert main(["trace", "--demo", name, "--out", "demo", *narrow]) == 0
    model = from_pretrained("demo/checkpoint")
    assert not constants(model)
    cases = read_trace("demo")
    assert {case.options["checkpoint"] for case in cases} == {digest(model)}
    assert verify(cases, port(model)).passed
    for parameter, array in model.params.items():  # each is seen, even reversed
        wrong = port(changed(model, parameter, lambda a: a.ravel()[::-1].reshape(a.shape).copy()))
        assert array.size == 1 or not verify(cases, wrong).passed, parameter


def test_the_known_mistakes_that_16_bits_hide_are_counted() -> None:
    pytest.importorskip("ml_dtypes")
    model, ids = demo("xlstm")
    *_, block, norm, _, _ = trace(model, np.array([ids]), "bfloat16")
    bugs = {bug.name: bug for bug in BUGS if bug.concerns("block.mlstm")}
    params = {f"params.{n}": array for n, array in model.body.blocks[2].params.items()}
    part = SimpleNamespace(subject=block.subject, options={}, inputs=params | block.inputs)
    passed = [n for n, bug in bugs.items() if verify([block], lambda _: results(part, bug)).passed]  # noqa: B023
    backward = {"cotangent-of-convolution-state-at-the-start", "norm-gradient-with-stored-weight"}
    hidden = {*passed} - backward
    assert "norm-variance-unbiased" in hidden
    assert "scale-missing" not in hidden
    count = f"{len(hidden)} of {len(bugs) - len(backward)}"
    assert block.options["hidden"] == count
    answer = in_every_way(model)
    (line,) = verify([block, norm], answer).diagnosis
    assert line.endswith(f"exclude them: {count} in block.2, {norm.options['hidden']} in norm")
    (float32,) = trace(model, np.array([ids]), parts=["block.2"])
    assert "hidden" not in float32.options


def in_every_way(model: Any) -> Callable[[Case], dict[str, Any]]:
    """Return a port that gives the tensors inside blocks, and all results token by token too."""

    def answer(case: Case) -> dict[str, Any]:
        part, x, results = part_of(model, case.id), case.inputs["x"], dict(port(model)(case))
        if not case.options.get("steps"):
            return results
        steps, state = [], None
        for t in range(x.shape[1]):
            y, state, cache = part.forward(x[:, t : t + 1], state)
            steps.append({"y": y})
            if case.options.get("inside"):
                steps[-1] |= inside(part, x[:, t : t + 1], cache.kept)
        joined = {n: np.concatenate([step[n] for step in steps], axis=1) for n in steps[0]}
        results |= {n: a for n, a in joined.items() if n.startswith("inside.")}
        final = {n: a for n, a in leaves("final", state) if a is not None}
        return results | {f"steps.{n}": a for n, a in (joined | final).items()}

    return answer


@pytest.mark.parametrize("name", DEMOS)
def test_the_first_wrong_tensor_within_a_block(name: str) -> None:
    model, ids = demo(name)
    cases = [c for c in trace(model, np.array([ids]), inside=True) if c.id.startswith("block.")]
    answer = in_every_way(model)
    for case in (cases[0], cases[1]):
        right = answer(case)
        names = [n for n in case.expected if n.startswith("inside.")]
        assert verify([case], lambda _: right).diagnosis == []  # noqa: B023
        assert len(names) > 14
        assert all(f"`{name}`" in PAGE for name in names)
        for at, first in enumerate(names):
            wrong = right | {n: right[n] + 1 for n in (*names[at:], "y")}
            (line,) = verify([case], lambda _: wrong).diagnosis  # noqa: B023
            assert line.startswith(
                f"the port departs first in {case.id} ({case.subject.name}): {first}"
            )
            assert line.endswith(f"; the first wrong tensor is {first}; token by token is right")
        half = {n: a for n, a in right.items() if n not in ("inside.norm", "steps.inside.norm")}
        assert verify([case], lambda _: half).passed  # noqa: B023
        half["y"] = half["y"] + 1
        (line,) = verify([case], lambda _: half).diagnosis  # noqa: B023
        assert "tensors inside it are right, and not given are inside.norm; token" in line
    (line,) = verify(cases, lambda case: {n: a + 1 for n, a in port(model)(case).items()}).diagnosis
    assert "; the port gives no tensors inside it, which would show more; block.1, " in line
    assert verify(cases, port(model)).passed
    assert not verify(cases, lambda case: answer(case) | {"inside.Q": case.inputs["x"]}).passed


def test_a_prompt_as_a_whole_and_token_by_token() -> None:
    cases = traced(MIXED)
    answer = in_every_way(MIXED)
    assert verify(cases, answer).diagnosis == []
    (line,) = verify(cases, port(MIXED)).diagnosis
    assert line.startswith("each result was checked once: if the port computes whole prompts and")

    def without_state(case: Case) -> dict[str, Any]:
        results = answer(case)
        if case.id == "block.1":
            results["steps.final.slstm.n"] = 2 * results["steps.final.slstm.n"]
        return results

    (line,) = verify(cases, without_state).diagnosis
    assert line == (
        "the port departs first in block.1 (sLSTMBlock): steps.final.slstm.n; the whole prompt is "
        "right, so the step or the passing of states is wrong"
    )
    wrong = {"y", "steps.y"}
    for names, end in ((wrong, "token by token is wrong, too"), ({"y"}, "token by token is right")):
        (line,) = verify(
            [cases[1]],
            lambda case: {n: a + (n in names) for n, a in answer(case).items()},  # noqa: B023
        ).diagnosis
        assert line == f"the port departs first in block.0 (mLSTMBlock): y; {end}"
    del_y = verify(cases, lambda case: {n: a for n, a in answer(case).items() if n != "steps.y"})
    assert "(mLSTMBlock): steps.y; the whole" in del_y.diagnosis[0]


def rounding_everything(part: Any, narrow: Callable[[Any], Any]) -> Any:
    """Return a copy of a part that rounds the output of each of its maps and norms."""
    part = part.with_params(part.params)

    def wrap(module: Module) -> None:
        compute = module.compute  # type: ignore[attr-defined]

        def rounded(*arguments: Any) -> Any:
            y, *rest = compute(*arguments)
            return narrow(y), *rest

        object.__setattr__(module, "compute", rounded)
        for attribute in module.submodules:
            inner = getattr(module, attribute)
            for each in inner if isinstance(inner, list) else [inner]:
                wrap(each)

    wrap(part)
    return part


@pytest.mark.parametrize(("model", "dtype"), [(MIXED, "bfloat16"), (LARGE, "float16")])
def test_a_port_that_stores_16_bits(model: Any, dtype: str) -> None:
    pytest.importorskip("ml_dtypes")
    cases = traced(model, dtype)

    narrow = partial(narrowed, dtype=dtype)

    def rounding(model: Any) -> Any:
        return from_layer(lambda case: rounding_everything(part_of(model, case.id), narrow))

    report = verify(cases, rounding(model))
    assert report.passed, report
    name = next(n for n in model.params if n.endswith(("proj_down.weight", "out_proj.weight")))
    (line,) = verify(cases, rounding(changed(model, name, lambda array: -array))).diagnosis
    assert line.startswith("the port departs first in block.0 (")
    assert "): y" in line


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.long)])
def test_a_port_that_stores_the_state_in_16_bits(dtype: str) -> None:
    """At every step, forward and backward, of a sequence in which the errors add up."""
    pytest.importorskip("ml_dtypes")
    ids = np.random.default_rng(0).integers(11, size=(1, 20))
    (case,) = (c for c in trace(LARGE, ids, dtype, gradients=True) if c.id == "block.0")
    rounding = stored(case.subject.specification, partial(narrowed, dtype=dtype))
    results = case.results(rounding)
    assert (results["final.C"] != case.results()["final.C"]).any()
    case.check(in_dtype(results, dtype))


@pytest.mark.parametrize(
    ("layer", "layouts"),
    [
        (
            sLSTM(4, 8, num_heads=2, rng=0),
            {"final.m": "row (head=2 unit)", "grads.W": "(gate=ifzo head=2 unit) input"},
        ),
        (
            GRU(4, 6, num_layers=2, rng=0),
            {"final": "layer row unit", "grads.weight_ih_l1": "(gate=rzn unit) input"},
        ),
    ],
    ids=["sLSTM", "GRU"],
)
def test_a_model_of_one_layer(layer: Any, layouts: dict[str, str]) -> None:
    cases = list(trace(LanguageModel(11, 4, layer, rng=0), IDS, gradients=True))
    assert [case.id for case in cases] == ["embedding", "body", "head", "model"]
    assert verify(cases, lambda case: case.results()).passed
    embedding, body, head, model = cases
    assert {name: body.pattern(name) for name in layouts} == layouts
    assert embedding.pattern("grads.weight") == head.pattern("grads.weight") == "token unit"
    assert model.pattern("grads.embedding.weight") == "token unit"


def test_weights_in_16_bits_have_gradients(tmp_path: Path) -> None:
    pytest.importorskip("ml_dtypes")
    save_pretrained(LARGE, tmp_path / "large", format="transformers", dtype="bfloat16")
    cases = list(trace(from_pretrained(tmp_path / "large", weights="stored"), IDS, gradients=True))
    assert verify(cases, lambda case: case.results()).passed


def test_a_check_names_the_part(tmp_path: Path) -> None:
    cases = list(write_vectors(tmp_path, traced(LARGE)))
    for case in (cases[1], read_trace(tmp_path)[1]):
        with pytest.raises(AssertionError, match=r"departs first in block\.0 \(.*\): final\.n"):
            case.check(case.expected | {"final.n": 2 * case.expected["final.n"]})
        case.check(case.expected)
        assert case.given.keys() == {"x", "state.C", "state.n", "state.m"}
        np.testing.assert_array_equal(case.given["state.m"], np.full((1, 2), -np.inf, np.float32))
        assert not case.given["state.C"].any()


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an official folder with weights in bfloat16, by files and by a program."""
    pytest.importorskip("ml_dtypes")
    large, folder, results = (str(tmp_path / name) for name in ("large", "folder", "results"))
    save_pretrained(LARGE, large, format="transformers", dtype="bfloat16")
    command = ["trace", large, "--ids", "3,1,4,1,5", "--out", folder]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "block.1: xLSTMLargeBlock, y, final.C, final.n, final.m\n" in out
    assert "in parameters that are one number: backbone.blocks.*.norm_mlstm.weight = 1, " in out
    assert {path.name for path in Path(folder).iterdir()} >= {"README.md", "manifest.json"}
    rounded = LARGE.with_params(in_dtype(LARGE.params, "bfloat16"))
    Path(results).mkdir()
    for case in read_trace(folder):
        write_tensors(Path(results, f"{case.id}.safetensors"), dict(port(rounded)(case)), {})
    assert main(["verify", results, "--trace", folder]) == 0
    case = read_trace(folder)[2]
    wrong = {**port(rounded)(case), "final.C": 2 * case.expected["final.C"]}
    write_tensors(Path(results, "block.1.safetensors"), wrong, {})
    capsys.readouterr()
    assert main(["verify", results, "--trace", folder, "--json", str(tmp_path / "json")]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "the port departs first in block.1 (xLSTMLargeBlock): final.C"
    program = tmp_path / "program.py"
    program.write_text("import sys; sys.exit('no such block')", "utf-8")
    run = f"{sys.executable} {program} {{in}} {{out}}"
    one = ["--subject", "norm"]
    assert main(["verify", "--run", run, "--trace", folder, *one]) == 1
    out = capsys.readouterr().out
    assert "exit status 1: no such block" in out
    assert out.splitlines()[-1] == "the port has no results for norm (RMSNorm)"


def test_results_that_are_too_large_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = str(tmp_path / "large.safetensors"), str(tmp_path / "out")
    save_pretrained(LARGE, model)
    monkeypatch.setattr("numpy_xlstm.cli.trace.MOST_BYTES", 20_000)
    command = ["trace", model, "--out", out, "--ids"]
    assert main([*command, "1", "--gradients"]) == 2
    expected = "--gradients: expected results of at most 20,000 bytes in each part; got "
    # before any part is computed, and its name printed
    assert "".join(capsys.readouterr()).startswith(f"numpy-xlstm: error: {expected}")
    assert main([*command, ",".join(["1"] * 1000)]) == 2
    assert "--ids: expected results of at most 20,000 bytes" in capsys.readouterr().err
    assert not Path(out).exists()


def test_a_trace_is_no_set_of_vectors(tmp_path: Path) -> None:
    for _ in write_vectors(tmp_path, trace(LARGE, IDS[:, :2])):
        pass
    message = "of 'numpy-xlstm vectors'; got another .expected ids of cases; got 'embedding'"
    with pytest.raises(CheckpointError, match=message):
        read_vectors(tmp_path)
    with pytest.raises(CheckpointError, match="complete manifest of 'numpy-xlstm trace'"):
        read_trace(SMALL)
    with pytest.raises(OptionError, match=r"folder \(its results are in `\.expected`\)"):
        read_trace(tmp_path)[0].results()
    with pytest.raises(OptionError, match="dtype: expected one of 'float32', 'bfloat16'"):
        next(trace(LARGE, IDS, "float64"))
    with pytest.raises(OptionError, match="model: expected a LanguageModel; got sLSTM"):
        next(trace(sLSTM(2, 3), IDS))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="gradients: expected True or False; got 'yes'"):
        next(trace(LARGE, IDS, gradients="yes"))  # type: ignore[arg-type]
    large = changed(LARGE, "embedding.weight", lambda array: 1e6 * array)
    with pytest.raises(NonFiniteError, match=r"block\.0: expected x up to 65504 in float16; got"):
        list(trace(large, IDS, "float16"))
    (tmp_path / "results" / "head.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"results/head\.safetensors: expected the file"):
        read_trace(tmp_path)
