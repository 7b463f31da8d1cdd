"""Forwards of the ONNX operators LSTM, GRU and RNN, by ONNX Runtime and by ``onnx``."""

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.numerics import Array
from tests.conformance.implementations.offers import Implementation

ORDERS = {"LSTM": ("ifzo", "iofz"), "GRU": ("rzn", "zrn"), "RNN": ("h", "h")}
"""Orders of the rows in this package and in ONNX."""

KINDS = {"lstm": "LSTM", "peephole": "LSTM", "gru": "GRU", "original-gru": "GRU", "elman": "RNN"}


INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
"""Inputs of an LSTM, in order; the others have the first six."""


class Operator(NamedTuple):
    """A node and its inputs, with their names in ONNX."""

    kind: str
    attributes: Mapping[str, Any]
    inputs: Mapping[str, Array]


def reordered(rows: Any, ours: str, theirs: str) -> Any:
    """Reorder blocks of rows, one for each letter, of an array of NumPy, PyTorch or JAX."""
    places = np.arange(len(rows)).reshape(len(ours), -1)
    return rows[places[[ours.index(gate) for gate in theirs]].ravel()]


def operator(case: Case) -> Operator:
    """Make the node of a case."""
    family, given = case.subject.family, case.inputs
    kind, H = KINDS[family], case.options["hidden_size"]
    ours, theirs = ORDERS[kind]
    W, R, b = (reordered(given[f"params.{name}"], ours, theirs)[None] for name in ("W", "R", "b"))
    second = given.get("params.b_h")
    other = np.zeros_like(b) if second is None else reordered(second, ours, theirs)[None]
    inputs = {"X": given["x"].swapaxes(0, 1), "W": W, "R": R, "B": np.concatenate([b, other], 1)}
    inputs |= {f"initial_{s}": given[f"state.{s}"][None] for s in "hc" if f"state.{s}" in given}
    if "params.P" in given:
        inputs["P"] = reordered(given["params.P"], "ifo", "iof")[None]
    if "lengths" in given:
        inputs["sequence_lens"] = given["lengths"].astype(np.int32)
    attributes: dict[str, object] = {"hidden_size": H}
    if kind == "GRU":
        attributes["linear_before_reset"] = int(family == "gru")
    if case.options.get("nonlinearity") == "relu":
        attributes["activations"] = ["Relu"]
    return Operator(kind, attributes, inputs)


def model_of(op: Operator, constant: bool = False) -> Any:
    """Make a model with this single node, whose inputs other than X may be constants."""
    import onnx

    last = max(k for k, name in enumerate(INPUTS) if name in op.inputs)
    named = [name if name in op.inputs else "" for name in INPUTS[: last + 1]]
    node = onnx.helper.make_node(op.kind, named, outputs(op), **op.attributes)
    info, kind = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype
    arrays = {n: np.ascontiguousarray(array) for n, array in op.inputs.items()}
    (T, B, _), H = arrays["X"].shape, op.attributes["hidden_size"]
    shapes = {n: (T, 1, B, H) if n == "Y" else (1, B, H) for n in outputs(op)}
    fixed = [n for n in arrays if n != "X"] if constant else []
    graph = onnx.helper.make_graph(
        [node],
        op.kind,
        [info(n, kind(a.dtype), a.shape) for n, a in arrays.items() if n not in fixed],
        [info(n, kind(arrays["X"].dtype), shape) for n, shape in shapes.items()],
        [onnx.numpy_helper.from_array(arrays[n], n) for n in fixed],
    )
    opset = onnx.helper.make_opsetid("", 14)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def outputs(op: Operator) -> list[str]:
    return ["Y", "Y_h", "Y_c"] if op.kind == "LSTM" else ["Y", "Y_h"]


def evaluated(op: Operator) -> dict[str, Array]:
    """Compute the results with the reference evaluator of ``onnx``."""
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(model_of(op))
    return dict(zip(outputs(op), session.run(None, dict(op.inputs)), strict=True))


def session_run(op: Operator) -> dict[str, Array]:
    """Compute the results with ONNX Runtime."""
    import onnxruntime

    feed = {name: np.ascontiguousarray(array) for name, array in op.inputs.items()}
    options: Any = {"providers": ["CPUExecutionProvider"]}
    session = onnxruntime.InferenceSession(model_of(op).SerializeToString(), **options)
    return dict(zip(outputs(op), session.run(None, feed), strict=True))


def runtime(op: Operator) -> dict[str, Array]:
    """Compute the results with ONNX Runtime.

    With no steps, a GRU ends the process, so it runs in its own. An LSTM with no steps does not
    write its final c, which is set to NaN here for a defined outcome.
    """
    if len(op.inputs["X"]):
        return session_run(op)
    if op.kind == "GRU":
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(session_run, op).result()
    found = session_run(op)
    return {name: np.full_like(a, np.nan) if name == "Y_c" else a for name, a in found.items()}


def port(run: Callable[[Operator], dict[str, Array]], case: Case) -> dict[str, Array]:
    """Return outputs and final state with the names and axes of the kit."""
    found = run(operator(case))
    y = found["Y"]  # (T, directions, B, H)
    results = {"y": np.ascontiguousarray(y[:, 0].swapaxes(0, 1))}
    return results | {f"final.{s}": found[f"Y_{s}"][0] for s in "hc" if f"Y_{s}" in found}


IMPLEMENTATIONS = [
    Implementation(
        package, name.format(kind), f"{family}.sequence", partial(port, run), lacks, False, dtype
    )
    for package, name, run, lacks, dtype in (
        ("onnxruntime", "{}", runtime, (), "float32"),
        ("onnx", "reference evaluator, {}", evaluated, ("no step", "relu"), "float64"),
    )
    for family, kind in KINDS.items()
]
