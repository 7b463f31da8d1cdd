"""No correct port fails: forms of the mLSTM that share no code with the package."""

import pytest

from numpy_xlstm import conformance
from tests.conformance.right_ports import PORTS, port

SUBJECTS = ("mlstm.recurrent", "mlstm.parallel", "mlstm.chunkwise", "mlstm.sequence")
EDGES = {"tie", "large-pre-activations"}
"""Flags of the cases that correct ports once failed."""


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_right_port_fails(subject: str, trials: int) -> None:
    """In one trial every edge and a tenth of the other cases; in more, all cases of more seeds."""
    chosen = [case for seed in range(trials) for case in conformance.cases(subject, seed=seed)]
    if trials == 1:
        chosen = [case for n, case in enumerate(chosen) if n % 10 == 3 or EDGES & {*case.flags}]
    for how in PORTS.values():
        for case in chosen:
            case.check(port(how, case))
