"""The catalogue: all subjects of the conformance kit, of ``numpy-xlstm gradcheck`` and of tests."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from numpy_xlstm import cells, kernels, layers
from numpy_xlstm.cells import mlstm, slstm
from numpy_xlstm.cells.gates import GATE_KINDS
from numpy_xlstm.conformance.module_subjects import BLOCKS_AND_MODELS, STATELESS
from numpy_xlstm.conformance.subjects import (
    CASE_EPS,
    CHUNK,
    NH,
    Given,
    Options,
    Subject,
    drawn,
    sequence,
    stack,
)
from numpy_xlstm.kernels import mlstm as forms
from numpy_xlstm.layers.stacked import stack_layers

Pair = tuple[Callable[..., Any], Callable[..., Any]]
"""A public function and its backward."""
FUNCTION_OPTIONS = ("forget_gate", "input_gate", "eps", "chunk_size")
"""Options that functions of given pre-activations may take."""

PLAIN = {"input_size": 5, "hidden_size": 6}
HEADS = {"input_size": 5, "hidden_size": 8, "num_heads": NH}
MEMORY = {"input_size": 5, "hidden_size": 12, "num_heads": NH, "qk_dim": 8}
STACK = {"num_layers": 2, "bidirectional": True}
"""Options of all variants; all axes of a case have different sizes."""

GATED = {
    "x": "row step input",
    "y": "row step unit",
    "h": "row unit",
    "c": "row unit",
    "Wx": "row step (gate=ifzo unit)",
}
SCALAR = {
    **dict.fromkeys("hcnm", "row (head={num_heads} unit)"),
    "x": "row step input",
    "y": "row step (head={num_heads} unit)",
    **slstm.AXES,
    "Wx": "row step (gate=ifzo head={num_heads} unit)",
}
MATRIX = {
    "x": "row step input",
    "y": "row step (head={num_heads} value)",
    "C": "row head key value",
    "n": "row head key",
    "m": "row head",
    **mlstm.AXES,
}
GIVEN = {
    **{name: MATRIX[name] for name in "Cnm"},
    **dict.fromkeys("qk", "row head step key"),
    **dict.fromkeys("vy", "row head step value"),
    **dict.fromkeys("if", "row head step"),
}
FORGET = {gate: {**HEADS, "forget_gate": gate} for gate in GATE_KINDS}
MLSTM = {gate: {**MEMORY, "eps": CASE_EPS, "forget_gate": gate} for gate in FORGET}
MLSTMSIG = {gate: {**MEMORY, "input_gate": "sigmoid", "forget_gate": gate} for gate in FORGET}
NONLINEARITY = {kind: {**PLAIN, "nonlinearity": kind} for kind in ("tanh", "relu")}


def _with(cell: Any) -> dict[str, str]:
    return {**GATED, **cell.tensor_axes}


class Family(NamedTuple):
    """A cell, and what :class:`Subject` says of its sequence."""

    cell: Any
    variants: dict[str, dict[str, Any]]
    axes: dict[str, str]
    layer: Any = None
    """Layer that users call; by default a :class:`~numpy_xlstm.SequenceLayer` of the cell."""


FAMILIES = {
    "lstm": Family(cells.LSTMCell, {"": PLAIN}, _with(cells.LSTMCell)),
    "slstm": Family(cells.sLSTMCell, FORGET, SCALAR, layers.sLSTM),
    "mlstm": Family(cells.mLSTMCell, MLSTM, MATRIX, layers.mLSTM),
    "mlstmsig": Family(cells.mLSTMCell, MLSTMSIG, MATRIX, layers.mLSTM),
    "gru": Family(cells.GRUCell, {"": PLAIN}, _with(cells.GRUCell)),
    "original-gru": Family(cells.OriginalGRUCell, {"": PLAIN}, _with(cells.OriginalGRUCell)),
    "elman": Family(cells.ElmanCell, NONLINEARITY, _with(cells.ElmanCell)),
    "peephole": Family(cells.PeepholeLSTMCell, {"": PLAIN}, _with(cells.PeepholeLSTMCell)),
    "lstmp": Family(cells.LSTMPCell, {"": {**PLAIN, "proj_size": 4}}, _with(cells.LSTMPCell)),
}
"""All cells. Each gives three subjects: a step, a sequence and a stack."""

FORMS: dict[str, Pair] = {
    "recurrent": (forms.mlstm_recurrent, forms.mlstm_recurrent_backward),
    "parallel": (forms.mlstm_parallel, forms.mlstm_parallel_backward),
    "chunkwise": (forms.mlstm_chunkwise, forms.mlstm_chunkwise_backward),
}
OVER_GIVEN: dict[str, dict[str, Pair]] = {
    "lstm": {"recurrent": (kernels.lstm_recurrent, kernels.lstm_recurrent_backward)},
    "slstm": {"recurrent": (kernels.slstm_recurrent, kernels.slstm_recurrent_backward)},
    "mlstm": FORMS,
    "mlstmsig": FORMS,
}
"""Recurrences over given pre-activations, or over given q, k, v and gates."""


def subjects_of(name: str, family: Family) -> list[Subject]:
    """Return the step, the sequence and the stack of a cell."""
    cell, variants, axes, _ = family
    one_step = axes | {tensor: axes[tensor].replace(" step", "") for tensor in ("x", "y")}
    # a memory with two such gates is unbounded, and so grows from layer to layer
    unbounded = {"forget_gate": "exp", "input_gate": "sigmoid"}.items()
    layered = {n: {**o, **STACK} for n, o in variants.items() if not unbounded <= o.items()}
    outputs = axes["y"].removeprefix("row step ").strip("()")
    both = axes | {"y": f"row step (direction=2 {outputs})"}
    layer = family.layer or partial(_sequence_layer, cell)
    public, stacked = (partial(drawn, make) for make in (layer, partial(stack_layers, layer)))
    return [
        Subject(f"{name}.step", cell, drawn, variants, one_step, steps=False),
        Subject(f"{name}.sequence", cell, sequence, variants, axes, public=public),
        Subject(f"{name}.stack", cell, stack, layered, both, public=stacked),
    ]


def _sequence_layer(cell: Any, *sizes: int, **options: Any) -> layers.SequenceLayer:
    return layers.SequenceLayer(cell(*sizes, **options))


def _given(name: str, family: Family) -> list[Subject]:
    """Return the recurrences of a cell over given arrays."""
    cell, variants, axes, _ = family
    axes = GIVEN if cell is cells.mLSTMCell else {**axes, "R": SCALAR["R"]}
    subjects: list[Subject] = []
    for form, pair in OVER_GIVEN.get(name, {}).items():
        chunk = {"chunk_size": CHUNK} if form == "chunkwise" else {}
        given = {n: {**o, **chunk} for n, o in variants.items()}
        for options in given.values():
            del options["input_size"]
        public = partial(_functions, pair)
        subjects.append(Given(f"{name}.{form}", cell, sequence, given, axes, public=public))
    return subjects


def _functions(pair: Pair, options: Options) -> Pair:
    """Return a pair of functions with the options that they take."""
    known = {name: value for name, value in options.items() if name in FUNCTION_OPTIONS}
    return partial(pair[0], **known), pair[1]


CELLS = [
    subject
    for name, family in FAMILIES.items()
    for subject in subjects_of(name, family) + _given(name, family)
]
SUBJECTS = {each.name: each for each in (*CELLS, *STATELESS, *BLOCKS_AND_MODELS)}
