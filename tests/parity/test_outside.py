"""Suites and references of other projects, and the table of their outcomes in the docs."""

import re
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from numpy_xlstm.numerics import Array
from tests.parity.outside.nodes import node_tests, operator_of
from tests.parity.outside.operators import Operator, by_layer, reordered
from tests.parity.outside.random_operators import random_operator
from tests.parity.outside.runtime import session_run
from tests.parity.outside.suite import NotHere, Suite, error, run
from tests.parity.outside.suites import SUITES

PAGE = Path(__file__).parents[2] / "docs/outside-suites.md"


class Row(NamedTuple):
    """A line of the table in the docs."""

    cases: int
    run: int
    passed: int
    error: float
    not_here: str


def table() -> dict[str, Row]:
    line = r"^\| (.+) \| (\d+) \| (\d+) \| (\d+) \| (\de-\d+|–) \| (.*)\|$"
    rows = re.findall(line, PAGE.read_text("utf-8"), re.M)
    return {
        name: Row(int(n), int(run), int(passed), 0.0 if error == "–" else float(error), why.strip())
        for name, n, run, passed, error, why in rows
    }


def test_the_table_has_a_row_for_every_suite() -> None:
    assert table().keys() == SUITES.keys()


@pytest.mark.parametrize("name", SUITES)
def test_the_suite_gives_what_the_table_says(name: str) -> None:
    outcome, row = run(SUITES[name]), table()[name]
    assert outcome.failures == {}
    assert (outcome.cases, outcome.run, outcome.passed) == (row.cases, row.run, row.passed)
    assert outcome.error <= row.error <= SUITES[name].tolerance
    assert all(missing in row.not_here for missing in outcome.not_here)
    assert bool(row.not_here) == bool(outcome.not_here)


def test_what_a_run_counts() -> None:
    def missing() -> float:
        raise NotHere("clip")

    cases = {"good": lambda: 1e-9, "off": lambda: 1e-3, "nan": lambda: np.nan, "no": missing}
    outcome = run(Suite(1e-6, lambda: cases))
    assert (outcome.cases, outcome.run, outcome.passed, outcome.not_here) == (4, 3, 1, {"clip"})
    assert outcome.failures.keys() == {"off", "nan"}
    assert error([np.full(2, np.nan)], [np.ones(2)]) == error([np.ones(2)], [np.ones(3)]) == np.inf


def permuted(op: Operator, order: str) -> Operator:
    """The operator with its gates in another order."""
    theirs = {"LSTM": "iofc", "GRU": "zrh"}[op.kind]
    inputs = dict(op.inputs)
    for name in ("W", "R", "B"):
        if name in inputs:
            inputs[name] = np.stack([_blocks(rows, theirs, order) for rows in inputs[name]])
    return op._replace(inputs=inputs)


def _blocks(rows: Array, theirs: str, order: str) -> Array:
    biases = np.split(rows, 2) if rows.ndim == 1 else [rows]
    return np.concatenate([reordered(part, theirs, order) for part in biases])


def transposed(op: Operator) -> Operator:
    R = op.inputs["R"]
    n, rows, H = R.shape
    turned = R.reshape(n, rows // H, H, H).swapaxes(2, 3).reshape(R.shape)
    return op._replace(inputs={**op.inputs, "R": np.ascontiguousarray(turned)})


def other_peepholes(op: Operator) -> Operator:
    P = np.stack([reordered(row, "iof", "ofi") for row in op.inputs["P"]])
    return op._replace(inputs={**op.inputs, "P": P})


def _difference(op: Operator, wrong: Operator) -> float:
    return error(by_layer(wrong).values(), by_layer(op).values())


def test_the_random_operators_see_a_transposed_r() -> None:
    for kind in ("LSTM", "RNN", "GRU"):
        ops = [random_operator(kind, seed, np.float64) for seed in range(20)]
        # Not where H = 1, nor in the last step alone.
        assert sum(_difference(op, transposed(op)) > 1e-3 for op in ops) >= 10


@pytest.mark.parametrize("seed", range(6, 12))
def test_the_random_operators_see_what_the_node_tests_do_not(seed: int) -> None:
    """Every other order of gates, and peepholes permuted."""
    lstm, gru = (random_operator(kind, seed, np.float64) for kind in ("LSTM", "GRU"))
    assert lstm.inputs["R"].shape[2] > 1
    for op, gates in ((lstm, "iofc"), (gru, "zrh")):
        for order in map("".join, permutations(gates)):
            assert (_difference(op, permuted(op, order)) > 1e-3) == (order != gates)
    if "P" in lstm.inputs:
        assert _difference(lstm, other_peepholes(lstm)) > 1e-3


def test_five_node_tests_of_gru_do_not_see_where_the_reset_gate_is() -> None:
    """They have the original form, R(r ∘ h), and also pass with PyTorch's, r ∘ (R h)."""
    passed = {}
    for case in node_tests():
        op, expected = operator_of(case)
        if op.kind == "GRU":
            assert "linear_before_reset" not in op.attributes
            moved = op._replace(attributes={**op.attributes, "linear_before_reset": 1})
            ours = by_layer(moved)
            passed[case.name] = error([ours[n] for n in expected], expected.values()) < 1e-6
    assert [name for name, same in passed.items() if not same] == ["test_gru_seq_length"]
    assert len(passed) == 6


def test_a_row_without_steps() -> None:
    """For no steps, the final state is 0 in ONNX Runtime, and the initial state here."""
    op = random_operator("LSTM", 0, np.float32)
    B = op.inputs["X"].shape[1]
    op = op._replace(inputs={**op.inputs, "sequence_lens": np.zeros(B, np.int32)})
    theirs, ours = session_run(op), by_layer(op)
    assert error([ours["Y"]], [theirs["Y"]]) == 0
    assert not theirs["Y_h"].any()
    np.testing.assert_array_equal(ours["Y_h"], op.inputs["initial_h"])
    np.testing.assert_array_equal(ours["Y_c"], op.inputs["initial_c"])


@pytest.mark.parametrize(
    ("kind", "attribute", "value"),
    [("LSTM", "clip", 0.5), ("LSTM", "input_forget", 1), ("RNN", "activations", ["Elu"])],
)
def test_what_is_not_here_says_so(kind: str, attribute: str, value: object) -> None:
    op = random_operator(kind, 0, np.float64)
    op = op._replace(attributes={**op.attributes, attribute: value})
    with pytest.raises(NotHere, match=attribute):
        by_layer(op)
