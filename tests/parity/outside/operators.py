"""The operators LSTM, GRU and RNN of ONNX, computed by cells of this package.

X is (T, B, D). W and R have a first axis of directions. B contains two biases in sequence.
Rows are in the order i, o, f, c in LSTM and z, r, h in GRU; peepholes in the order i, o, f.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.cells import ElmanCell, GRUCell, LSTMCell, OriginalGRUCell, PeepholeLSTMCell
from numpy_xlstm.layers import GRU, LSTM, RNN, Recurrent, SequenceLayer, Stacked
from numpy_xlstm.layers.rnn_base import RNNBase
from numpy_xlstm.layers.stacked import reverse_steps
from numpy_xlstm.numerics import Array
from tests.parity.outside.suite import NotHere, error

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


class Operator(NamedTuple):
    """A node and its inputs, with their names in ONNX."""

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
    """Reorder blocks of rows, one for each letter."""
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
    """Make a cell with the weights of one direction."""
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


def layer_of(op: Operator) -> Recurrent:
    """Make the layer for the operator, in PyTorch's form or made of cells.

    It has both directions. A purely backward operator is a forward layer on reversed inputs.
    """
    ours: type[Any] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}[op.kind]
    nonlinearity = check_attributes(op)
    if "P" in op.inputs or (op.kind == "GRU" and not op.attributes.get("linear_before_reset", 0)):
        return Stacked([[SequenceLayer(cell_of(op, d)) for d in range(op.directions)]])
    (_, rows, D), H = op.inputs["W"].shape, op.inputs["R"].shape[2]
    options: dict[str, Any] = {"nonlinearity": nonlinearity} if op.kind == "RNN" else {}
    layer: Recurrent = ours(
        D, H, bidirectional=op.directions == 2, dtype=op.inputs["W"].dtype, **options
    )
    theirs, wanted = {"LSTM": ("iofc", "ifco"), "GRU": ("zrh", "rzh"), "RNN": ("h", "h")}[op.kind]
    for d, suffix in enumerate(("_l0", "_l0_reverse")[: op.directions]):
        B = op.inputs["B"][d] if "B" in op.inputs else np.zeros(2 * rows)
        arrays = {"weight_ih": op.inputs["W"][d], "weight_hh": op.inputs["R"][d]}
        arrays |= dict(zip(("bias_ih", "bias_hh"), np.split(B, 2), strict=True))
        for name, array in arrays.items():
            layer.params[name + suffix][...] = reordered(array, theirs, wanted)
    return layer


def by_layer(op: Operator) -> dict[str, Array]:
    """Compute Y, Y_h and, for an LSTM, Y_c by a layer."""
    layer, x, lengths = layer_of(op), op.inputs["X"], op.inputs.get("sequence_lens")
    x = x if op.batch_first else x.swapaxes(0, 1)
    given = [op.inputs[name] for name in ("initial_h", "initial_c") if name in op.inputs]
    given = [a.swapaxes(0, 1) if op.batch_first else a for a in given]
    states = tuple(zip(*given, strict=True))  # of each direction
    outer = layer.outer_state if isinstance(layer, RNNBase) else tuple
    state = outer(states) if states else None
    turned = op.attributes.get("direction", "forward") == "reverse"
    y, state = layer(reverse_steps(x, lengths) if turned else x, state, lengths=lengths)
    y = reverse_steps(y, lengths) if turned else y
    states = layer.inner_state(state) if isinstance(layer, RNNBase) else state
    last = [np.stack(arrays) for arrays in zip(*states, strict=True)]
    y = y.reshape(*y.shape[:2], op.directions, -1)
    if op.batch_first:
        last = [a.swapaxes(0, 1) for a in last]
    else:
        y = y.transpose(1, 2, 0, 3)
    return dict(zip(("Y", "Y_h", "Y_c"), (y, *last), strict=False))


def compare(op: Operator, expected: Mapping[str, Array]) -> float:
    """Return the error of the layer."""
    outputs = by_layer(op)
    return error([outputs[name] for name in expected], expected.values())
