"""The exported graphs pass the kit as ports without a backward."""

from collections.abc import Mapping

import numpy as np
import pytest

from numpy_xlstm import SequenceLayer, conformance
from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.catalogue import FAMILIES
from numpy_xlstm.conformance.subjects import part
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild
from tests.checkpoints.onnx_run import Session, needs_runtime
from tests.conformance.implementations.offers import Implementation

needs_runtime()  # before any case is computed

SUBJECTS = [f"{family}.{part}" for family in FAMILIES for part in ("step", "sequence", "stack")]


def port(case: Case) -> Mapping[str, Array]:
    """Compute the results of a case with the graph of its layer, or of one step of its cell."""
    inputs, one = case.inputs, not case.subject.steps
    layer = case.subject.module(case.options).with_params(part(inputs, "params"))
    layer = SequenceLayer(layer) if one else layer
    x = inputs["x"][:, None] if one else inputs["x"]
    empty, given = layer.init_state(len(x)), part(inputs, "state")
    state = rebuild(empty, iter(given.values())) if given else empty
    y, after = Session(layer, step=one)(x, state)
    return {"y": y[:, 0] if one else y, **dict(leaves("final", after))}


def offers(case: Case) -> bool:
    """Return whether a graph computes a case.

    A state of zeros is the empty state of a graph, while the kit's ``zero-state`` has m = 0. In
    float32, LSTM of ONNX Runtime has gates of 0 below about 1e-8. In float64, neither the runtime
    nor the evaluator has an RNN with ReLU.
    """
    flags, narrow = {*case.flags}, case.dtype == "float32"
    if {"zero-state", "padding"} & flags:
        return False
    if case.subject.family in ("lstm", "peephole") and narrow and "closed-gates" in flags:
        return False
    return narrow or case.options.get("nonlinearity") != "relu"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_graph_passes(subject: str, dtype: str, seed_of_cases: int) -> None:
    offered = Implementation("onnx", "", subject, port, gradients=False, dtype=dtype)
    found = conformance.cases(subject, dtype, seed=seed_of_cases)
    chosen = [offered.case(case) for case in found if offers(case)]
    chosen = chosen[::2] if len(chosen) > 6 and not seed_of_cases else chosen
    report = conformance.verify(chosen, port)
    assert report.passed, str(report)
    assert len(report.verdicts) >= (1 if subject.endswith("stack") else 3)


def test_a_wrong_graph_fails() -> None:
    def wrong(case: Case) -> Mapping[str, Array]:
        found = port(case)
        return {**found, "final.n": found["final.n"] * np.float32(1.001)}

    offered = Implementation("onnx", "", "mlstm.step", wrong, (), False, "float32")
    chosen = [offered.case(case) for case in conformance.cases("mlstm.step", "float32")]
    assert not conformance.verify(chosen, wrong).passed
