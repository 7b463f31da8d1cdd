"""States that are not finite, plain tuples as states, and parameters that are replaced."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    GRU,
    LSTM,
    RNN,
    AdamW,
    ElmanCell,
    GRUCell,
    LanguageModel,
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
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.errors import NonFiniteError, ShapeError
from numpy_xlstm.generation import join_states
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


def spoiled(state: Any, bad: float) -> Iterator[tuple[str, Any]]:
    """Yield a path and a copy of the state with one bad number there, for each array."""
    for place, (path, _) in enumerate(leaves("state", state)):
        arrays = [array.copy() for _, array in leaves("", state)]
        arrays[place].flat[-1] = bad
        yield path, rebuild(state, iter(arrays))


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_states_and_cotangents_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    """Except m = −∞, that of the empty state, which no cotangent is."""
    module = RECURRENT[name]()
    y, state, cache = module.forward(given(name))
    for path, wrong in spoiled(state, bad):
        message = rf"{path}: expected finite numbers; got"
        with pytest.raises(NonFiniteError, match=f"^d{message}"):
            module.backward(np.cos(y), cache, wrong)
        for call in calls(name):
            if bad == -np.inf and path.endswith(".m"):
                call(wrong)
                continue
            with pytest.raises(NonFiniteError, match=f"^{message}"):
                call(wrong)


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
        state.save(tmp_path / "state.safetensors")
        loaded, _ = TrainingState.load(tmp_path / "state.safetensors")
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


def test_parameters_are_changed_in_place() -> None:
    cell = LSTMCell(D, H, rng=rng())
    cell.params["W"][...] = 2
    cell.params["W"] *= 2
    assert (cell.params["W"] == 4).all()
    assert cell.astype(np.float32).dtype == np.float32
