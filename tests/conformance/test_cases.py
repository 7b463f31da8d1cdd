"""Right ports pass every case, and a result that is wrong anywhere does not."""

import numpy as np
import pytest

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from tests.conformance import ports

KERNELS = [
    *(f"{family}.sequence" for family in ports.LAYERS),
    "lstm.recurrent",
    "slstm.recurrent",
    *(
        f"{f}.{form}"
        for f in ("mlstm", "mlstmsig")
        for form in ("recurrent", "parallel", "chunkwise")
    ),
]
PORTED = [case for name in KERNELS for case in conformance.cases(name)]


@pytest.mark.parametrize("case", PORTED)
def test_the_kernels_pass(case: Case) -> None:
    port = ports.layer if case.subject.name.endswith(".sequence") else ports.form
    case.check(port(case))


@pytest.mark.parametrize("case", conformance.cases("slstm.step"))
def test_a_wrong_entry_is_found(case: Case) -> None:
    rng = np.random.default_rng(0)
    for name, array in case.expected.items():
        results = dict(case.expected)
        wrong, at = array.copy(), tuple(rng.integers(size) for size in array.shape)
        wrong[at] = wrong[at] + 2 * case.bounds[name][at] if np.isfinite(wrong[at]) else 0
        results[name] = wrong
        with pytest.raises(AssertionError, match=name):
            case.check(results)
