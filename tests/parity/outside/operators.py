"""The operators LSTM, GRU and RNN of ONNX, computed by cells of ours.

X is (T, B, D), W and R have an axis of directions in front, B holds two biases one after the other.
Rows are in the order i, o, f, c in LSTM and z, r, h in GRU; peepholes in the order i, o, f.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm import LSTMState, lstm_recurrent
from numpy_xlstm.cells import (
    ElmanCell,
    GRUCell,
    LSTMCell,
    OriginalGRUCell,
    PeepholeLSTMCell,
    unroll,
)
from numpy_xlstm.numerics import Array
from tests.parity.outside.suite import NotHere, error

Sequence = Callable[..., tuple[Array, Any, Any]]
"""Runs a cell over time: ``sequence(cell, x, state, lengths=…)``."""

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


class Operator(NamedTuple):
    """A node with its inputs by ONNX's names."""

    kind: str
    attributes: Mapping[str, Any]
    inputs: Mapping[str, Array]

    @property
    def directions(self) -> int:
        return len(self.inputs["W"])

    @property
    def batch_first(self) -> bool:
        return bool(self.attributes.get("layout", 0))


def reordered(rows: Array, theirs: str, ours: str) -> Array:
    """Blocks of rows, one for each letter, in another order."""
    parts = dict(zip(theirs, np.split(rows, len(theirs)), strict=True))
    return np.concatenate([parts[gate] for gate in ours])


def check_attributes(op: Operator) -> str:
    """Raise :class:`NotHere` if an attribute has no counterpart; return φ of an RNN."""
    given = op.attributes
    default = ACTIVATIONS[op.kind] * op.directions
    activations = tuple(given.get("activations", default))
    names = {default, ("Relu",) * op.directions} if op.kind == "RNN" else {default}
    if activations not in names:
        raise NotHere(f"activations {', '.join(activations)}")
    for name, absent in (("clip", None), ("input_forget", 0)):
        if given.get(name, absent) != absent:
            raise NotHere(name)
    return str(activations[0]).lower()


def cell_of(op: Operator, direction: int) -> Any:
    """A cell with the weights of one direction."""
    nonlinearity = check_attributes(op)
    W, R = op.inputs["W"][direction], op.inputs["R"][direction]
    sizes, dtype = (W.shape[1], R.shape[1]), W.dtype
    b, b_h = np.split(op.inputs["B"][direction], 2) if "B" in op.inputs else np.zeros((2, len(W)))
    cell: Any
    params = {"W": W, "R": R, "b": b + b_h}
    if op.kind == "RNN":
        cell = ElmanCell(*sizes, nonlinearity=nonlinearity, dtype=dtype)
    elif op.kind == "GRU":
        if op.attributes.get("linear_before_reset", 0):
            cell = GRUCell(*sizes, dtype=dtype)
            params |= {"b": b, "b_h": b_h}
        else:
            cell = OriginalGRUCell(*sizes, dtype=dtype)
        params = {name: reordered(array, "zrh", "rzh") for name, array in params.items()}
    else:
        cell = (
            PeepholeLSTMCell(*sizes, dtype=dtype)
            if "P" in op.inputs
            else LSTMCell(*sizes, dtype=dtype)
        )
        params = {name: reordered(array, "iofc", "ifco") for name, array in params.items()}
        if "P" in op.inputs:
            params["P"] = reordered(op.inputs["P"][direction], "iof", "ifo")
    for name, array in params.items():
        cell.params[name][...] = array
    return cell


def kernel(cell: Any, x: Array, state: Any, *, lengths: Array | None) -> tuple[Array, Any, Any]:
    """An LSTM as the whole sequence at once."""
    W, R, b = (cell.params[name] for name in "WRb")
    return lstm_recurrent(x @ W.T + b, R[None], LSTMState(*state), lengths=lengths)


def reverse_steps(array: Array, lengths: Array | None) -> Array:
    """(B, T, ·) with the steps of each row in reverse, within its length; padding stays."""
    if lengths is None:
        return array[:, ::-1]
    steps, ends = np.arange(array.shape[1]), lengths[:, None]
    order = np.where(steps < ends, ends - 1 - steps, steps)
    return np.take_along_axis(array, order[..., None], axis=1)


def compute(op: Operator, sequence: Sequence = unroll) -> dict[str, Array]:
    """Y, Y_h and, of an LSTM, Y_c, by ``sequence`` of a cell for each direction."""
    get = op.inputs.get
    x, lengths = op.inputs["X"], get("sequence_lens")
    x = x if op.batch_first else x.swapaxes(0, 1)
    start = [get(name) for name in ("initial_h", "initial_c")]
    ys, states = [], []
    for d in range(op.directions):
        cell = cell_of(op, d)
        backward = op.attributes.get("direction", "forward") == "reverse" or d == 1
        empty = cell.init_state(len(x))
        given = [a if a is None else (a[:, d] if op.batch_first else a[d]) for a in start]
        state = [e if a is None else a for e, a in zip(empty, given, strict=False)]
        steps = reverse_steps(x, lengths) if backward else x
        y, state, _ = sequence(cell, steps, type(empty)(*state), lengths=lengths)
        ys.append(reverse_steps(y, lengths) if backward else y)
        states.append(state)
    Y = np.stack(ys, axis=2)  # (B, T, directions, H)
    last = [np.stack(arrays, axis=1) for arrays in zip(*states, strict=True)]
    if not op.batch_first:
        Y, last = Y.transpose(1, 2, 0, 3), [a.swapaxes(0, 1) for a in last]
    return dict(zip(("Y", "Y_h", "Y_c"), (Y, *last), strict=False))


def compare(op: Operator, expected: Mapping[str, Array]) -> float:
    """The larger error of the unrolled cell and of the kernel, where there is one."""
    forms: list[Sequence] = [unroll]
    if op.kind == "LSTM" and "P" not in op.inputs:
        forms.append(kernel)
    found = [compute(op, form) for form in forms]
    return max(error([ours[name] for name in expected], expected.values()) for ours in found)
