"""Tests that find mistakes in cells and kernels: ties and gradient checks at a few hard points.

They are tests of other folders at a few selected points, so that all take
only seconds, with the golden vectors and initial values.
"""

from itertools import product
from typing import Any

import numpy as np

from numpy_xlstm import gradcheck
from tests.cells import test_starting_values as starting_values
from tests.golden.test_golden import CASES, test_values_states_and_gradients
from tests.ties import test_lstm_slstm, test_mlstm_edges
from tests.ties.test_mlstm import FORMS, KINDS, Case, assert_tied, by_cell, by_form
from tests.ties.test_other_cells import CELLS, tied
from tests.variants import EVERY_VARIANT, Sizes, make


def kernels_are_cells() -> None:
    """Compare kernels with unrolled cells, with all kinds of states, and padded."""
    sizes = 3, 5, 3, 4
    for n, (kind, start) in enumerate(product(CELLS, ("empty", "random", "zero", "far"))):
        for lengths in (None, [5, 2, 0]):
            tied(kind, np.float64, sizes, lengths, n, start)
    for kind, extreme in product(("lstm", "slstm", "slstm exp"), (6.0, 300.0)):
        tied(kind, np.float64, sizes, None, 0, extreme=extreme)
    for n, (forget, input_gate, padded) in enumerate(product(KINDS, KINDS, (True, False))):
        gates: dict[str, Any] = {"forget_gate": forget, "input_gate": input_gate}
        for eps, with_state in ((0.0, True), (0.3, False)):
            case = Case(
                3, T=5, eps=eps, with_state=with_state, with_lengths=padded, seed=n, **gates
            )
            expected, cancels = by_cell(case)
            for form in FORMS:
                assert_tied(by_form(form, case), expected, cancels)


def ties() -> None:
    """Check ties and near ties of the maximum, and of the denominator of an mLSTM."""
    for gate in KINDS:
        test_lstm_slstm.test_a_near_tie_sends_the_gradient_to_the_winner(np.float64, 40.0, gate)
    test_lstm_slstm.test_a_tie_goes_to_the_past()
    for form in FORMS:
        test_mlstm_edges.test_a_near_tie_goes_to_the_winner(form, np.float64, 40.0)
        for with_state in (False, True):
            test_mlstm_edges.test_a_tie_goes_to_the_oldest(form, with_state)
        test_mlstm_edges.test_where_both_sides_of_the_denominator_are_equal_it_is_that_of_q_and_n(
            form
        )
        test_mlstm_edges.test_far_below_any_floor_a_ratio_is_exact(form, np.float64, [0, 300, 300])


def gradients(step: bool, scale: float = 1.0) -> None:
    """Check that each backward is the vector-Jacobian product of its forward."""
    for variant in EVERY_VARIANT:
        case = make(variant, Sizes(3, 4, 3, 2, 2, 3, True, 0.3, 5), step=step, scale=scale)
        report = gradcheck(case.layer, *case.inputs, rng=3, max_entries=12)
        assert not report.failures, str(report)


def run() -> None:
    """Run all of it, what is quick first: most mutants are noticed there."""
    for file, case in CASES:
        if file != "models":
            test_values_states_and_gradients(file, case)
    kernels_are_cells()
    ties()
    starting_values.test_uniform_cells()
    starting_values.test_lstm_gru_and_rnn()
    starting_values.test_slstm()
    starting_values.test_mlstm()
    gradients(step=True)
    gradients(step=True, scale=6.0)
    gradients(step=False)
