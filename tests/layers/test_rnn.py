"""LSTM, GRU, RNN and stacks of any layer: dropout, names, dtypes and bad input."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, Stacked, gradcheck, mLSTM, sLSTM, stack_layers
from numpy_xlstm.errors import DTypeError, NonFiniteError, ShapeError
from numpy_xlstm.layers.base import RunOptions
from numpy_xlstm.trees import leaves
from tests.variants import assert_close


@pytest.mark.parametrize("stacked", [False, True])
def test_evaluation_of_a_reverse_is_not_cut_into_blocks(stacked: bool) -> None:
    """600 steps are several blocks, and the first output depends on the last input."""
    rng = np.random.default_rng(3)
    lstm = LSTM(2, 3, 2, bidirectional=True, rng=rng)
    layer: Any = Stacked([[lstm]]) if stacked else lstm
    for name, array in layer.params.items():
        if name.startswith("bias"):
            array[3:6] = 4  # forget gates near 1
    x = rng.standard_normal((2, 600, 2))
    lengths = np.array([600, 300])
    assert_close(layer(x, lengths=lengths), layer.forward(x, lengths=lengths)[:2], 1e-13)
    moved = x.copy()
    moved[0, -1] += 1
    assert np.abs(layer(moved)[0][0, 0] - layer(x)[0][0, 0]).max() > 0


def test_dropout_is_between_the_layers_and_in_training_alone() -> None:
    rng = np.random.default_rng(4)
    layer = LSTM(3, 5, 2, dropout=0.5, rng=rng)
    x = rng.standard_normal((2, 6, 3))
    y, _, _ = layer.forward(x)
    assert_close(layer(x)[0], y, 1e-14)
    dropped, state, cache = layer.forward(x, rng=np.random.default_rng(5))
    first, second = layer.layers
    below, low, _ = first.compute(x, first.init_state(2), RunOptions())
    factors = 2.0 * (np.random.default_rng(5).random(below.shape) >= 0.5)
    above, high, _ = second.compute(below * factors, second.init_state(2), RunOptions())
    assert 0 < np.count_nonzero(factors) < factors.size
    assert_close(dropped, above, 1e-14)
    assert_close(state.h, np.stack([low.h, high.h]), 1e-14)
    assert np.abs(dropped - y).max() > 1e-3
    dx, _, _ = layer.backward(rng.standard_normal(y.shape), cache)
    assert np.abs(dx).max() > 0
    stack: Any = Stacked([[layer], [LSTM(5, 2, rng=rng)]], dropout=0.1)
    assert stack.dropout == 0.5  # a training passes a generator only if there is dropout
    with pytest.warns(UserWarning, match="dropout: expected two layers or more"):
        alone = LSTM(3, 5, 1, dropout=0.5, rng=rng)
    assert np.array_equal(alone.forward(x, rng=rng)[0], alone.forward(x)[0])


def test_parameters_and_names_of_a_stack_of_any_layer() -> None:
    rng = np.random.default_rng(6)
    options: Any = {"bidirectional": True, "num_heads": 2, "rng": rng}
    stack = stack_layers(mLSTM, 3, 4, 2, **options)
    assert {name.removesuffix("_reverse")[-3:] for name in stack.params} == {"_l0", "_l1"}
    assert stack.params["W_q_l1_reverse"] is stack.layers[3].params["W_q"]
    over = stack.with_params({name: array + 1 for name, array in stack.params.items()})
    assert np.array_equal(over.layers[1].params["W_i"], stack.params["W_i_l0_reverse"] + 1)
    assert (over.in_features, over.out_features, over.causal) == (3, 8, False)
    one = stack_layers(sLSTM, 3, 4, 2, num_heads=2, rng=rng)
    assert (one.out_features, one.causal) == (4, True)
    assert gradcheck(one, rng.standard_normal((1, 3, 3)), rng=0, max_entries=4).passed


def test_arrays_of_a_changed_dtype_are_all_that_is_kept() -> None:
    """The new layer has the new dtype and shares no arrays with the old one."""
    layer = LSTM(3, 4, 2, bias=False, proj_size=2, rng=np.random.default_rng(7))
    for dtype in (np.float32, np.longdouble, np.complex128):
        changed = layer.astype(dtype)
        y, state = changed(np.ones((2, 3, 3), dtype))
        assert {a.dtype for _, a in leaves("", (y, state))} == {np.dtype(dtype)}
        for name, array in changed.params.items():
            direction: Any = changed.layers[int(name[-1])]
            assert any(used is array for used in direction.cell_params().values())
            assert all(used.dtype == dtype for used in direction.cell.params.values())


def test_state_dicts_are_loaded_whole_or_not_at_all() -> None:
    layer = LSTM(3, 4, rng=np.random.default_rng(9))
    before = layer.state_dict()
    good = {name: array + 1 for name, array in before.items()}
    wrong: list[tuple[Any, type[Exception], str]] = [
        ({**good, "bias_hh_l0": np.ones(3)}, ShapeError, r"bias_hh_l0: expected shape \(16,\)"),
        ({**good, "bias_hh_l0": np.full(16, np.nan)}, NonFiniteError, "bias_hh_l0: expected fin"),
        ({**good, "bias_hh_l0": np.ones(16, int)}, DTypeError, "bias_hh_l0: expected floating"),
        ({**good, "more": np.ones(1)}, ShapeError, "state_dict: .*more"),
        (dict(list(good.items())[:3]), ShapeError, r"state_dict: expected \['bias_hh_l0'\] too"),
        ([1], ShapeError, "state_dict: expected a mapping of arrays; got list"),
    ]
    for arrays, error, message in wrong:
        with pytest.raises(error, match=message):
            layer.load_state_dict(arrays)
        for name, array in layer.params.items():
            assert np.array_equal(array, before[name])
    layer.load_state_dict(good)
    assert all(np.array_equal(layer.params[name], good[name]) for name in good)


def test_parameters_and_submodules_are_set_once() -> None:
    stack: Any = stack_layers(sLSTM, 2, 4, 2)
    first = stack.params["W_l0"]
    assert first is stack.layers[0].cell.params["W"]
    frozen = "expected to be set once, params before submodules"
    for module, name in ((stack, "layers"), (stack, "submodules"), (stack.layers[0], "cell")):
        with pytest.raises(TypeError, match=f"{name}: {frozen}"):
            setattr(module, name, getattr(module, name))
    for module in (stack, stack.layers[0].cell):
        with pytest.raises(TypeError, match=f"params: {frozen}"):
            module.params = {}
    with pytest.raises(TypeError, match="expected a change in place"):
        stack.params["typo"] = None
    stack.params["W_l0"] += 1
    assert stack.params["W_l0"] is first
    with pytest.raises(TypeError, match="expected each module once"):
        Stacked([[stack.layers[1]], [stack.layers[1]]])


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_copy_of_a_module(copied: Any) -> None:
    layer, x = LSTM(2, 3, 2, rng=0), np.ones((1, 4, 2))
    other = copied(layer)
    np.testing.assert_array_equal(other(x)[0], layer(x)[0])
    other.params["bias_ih_l1"][...] = 1
    np.testing.assert_array_equal(other.layers[1].params["bias_ih"], 1)
    assert (other(x)[0] == layer(x)[0]).all() == (copied is copy.copy)
