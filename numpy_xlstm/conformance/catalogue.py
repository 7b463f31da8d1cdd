"""All subjects and their names."""

from typing import Any

from numpy_xlstm import cells
from numpy_xlstm.cells import mlstm, slstm
from numpy_xlstm.conformance.given import GivenGates, GivenMemory
from numpy_xlstm.conformance.models import MODELS
from numpy_xlstm.conformance.stateless import LAYERS
from numpy_xlstm.conformance.subjects import Subject, sequence, stack, step
from numpy_xlstm.conformance.training import TRAINING

D, NH, CHUNK = 5, 2, 3
"""Width of x, number of heads, and steps per chunk; all axes of a case have different sizes."""
PLAIN = {"input_size": D, "hidden_size": 6}
HEADS = {"input_size": D, "hidden_size": 8, "num_heads": NH}
MEMORY = {"input_size": D, "hidden_size": 12, "num_heads": NH, "qk_dim": 8}
STACK = {"num_layers": 2, "bidirectional": True}
EPS = 2.0**-20

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
FORGET = {gate: {**HEADS, "forget_gate": gate} for gate in ("sigmoid", "exp")}
MLSTM = {gate: {**MEMORY, "eps": EPS, "forget_gate": gate} for gate in FORGET}
MLSTMSIG = {gate: {**MEMORY, "input_gate": "sigmoid", "forget_gate": gate} for gate in FORGET}
NONLINEARITY = {kind: {**PLAIN, "nonlinearity": kind} for kind in ("tanh", "relu")}


def _with(cell: Any) -> dict[str, str]:
    return {**GATED, **cell.tensor_axes}


FAMILIES: dict[str, tuple[Any, dict[str, Any], dict[str, str]]] = {
    "lstm": (cells.LSTMCell, {"": PLAIN}, _with(cells.LSTMCell)),
    "slstm": (cells.sLSTMCell, FORGET, SCALAR),
    "mlstm": (cells.mLSTMCell, MLSTM, MATRIX),
    "mlstmsig": (cells.mLSTMCell, MLSTMSIG, MATRIX),
    "gru": (cells.GRUCell, {"": PLAIN}, _with(cells.GRUCell)),
    "original-gru": (cells.OriginalGRUCell, {"": PLAIN}, _with(cells.OriginalGRUCell)),
    "elman": (cells.ElmanCell, NONLINEARITY, _with(cells.ElmanCell)),
    "peephole": (cells.PeepholeLSTMCell, {"": PLAIN}, _with(cells.PeepholeLSTMCell)),
    "lstmp": (cells.LSTMPCell, {"": {**PLAIN, "proj_size": 4}}, _with(cells.LSTMPCell)),
}
"""Specification, variants and axes of each family."""


def _subjects() -> list[Subject]:
    found: list[Subject] = []
    for family, (cell, variants, axes) in FAMILIES.items():
        one_step = {n: a.replace(" step", "") if n in "xy" else a for n, a in axes.items()}
        found.append(Subject(f"{family}.step", cell, step, variants, one_step, steps=False))
        found.append(Subject(f"{family}.sequence", cell, sequence, variants, axes))
        layered = {n: {**o, **STACK} for n, o in variants.items() if not _unbounded(o)}
        found.append(
            Subject(f"{family}.stack", cell, stack, layered, {**axes, "y": _both(axes["y"])})
        )
        if family in ("lstm", "slstm"):
            given = {
                n: {k: v for k, v in o.items() if k != "input_size"} for n, o in variants.items()
            }
            name = f"{family}.recurrent"
            found.append(GivenGates(name, cell, sequence, given, axes))
        if family in ("mlstm", "mlstmsig"):
            for form in ("recurrent", "parallel", "chunkwise"):
                given = {n: _given(options, form) for n, options in variants.items()}
                found.append(GivenMemory(f"{family}.{form}", cell, sequence, given, GIVEN))
    return found


def _both(axes: str) -> str:
    """Return the axes of the concatenated outputs of both directions."""
    parts = axes.removeprefix("row step ").strip("()")
    return f"row step (direction=2 {parts})"


def _unbounded(options: dict[str, Any]) -> bool:
    """Return whether the memory is unbounded, and so grows from layer to layer."""
    return options.get("forget_gate") == "exp" and options.get("input_gate") == "sigmoid"


def _given(options: dict[str, Any], form: str) -> dict[str, Any]:
    inner = {name: value for name, value in options.items() if name != "input_size"}
    return inner | ({"chunk_size": CHUNK} if form == "chunkwise" else {})


SUBJECTS = {each.name: each for each in (*_subjects(), *LAYERS, *MODELS, *TRAINING)}
