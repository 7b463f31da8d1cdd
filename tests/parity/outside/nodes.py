"""The node tests of the package ``onnx``, and its NumPy evaluators on random weights."""

import warnings
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.numerics import Array
from tests.parity.outside.operators import Operator, compare
from tests.parity.outside.random_operators import random_operator
from tests.parity.outside.suite import Case

REASON = "onnx (the extra 'peers') is not installed"


@cache
def node_tests() -> list[Any]:
    """Collect all node tests with one recurrent node; this evaluates tests of all operators."""
    cases = pytest.importorskip("onnx.backend.test.case.node", reason=REASON)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of them overflow on purpose
        found = cases.collect_testcases()
    return [case for case in found if case.model.graph.node[0].op_type in ("LSTM", "GRU", "RNN")]


def operator_of(case: Any) -> tuple[Operator, dict[str, Array]]:
    """Return the node of a test with its inputs, and its expected outputs."""
    onnx = pytest.importorskip("onnx", reason=REASON)
    (node,) = case.model.graph.node
    ((inputs, outputs),) = case.data_sets
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    attributes = {n: a.decode() if isinstance(a, bytes) else a for n, a in attributes.items()}
    given = zip((name for name in node.input if name), inputs, strict=True)
    expected = zip((name for name in node.output if name), outputs, strict=True)
    return Operator(node.op_type, attributes, dict(given)), dict(expected)


def node_cases(kind: str) -> dict[str, Case]:
    """The node tests of one operator."""
    found = [(case.name, *operator_of(case)) for case in node_tests()]
    return {name: partial(compare, op, out) for name, op, out in found if op.kind == kind}


def _evaluated(op: Operator) -> dict[str, Array]:
    """Compute outputs with the evaluator of the node tests."""
    name = f"onnx.backend.test.case.node.{op.kind.lower()}"
    node_tests()
    helper = getattr(pytest.importorskip(name, reason=REASON), f"{op.kind}Helper")
    outputs = helper(**op.inputs, **op.attributes).step()
    return dict(zip(("Y", "Y_h", "Y_c"), outputs, strict=False))


def evaluator_cases(kind: str, count: int) -> dict[str, Case]:
    """Random cases in float64, without lengths and relu, which the evaluator does not support."""

    options: Any = {"lengths": False, "relu": False}
    ops = {str(seed): random_operator(kind, seed, np.float64, **options) for seed in range(count)}
    return {name: partial(_beside_evaluator, op) for name, op in ops.items()}


def _beside_evaluator(op: Operator) -> float:
    return compare(op, _evaluated(op))
