"""Steps give what the model gives, bit for bit, whether they are recorded or not."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import LSTM, LanguageModel, mLSTM, sLSTM
from numpy_xlstm.errors import DTypeError, ShapeError
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
def test_one_recording_is_enough(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(name)
    steps, tokens = Steps(model), draw_tokens(30).T
    before, program = [(steps(now), steps.program)[1] for now in tokens[:2]]
    assert before is None  # the first is from the empty state
    assert program is not None
    monkeypatch.setattr(type(model), "__call__", None)
    for now in tokens[2:]:
        steps(now)
    assert steps.program is program
    assert "= matmul(" in str(program)


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


def test_an_error_at_the_step_that_is_recorded() -> None:
    model = model_of("slstm")
    _, state = model(draw_tokens(3))
    steps = Steps(model, state)
    with pytest.raises(IndexError, match="ids from 0 to 6; got 9"):
        steps(np.array([9, 0]))
    assert_follows(steps, model, draw_tokens(5), state)
    assert steps.program is not None


def test_dtypes_and_numbers_of_tokens() -> None:
    model = model_of("lstm")
    _, state = model(draw_tokens(3), None)
    steps = Steps(model, state)
    for n, kind in enumerate((np.uint8, np.int64, np.int32, np.uint8, np.int64)):
        now = draw_tokens(1, seed=n)[:, 0].astype(kind)
        expected, state = model(now[:, None], state)
        assert_same({"": steps(now)}, {"": expected[:, -1]})
    assert steps.program is not None
    with pytest.raises(ShapeError, match=r"state.*expected"):
        steps(np.array([1, 2, 3]))
    with pytest.raises(ShapeError, match=r"tokens: expected shape \(N,\); got \(\)"):
        steps(np.array(1))
    with pytest.raises(DTypeError, match="tokens: expected a NumPy array of integers; got float64"):
        steps(np.ones(2))  # type: ignore[arg-type]
    assert_follows(steps, model, draw_tokens(3), state)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_goes_its_own_way(copied: Callable[[Any], Any]) -> None:
    """As the hypotheses of a beam search do."""
    model = model_of("mixed")
    _, state = model(draw_tokens(3))
    steps = Steps(model, state)
    for now in draw_tokens(4).T:
        _, state = model(now[:, None], state)
        steps(now)
    other = copied(steps)
    assert_follows(other, model, draw_tokens(5, seed=8), state)
    assert_follows(steps, model, draw_tokens(5, seed=9), state)


def test_errors_before_the_first_recording_do_not_prevent_it() -> None:
    model = model_of("slstm")
    _, state = model(draw_tokens(3))
    steps = Steps(model, state)
    for _ in range(9):
        with pytest.raises(IndexError):
            steps(np.array([9, 0]))
    steps(np.array([0, 0]))
    assert steps.program is not None


def test_another_treatment_of_floating_point_errors_is_recorded_anew() -> None:
    model = model_of("lstm")
    _, state = model(draw_tokens(3))
    steps = Steps(model, state)
    steps(np.array([0, 1]))
    treatments: tuple[Any, ...] = ("raise", "ignore")
    for treatment in treatments:
        with np.errstate(divide=treatment):
            assert_follows(steps, model, draw_tokens(3), steps.state)
            assert steps.program is not None
            assert steps.program.errors == np.geterr()


def test_states_of_another_layout() -> None:
    model = model_of("mixed")
    _, state = model(draw_tokens(3))
    turned = tree_map(lambda a: np.asarray(a, order="F"), state)
    assert_follows(Steps(model, turned), model, draw_tokens(4), turned)


def test_a_state_in_another_form() -> None:
    model = model_of("slstm")
    _, state = model(draw_tokens(3))
    steps = Steps(model, list(state))
    assert_follows(steps, model, draw_tokens(4), state)
    assert type(steps.state) is type(state)


class Marked(LSTM):
    """A cell of a user's, which counts its calls, and draws numbers that NumPy does not see."""

    calls = 0

    def __call__(self, x: Array, state: Any = None, **options: Any) -> Any:
        self.calls += 1
        y, state = super().__call__(x, state, **options)
        return y + np.random.default_rng(self.calls).standard_normal(y.shape), state


def test_a_cell_of_another_origin_is_called_as_it_is() -> None:
    cells = Marked(4, 8), Marked(4, 8)
    steps, model = (fill(LanguageModel(V, 4, cell), np.random.default_rng(7)) for cell in cells)
    steps = Steps(steps)
    assert_follows(steps, model, draw_tokens(12), None)
    assert steps.program is None
    assert cells[0].calls == cells[1].calls == 12


def test_a_model_that_branches() -> None:
    """Every now and then, the memory of some rows is empty again: m = −inf."""
    model = model_of("mlstm")
    rng, state = np.random.default_rng(0), model.cell.init_state(2)
    steps, programs = Steps(model), set()
    for t, now in enumerate(draw_tokens(40).T):
        expected, state = model(now[:, None], state)
        assert_same({"": steps(now)}, {"": expected[:, -1]})
        programs.add(id(steps.program))
        if t % 9 == 5 and steps.program is not None:
            forget(state, rng.integers(2, size=2).astype(bool))
            for place, array in zip(steps.program.inputs[1], state, strict=True):
                place[...] = array
    assert len(programs) > 2


def forget(state: Any, rows: Array) -> None:
    C, n, m = state
    C[rows], n[rows], m[rows] = 0, 0, -np.inf


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
