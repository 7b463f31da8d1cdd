"""Tests that find mistakes in cells and kernels: ties and gradient checks at a few hard points.

They are the tests of ``tests/ties`` and ``tests/cells`` at a few selected points, so that all take
only seconds, with the golden vectors and initial values.
"""

from itertools import product
from typing import Any

import numpy as np

from numpy_xlstm import SequenceLayer, gate_rows, gradcheck, mLSTM, sLSTM, unroll, unroll_backward
from numpy_xlstm.cells import ElmanCell, GRUCell, LSTMPCell, OriginalGRUCell, PeepholeLSTMCell
from numpy_xlstm.layers import LSTMSequence
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import tree_map
from tests.cells import test_starting_values as starting_values
from tests.golden.test_golden import CASES, test_values_states_and_gradients
from tests.samples import draw_like, random_state
from tests.variants import assert_close

KINDS = ("sigmoid", "exp")


def layers(rng: np.random.Generator) -> list[Any]:
    """Yield all sequences in all variants, with random parameters."""
    found: list[Any] = [LSTMSequence(3, 4)]
    found += [sLSTM(3, 4, 2, forget_gate=kind) for kind in KINDS]
    forms = ("recurrent", "parallel", "chunkwise")
    for n, (form, forget, input_gate) in enumerate(product(forms, KINDS, KINDS)):
        gates: dict[str, Any] = {"forget_gate": forget, "input_gate": input_gate}
        found.append(mLSTM(3, 4, 2, qk_dim=6, form=form, chunk_size=3, eps=0.3 * (n % 2), **gates))
    return [layer.with_params(_random(layer.params, rng)) for layer in found]


def _random(params: Any, rng: np.random.Generator) -> dict[str, Array]:
    return {name: rng.standard_normal(array.shape) for name, array in params.items()}


def states(layer: Any, rng: np.random.Generator, B: int) -> list[Any]:
    """Yield None, a random state, and special states: zeros, and m far above and below ĩ."""
    like = layer.init_state(B)
    found = [None, random_state(like, rng)]
    zeros = tree_map(np.zeros_like, like)
    if getattr(zeros, "m", None) is None:
        return found
    shifts = (0.0, 800.0) if hasattr(like, "h") else (0.0,)
    found += [zeros._replace(m=zeros.m + shift) for shift in shifts]
    return [*found, found[1]._replace(m=found[1].m + 300), found[1]._replace(m=found[1].m - 300)]


def same(got: Any, expected: Any) -> None:
    """Fail unless two trees are the same, relative to the largest entry of each array."""
    assert_close(got, expected, 1e-9, 1e-11)


def tie(layer: Any, x: Array, state: Any, lengths: Any, rng: np.random.Generator) -> None:
    """Check that a layer equals its unrolled cell."""
    y, last, cache = layer.forward(x, state, lengths=lengths)
    ys, state_of_cell, steps = unroll(layer.cell, x, state, lengths=lengths)
    same((y, last), (ys, state_of_cell))
    same(layer(x, state, lengths=lengths), (ys, state_of_cell))
    dy, dstate = draw_like(y, rng), draw_like(last, rng)
    for dlast in (dstate, None):
        dx, dstate0, grads = layer.backward(dy, cache, dlast)
        expected = unroll_backward(layer.cell, dy, steps, dlast)
        same((dx, dstate0), expected[:2])
        same(tuple(grads.values()), tuple(expected[2][name] for name in grads))


def check(target: Any, *inputs: Any) -> None:
    """Check by two methods that a backward is the vector-Jacobian product of its forward."""
    report = gradcheck(target, *inputs, rng=3, methods=["complex", "adjoint"], max_entries=12)
    assert not report.failures, str(report)


def ties(rng: np.random.Generator) -> None:
    """Check log f = −4e-18 and log f = 0 with ĩ = 0, a near tie and a tie of the maximum."""
    x = rng.standard_normal((2, 4, 3))
    for layer, forget_bias in product(layers(rng), (40, 0)):
        names = [("W", "R", "b")] if "R" in layer.params else [("W_i", "b_i"), ("W_f", "b_f")]
        for name in (name for group in names for name in group):
            array = layer.params[name]
            for gate in "if":
                (gate_rows(array, gate) if "_" not in name else array)[...] = 0
        forget = layer.params["b_f"] if "b_f" in layer.params else gate_rows(layer.params["b"], "f")
        forget[...] = forget_bias
        tie(layer, x, None, None, rng)


def floor(rng: np.random.Generator) -> None:
    """Check m = 600 with q·n = e^−m, where the quotient is 1 and its gradient not 0."""
    for form in ("recurrent", "parallel", "chunkwise"):
        layer = mLSTM(5, 1, qk_dim=2, forget_gate="exp", eps=0.0, form=form, chunk_size=2)
        for array in layer.params.values():
            array[...] = 0
        layer.params["W_q"][:, :2] = layer.params["W_k"][:, :2] = np.eye(2)
        layer.params["b_v"][...] = layer.params["W_f"][0, 2] = 1
        layer.params["b_o"][...] = 50
        x = np.array([[[1.0, 0, 0, 0, 0], [1, 0, 300, 0, 0], [0, 2, 300, 0, 0]]])
        y = layer(x)[0]
        assert abs(y[0, 2, 0] - 1) < 1e-12, y


def run() -> None:
    """Run all of it, what is quick first: most mutants are noticed there."""
    for file, case in CASES:
        if file != "models":
            test_values_states_and_gradients(file, case)
    rng = np.random.default_rng(5)
    custom_cells = GRUCell, OriginalGRUCell, PeepholeLSTMCell, ElmanCell
    for cell in (*(custom(3, 4) for custom in custom_cells), LSTMPCell(3, 4, 2)):
        cell = cell.with_params(_random(cell.params, rng))
        x = rng.standard_normal((3, 4, 3))
        check(cell, x[:, 0], random_state(cell.init_state(3), rng))
        check(SequenceLayer(cell), x)
    for layer in layers(rng):
        x = rng.standard_normal((3, 5, 3))
        for state in states(layer, rng, 3):
            for lengths in (None, np.array([5, 2, 0])):
                tie(layer, x, state, lengths, rng)
        tie(layer, 6 * x, None, None, rng)
    ties(rng)
    floor(rng)
    starting_values.test_uniform_cells()
    starting_values.test_lstm_gru_and_rnn()
    starting_values.test_slstm()
    starting_values.test_mlstm()
    for layer in layers(rng):
        x, state = rng.standard_normal((3, 5, 3)), random_state(layer.init_state(3), rng)
        check(layer.cell, x[:, 0], state)
        check(layer.cell, 6 * x[:, 0])
        check(layer, x[:2, :3], tree_map(lambda a: a[:2], state))
