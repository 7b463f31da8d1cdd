"""Validation of arguments: states, arrays of other kinds, boolean options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    GRU,
    LSTM,
    RNN,
    AdamW,
    CausalConv1d,
    ElmanCell,
    Embedding,
    GatedFeedForward,
    GRUCell,
    HeadwiseLinear,
    LanguageModel,
    LayerNorm,
    Linear,
    LSTMCell,
    PeepholeLSTMCell,
    SequenceLayer,
    mLSTM,
    mLSTMBlockConfig,
    mLSTMCell,
    mLSTMLayerConfig,
    sLSTM,
    sLSTMBlockConfig,
    sLSTMCell,
    sLSTMLayerConfig,
    stack_layers,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.errors import DTypeError, NonFiniteError, OptionError, ShapeError, SizeError
from numpy_xlstm.generation import join_states
from numpy_xlstm.layers import softmax_cross_entropy, softmax_cross_entropy_backward
from numpy_xlstm.models import xLSTMBlockStackConfig as StackConfig
from numpy_xlstm.training import Batch, TrainingState, train_step
from numpy_xlstm.trees import leaves, rebuild, tree_map

D, H, V, B = 4, 4, 7, 3
MLSTM = mLSTMBlockConfig(mLSTMLayerConfig(num_heads=2, qkv_proj_blocksize=2))
SLSTM = sLSTMBlockConfig(sLSTMLayerConfig(num_heads=2), feedforward=None)
BLOCKS: Any = {"mlstm_block": MLSTM, "slstm_block": SLSTM, "num_blocks": 2, "slstm_at": [1]}
BLOCKS["embedding_dim"] = D


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


CELLS: dict[str, Callable[[], Any]] = {
    "LSTMCell": lambda: LSTMCell(D, H, rng=rng()),
    "sLSTMCell": lambda: sLSTMCell(D, H, 2, rng=rng()),
    "mLSTMCell": lambda: mLSTMCell(D, H, 2, rng=rng()),
    "GRUCell": lambda: GRUCell(D, H, rng=rng()),
    "ElmanCell": lambda: ElmanCell(D, H, rng=rng()),
    "PeepholeLSTMCell": lambda: PeepholeLSTMCell(D, H, rng=rng()),
}
LAYERS: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: LSTM(D, H, 2, rng=rng()),
    "GRU": lambda: GRU(D, H, rng=rng()),
    "RNN": lambda: RNN(D, H, rng=rng()),
    "sLSTM": lambda: sLSTM(D, H, 2, rng=rng()),
    "mLSTM": lambda: mLSTM(D, H, 2, rng=rng()),
    "SequenceLayer": lambda: SequenceLayer(GRUCell(D, H, rng=rng())),
    "stack": lambda: stack_layers(sLSTM, D, H, 2, rng=rng()),
    "blocks": lambda: xLSTMBlockStack(StackConfig(**BLOCKS), rng=rng()),
}
MODELS: dict[str, Callable[[], Any]] = {
    "LanguageModel": lambda: LanguageModel(V, D, LSTM(D, H, 2, rng=rng()), rng=rng()),
    "mLSTM model": lambda: LanguageModel(V, D, mLSTM(D, H, 2, rng=rng()), rng=rng()),
    "xLSTMLMModel": lambda: xLSTMLMModel(xLSTMLMModelConfig(**BLOCKS, vocab_size=V), rng=rng()),
    "xLSTMLarge": lambda: xLSTMLarge(
        xLSTMLargeConfig(8, num_heads=2, num_blocks=2, vocab_size=V), rng=rng()
    ),
}
RECURRENT = CELLS | LAYERS | MODELS


def given(name: str) -> Any:
    """Return an input of three rows."""
    if name in MODELS:
        return rng(1).integers(0, V, (B, 5))
    return rng(1).standard_normal((B, D) if name in CELLS else (B, 5, D))


def plain(tree: Any) -> Any:
    """Return the same arrays in plain tuples."""
    return tuple(map(plain, tree)) if isinstance(tree, tuple) else tree


def same(one: Any, two: Any) -> None:
    pairs = zip(leaves("", one), leaves("", two), strict=True)
    assert all(name == other and np.array_equal(a, b) for (name, a), (other, b) in pairs)


def calls(name: str) -> list[Callable[[Any], Any]]:
    """Return everything that takes a state."""
    module, x = RECURRENT[name](), given(name)
    if name in CELLS:
        return [lambda state: module.forward(x, state)]
    found = [lambda state: module.forward(x, state), lambda state: module(x, state)]
    if name in MODELS:
        step = module.prepared().step
        found.append(lambda state: step(x[:, 0], state))
    return found


def reached(name: str) -> Any:
    """Return the state after the input."""
    return RECURRENT[name]().forward(given(name))[1]


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_is_refused_wherever_one_is_taken(name: str, bad: float) -> None:
    state = reached(name)
    for place, (path, _) in enumerate(leaves("state", state)):
        arrays = [array.copy() for _, array in leaves("", state)]
        arrays[place].flat[-1] = bad
        spoilt = rebuild(state, iter(arrays))
        for call in calls(name):
            if bad == -np.inf and path.endswith(".m"):
                call(spoilt)
                continue
            with pytest.raises(NonFiniteError, match=rf"^{path}: expected finite numbers; got"):
                call(spoilt)


@pytest.mark.parametrize("name", RECURRENT)
def test_plain_tuples_are_states_everywhere(name: str) -> None:
    state = reached(name)
    for call in calls(name):
        for found, expected in zip(call(plain(state)), call(state), strict=True):
            if isinstance(expected, np.ndarray):
                np.testing.assert_array_equal(found, expected)
        assert type(call(plain(state))[1]) is type(call(state)[1])
    module = RECURRENT[name]()
    y, after, cache = module.forward(given(name), plain(state))
    dstate = tree_map(np.ones_like, after)
    dy = np.cos(y)
    for found, expected in zip(
        module.backward(dy, cache, plain(dstate)), module.backward(dy, cache, dstate), strict=True
    ):
        if not isinstance(expected, dict):
            same(found, expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_training_begins_and_goes_on_in_plain_tuples(name: str, tmp_path: Path) -> None:
    results = []
    for form in (plain, lambda state: state):
        model = MODELS[name]()
        ids = rng(2).integers(0, V, (B, 6))
        state = TrainingState(model, AdamW(model.params), rng(), carried=form(reached(name)))
        result = train_step(
            model,
            state.optimizer,
            Batch(ids[:, :-1], ids[:, 1:]),
            state=state.carried,
            accumulate=2,
        )
        state.save(tmp_path / "state.npz")
        loaded, _ = TrainingState.load(tmp_path / "state.npz")
        results.append((result.loss, result.state, loaded.carried))
    for found, expected in zip(*results, strict=True):
        same(found, expected)


def test_plain_and_named_tuples_are_joined() -> None:
    state = reached("sLSTM")
    one, two = (tree_map(lambda array, part=part: array[part], state) for part in ([0], [1, 2]))
    same(join_states([one, plain(two)]), state)
    same(plain(join_states([plain(one), two])), plain(state))
    with pytest.raises(ShapeError, match="got LSTMState, sLSTMState"):
        join_states([reached("sLSTM"), reached("LSTMCell")])


class Labelled(np.ndarray):
    """A class that any package could define."""


KINDS: dict[str, Callable[[Any], Any]] = {
    "MaskedArray": np.ma.masked_array,
    "matrix": lambda array: np.matrix(array.reshape(len(array), -1)),
    "Labelled": lambda array: array.view(Labelled),
    "recarray": lambda array: array.view(np.recarray),
}
LINEAR, IDS = Linear(D, H, rng=rng()), np.arange(12).reshape(2, 6) % V
LOGITS, CELL = rng(3).standard_normal((2, 6, V)), LSTMCell(D, H, rng=rng())
X = rng(4).standard_normal((B, D))


def trained(batch: Batch) -> Any:
    model = MODELS["LanguageModel"]()
    return train_step(model, AdamW(model.params), batch)


def stepped(params: Any, grads: Any) -> None:
    AdamW({"w": np.ones((2, 2))}).step({"w": params}, {"w": grads})


ENTRIES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "x of a layer": (LINEAR.forward, X),
    "x of a cell": (CELL.forward, X),
    "x of a sequence": (LSTM(D, H).forward, X),
    "state": (lambda a: CELL.forward(X, (a, X)), X),
    "dy": (lambda a: LINEAR.backward(a, LINEAR.forward(X)[1]), X),
    "dh": (lambda a: CELL.backward(a, CELL.forward(X)[2]), X),
    "dstate": (lambda a: CELL.backward(X, CELL.forward(X)[2], (a, X)), X),
    "tokens": (Embedding(V, D).forward, IDS),
    "tokens of a model": (MODELS["LanguageModel"](), IDS),
    "ids": (MODELS["LanguageModel"]().generate, IDS),
    "lengths": (lambda a: LSTM(D, H).forward(np.ones((2, 6, D)), lengths=a), np.array([3, 6])),
    "with_params": (lambda a: LINEAR.with_params({**LINEAR.params, "weight": a}), np.ones((H, D))),
    "params": (lambda a: setattr(Linear(D, H), "params", {"weight": a, "bias": X[0]}), X),
    "state dict": (lambda a: LINEAR.load_state_dict({**LINEAR.params, "weight": a}), np.eye(4)),
    "logits": (lambda a: softmax_cross_entropy(a, IDS), LOGITS),
    "targets": (lambda a: softmax_cross_entropy(LOGITS, a), IDS),
    "mask": (lambda a: softmax_cross_entropy(LOGITS, IDS, mask=a), IDS > 2),
    "dloss": (
        lambda a: softmax_cross_entropy_backward(a, softmax_cross_entropy(LOGITS, IDS)[1]),
        np.ones((1, 1)),
    ),
    "inputs of a batch": (lambda a: trained(Batch(a, IDS)), IDS),
    "mask of a batch": (lambda a: trained(Batch(IDS, IDS, a)), IDS > 2),
    "params of AdamW": (lambda a: AdamW({"w": a}), X),
    "params of a step": (lambda a: stepped(a, np.eye(2)), np.eye(2)),
    "grads of a step": (lambda a: stepped(np.eye(2), a), np.eye(2)),
    "joined states": (lambda a: join_states([(a,), (a,)]), X),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("entry", ENTRIES)
def test_an_array_of_another_kind_is_refused_by_name(entry: str, kind: str) -> None:
    call, array = ENTRIES[entry]
    with pytest.raises(DTypeError, match=rf": expected a plain NumPy array; got {kind}$"):
        call(KINDS[kind](array))


BOOLEANS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "LSTM bias": (lambda v: LSTM(D, H, bias=v), "bias"),
    "LSTM batch_first": (lambda v: LSTM(D, H, batch_first=v), "batch_first"),
    "LSTM bidirectional": (lambda v: LSTM(D, H, bidirectional=v), "bidirectional"),
    "sLSTM batch_first": (lambda v: sLSTM(D, H, batch_first=v), "batch_first"),
    "mLSTM batch_first": (lambda v: mLSTM(D, H, batch_first=v), "batch_first"),
    "stack bidirectional": (lambda v: stack_layers(sLSTM, D, H, bidirectional=v), "bidirectional"),
    "stack batch_first": (lambda v: stack_layers(sLSTM, D, H, batch_first=v), "batch_first"),
    "Linear": (lambda v: Linear(D, H, v), "bias"),
    "HeadwiseLinear": (lambda v: HeadwiseLinear(D, 2, v), "bias"),
    "CausalConv1d": (lambda v: CausalConv1d(D, bias=v), "bias"),
    "GatedFeedForward": (lambda v: GatedFeedForward(D, H, bias=v), "bias"),
    "LayerNorm weight": (lambda v: LayerNorm(D, weight=v), "weight"),
    "LayerNorm bias": (lambda v: LayerNorm(D, bias=v), "bias"),
    "tied": (lambda v: LanguageModel(V, D, LSTM(D, D), tied=v), "tied"),
    "head_bias": (lambda v: LanguageModel(V, D, LSTM(D, H), head_bias=v), "head_bias"),
    "recompute": (lambda v: MODELS["xLSTMLarge"]().forward(IDS, recompute=v), "recompute"),
    "do_sample": (lambda v: MODELS["xLSTMLarge"]().generate(IDS, do_sample=v), "do_sample"),
    "fresh": (lambda v: trained(Batch(IDS, IDS, None, v)), "fresh"),
    "config": (lambda v: xLSTMBlockStackConfig(**BLOCKS, add_post_blocks_norm=v), "add_post_blo"),
}


@pytest.mark.parametrize("name", BOOLEANS)
def test_an_option_that_is_true_or_false_takes_nothing_else(name: str) -> None:
    call, option = BOOLEANS[name]
    for value in (True, False, np.True_, np.False_):
        call(value)
    others: tuple[Any, ...] = (1, 0, "no", "", None, [], np.ones(1), 0.0)
    for other in others:
        with pytest.raises(OptionError, match=rf"^{option}\w*: expected (True or False|bool); got"):
            call(other)


MODEL, BATCH = MODELS["LanguageModel"](), Batch(IDS, IDS)
NUMBERS: dict[str, Callable[[Any], Any]] = {
    "input_size": lambda v: LSTM(v, H),
    "num_layers": lambda v: LSTM(D, H, num_layers=v),
    "num_heads": lambda v: sLSTM(D, H, num_heads=v),
    "chunk_size": lambda v: mLSTM(D, H, chunk_size=v),
    "eps": lambda v: mLSTM(D, H, eps=v),
    "dropout": lambda v: LSTM(D, H, 2, dropout=v),
    "cap": lambda v: LanguageModel(V, D, LSTM(D, H), cap=v),
    "lr": lambda v: AdamW({"w": X}, lr=v),
    "betas": lambda v: AdamW({"w": X}, betas=(v, 0.9)),
    "accumulate": lambda v: train_step(MODEL, AdamW(MODEL.params), BATCH, accumulate=v),
    "max_norm": lambda v: train_step(MODEL, AdamW(MODEL.params), BATCH, max_norm=v),
    "temperature": lambda v: MODEL.generate(IDS, do_sample=True, temperature=v),
    "max_new_tokens": lambda v: MODEL.generate(IDS, max_new_tokens=v),
    "ignore_index": lambda v: softmax_cross_entropy(LOGITS, IDS, ignore_index=v),
    "num_blocks": lambda v: StackConfig(**BLOCKS | {"num_blocks": v, "slstm_at": []}),
}


@pytest.mark.parametrize("option", NUMBERS)
@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_a_number_is_not_true_or_false(option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=rf"^{option}: expected .*; got \(?(np\.)?(True|False)_?"):
        NUMBERS[option](value)


def test_the_cotangent_of_a_loss_is_a_number() -> None:
    cache = softmax_cross_entropy(LOGITS, IDS)[1]
    with pytest.raises(DTypeError, match="dloss: expected a float64 number; got True"):
        softmax_cross_entropy_backward(True, cache)


W = np.ones((4 * H, D))
REPLACED: dict[str, tuple[Any, type[Exception], str]] = {
    "shape": (W[:, :1], ShapeError, r"W: expected shape \(16, 4\); got \(16, 1\)"),
    "dtype": (W.astype(np.float32), DTypeError, "(W: expected float64|params: expected arrays of)"),
    "whole numbers": (W.astype(int), DTypeError, "W: expected .*; got int64"),
    "NaN": (W * np.nan, NonFiniteError, "W: expected finite numbers; got nan"),
    "infinity": (W * np.inf, NonFiniteError, "W: expected finite numbers; got inf"),
    "a list": (W.tolist(), ShapeError, r"W: expected shape \(16, 4\); got list"),
}


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("how", ["with_params", "params", "SequenceLayer"])
def test_what_takes_the_place_of_a_parameter_is_like_it(name: str, how: str) -> None:
    array, error, message = REPLACED[name]
    cell = LSTMCell(D, H, rng=rng())
    before, params = dict(cell.params), {**cell.params, "W": array}
    if how == "params" and name == "a list":
        error, message = DTypeError, "W: expected a NumPy array; got list"
    replace: dict[str, Callable[[Any], Any]] = {
        "with_params": cell.with_params,
        "params": lambda arrays: setattr(cell, "params", arrays),
        "SequenceLayer": SequenceLayer(cell).with_params,
    }
    with pytest.raises(error, match=message):
        replace[how](params)
    assert dict(cell.params) == before
    assert all(cell.params[n] is before[n] for n in before)


def test_parameters_are_replaced_and_changed_in_place() -> None:
    cell = LSTMCell(D, H, rng=rng())
    cell.params = {n: array + 1 for n, array in cell.params.items()}
    cell.params["W"][...] = 2
    cell.params["W"] *= 2
    assert (cell.params["W"] == 4).all()
    with pytest.raises(ShapeError, match=r"params: expected \['R', 'b'\] too; got only \['W'\]"):
        cell.params = {"W": W}
    with pytest.raises(ShapeError, match="params: expected a mapping of arrays; got list"):
        setattr(cell, "params", [W])  # noqa: B010
    assert cell.astype(np.float32).dtype == np.float32


SIZES: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: LSTM(3, 10**7),
    "LSTM, layers": lambda: LSTM(3, 4, num_layers=10**9),
    "sLSTM": lambda: sLSTM(3, 10**7),
    "mLSTM": lambda: mLSTM(10**6, 10**7),
    "Linear": lambda: Linear(10**7, 10**7),
    "HeadwiseLinear": lambda: HeadwiseLinear(10**7, 2),
    "CausalConv1d": lambda: CausalConv1d(10**13),
    "Embedding": lambda: Embedding(10**9, 10**5),
    "LayerNorm": lambda: LayerNorm(10**14),
    "GRUCell": lambda: GRUCell(3, 10**7),
    "ElmanCell": lambda: ElmanCell(3, 10**7),
    "PeepholeLSTMCell": lambda: PeepholeLSTMCell(3, 10**7),
    "GatedFeedForward": lambda: GatedFeedForward(10**7, 10**7),
    "LanguageModel": lambda: LanguageModel(10**13, D, LSTM(D, H)),
    "xLSTMBlockStack": lambda: xLSTMBlockStack(StackConfig(**BLOCKS | {"num_blocks": 10**12})),
    "sLSTM blocks": lambda: xLSTMBlockStack(
        StackConfig(slstm_block=SLSTM, num_blocks=10**12, embedding_dim=D)
    ),
    "xLSTMLarge": lambda: xLSTMLarge(
        xLSTMLargeConfig(8, num_heads=2, num_blocks=10**12, vocab_size=V)
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_beyond_all_memory_are_refused_in_one_line(name: str) -> None:
    message = r"^sizes: expected parameters that fit into the [\d.,]+ GiB .*; got [\d.,]+ GiB$"
    with pytest.raises(SizeError, match=message):
        SIZES[name]()
