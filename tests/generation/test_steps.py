"""Steps give what the model gives, bit for bit, whether they are recorded or not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import LSTM, LanguageModel, mLSTM, sLSTM
from numpy_xlstm.generation import Steps
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.models import TokenModel
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, tree_map
from tests.models.build import CONFIGS, V, assert_same, build, draw_tokens, few, fill, flat

CELLS: dict[str, Callable[[], Any]] = {
    "lstm": lambda: LSTM(4, 8),
    "slstm": lambda: sLSTM(4, 8, num_heads=2),
    "slstm-exp": lambda: sLSTM(4, 8, num_heads=2, forget_gate="exp"),
    "mlstm": lambda: mLSTM(4, 8, num_heads=2),
    "mlstm-exp": lambda: mLSTM(4, 8, num_heads=2, forget_gate="exp", qk_dim=4),
    "mlstm-sigmoid": lambda: mLSTM(4, 8, num_heads=2, input_gate="sigmoid"),
    "mlstm-parallel": lambda: mLSTM(4, 8, form="parallel"),
    "mlstm-chunkwise": lambda: mLSTM(4, 8, form="chunkwise", chunk_size=2),
}


def model_of(name: str) -> Any:
    if name in CONFIGS:
        return build(name)
    rng = np.random.default_rng(5)
    return fill(LanguageModel(V, 4, CELLS[name](), rng=rng), rng)


class Counted:
    """Counts how often a model is called."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, call = 0, type(model).__call__

        def counting(model: Any, tokens: IndexArray, state: Any = None) -> Any:
            self.count += 1
            return call(model, tokens, state)

        monkeypatch.setattr(type(model), "__call__", counting)


def assert_follows(steps: Steps, model: Any, tokens: Array, state: Any) -> None:
    """One step for each column of tokens."""
    for now in tokens.T:
        expected, state = model(now[:, None], state)
        got = steps(now)
        assert_same({"logits": got}, {"logits": expected[:, -1]})
        assert_same(flat(steps.state), flat(state))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", [*CONFIGS, *CELLS])
def test_steps_are_the_model(name: str, rows: int) -> None:
    model = model_of(name)
    _, state = model(draw_tokens(4, rows=rows, seed=6))
    before = tree_map(np.copy, state)
    for start in (state, None):
        assert_follows(Steps(model, start), model, draw_tokens(9, rows=rows), start)
    assert_same(flat(state), flat(before))


@few
@given(seed=st.integers(0, 2**32 - 1), large=st.sampled_from([1.0, 1e2, 1e4]))
def test_steps_are_the_model_however_large_the_gates_are(seed: int, large: float) -> None:
    model, rng = build("mixed", dtype=np.float32, seed=seed), np.random.default_rng(seed)
    for name, array in model.params.items():
        if "gate" in name or "_bias_" in name:
            array *= large
    tokens = rng.integers(0, V, (2, 12))
    assert_follows(Steps(model), model, tokens, None)


@pytest.mark.parametrize("name", [*CONFIGS, *CELLS])
def test_the_model_is_called_for_the_first_steps_only(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(name)
    steps, counted = Steps(model), Counted(model, monkeypatch)
    for now in draw_tokens(30).T:
        steps(now)
    assert counted.count == 3  # from the empty state, to be recorded, and to compare


def test_an_id_out_of_range_is_an_error_and_nothing_is_lost() -> None:
    model = model_of("mixed")
    steps, (first, second) = Steps(model), draw_tokens(6).T.reshape(2, 3, 2)
    for now in first:
        logits = steps(now)
    kept, state = logits.copy(), steps.state
    with pytest.raises(IndexError, match="ids from 0 to 6; got 7"):
        steps(np.array([0, 7]))
    assert_same({"": logits} | flat(steps.state), {"": kept} | flat(state))
    assert_follows(steps, model, second.T, state)


def test_other_rows_and_dtypes_of_tokens() -> None:
    model = model_of("lstm")
    steps = Steps(model)
    for now in draw_tokens(4).T:
        steps(now)
    _, state = model(draw_tokens(3), None)
    steps = Steps(model, state)
    for n, kind in enumerate((np.int64, np.int32, np.uint8, np.int64)):
        now = draw_tokens(1, seed=n)[:, 0].astype(kind)
        expected, state = model(now[:, None], state)
        assert_same({"": steps(now)}, {"": expected[:, -1]})


class Lookup(LSTM):
    """An LSTM with a part that NumPy does not tell of, and one that cannot be recorded."""

    hidden = True

    def __call__(self, x: Array, state: Any = None, **options: Any) -> Any:
        y, state = super().__call__(x, state, **options)
        if self.hidden:
            return y + np.array(x)[..., :1], state
        return y * (1 + float(x[0, 0, 0])), state


@pytest.mark.parametrize("hidden", [True, False])
def test_a_part_that_cannot_be_recorded(hidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Lookup(4, 8)
    cell.hidden = hidden
    model = LanguageModel(V, 4, cell)
    fill(model, np.random.default_rng(7))
    tokens = draw_tokens(12)
    assert_follows(Steps(model), model, tokens, None)
    steps, counted = Steps(model), Counted(model, monkeypatch)
    for now in tokens.T:
        steps(now)
    assert counted.count >= tokens.shape[1]


class Moody(LSTM):
    """An LSTM that branches at every other step or so."""

    def __call__(self, x: Array, state: Any = None, **options: Any) -> Any:
        y, after = super().__call__(x, state, **options)
        return (y if y.sum() > 0 else -3 * y), after


@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_branches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = fill(LanguageModel(V, 4, Moody(4, 8, rng=rng), rng=rng), rng)
    assert_follows(Steps(model), model, draw_tokens(25, rows=1, seed=seed), None)


def test_any_function_is_called_once_for_each_step() -> None:
    calls: list[Any] = []
    marker = object()

    def function(tokens: IndexArray, state: Any = None) -> tuple[Array, Any]:
        calls.append(state)
        return np.eye(V)[tokens], marker

    steps = Steps(function, marker)
    for now in draw_tokens(5).T:
        assert_same({"": steps(now)}, {"": np.eye(V)[now]})
    assert calls == [marker] * 5
    assert steps.state is marker


def test_what_is_returned_belongs_to_the_caller() -> None:
    model: TokenModel = build("mixed")
    one, other = Steps(model), Steps(model)
    for now in draw_tokens(8).T:
        state, logits = one.state, one(now)
        for _, array in leaves("", state):
            array.fill(1)
        assert_same({"": logits}, {"": other(now)})
        logits.fill(np.nan)
