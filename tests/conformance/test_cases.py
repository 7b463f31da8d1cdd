"""Right ports pass every case, and a result that is wrong anywhere does not."""

import numpy as np
import pytest

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case, Subject
from numpy_xlstm.conformance.exponents import RoundedLogGate, rounding
from numpy_xlstm.gradcheck.report import Places
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


@pytest.mark.parametrize("subject", conformance.SUBJECTS.values(), ids=lambda s: s.name)
def test_every_entry_has_a_name(subject: Subject) -> None:
    for options in subject.variants.values():
        for name, array in subject.blank(options, 3, 7).items():
            pattern = subject.pattern(name, array.ndim).format(**options)
            sizes = [len(values) for _, values in Places(name, array.shape, pattern).parts]
            assert int(np.prod(sizes, dtype=int)) == array.size
            assert bool(pattern) == bool(array.ndim)


@pytest.mark.parametrize("case", conformance.read_vectors(conformance.SMALL))
def test_an_entry_that_is_off_is_found(case: Case) -> None:
    rng = np.random.default_rng(0)
    for name, array in case.expected.items():
        for times, passed in ((0.9, True), (2.0, False)):
            if array.size == 0:
                continue
            off, at = array.astype(np.longdouble), tuple(rng.integers(n) for n in array.shape)
            off[at] += times * case.bounds[name][at]
            rows = conformance.compare(case, {**case.expected, name: off.astype(case.dtype)})
            wrong = [row.tensor for row in rows if not row.passed]
            assert wrong == ([] if passed or np.isinf(off[at]) else [name]), (name, times)


def test_exponents_that_are_rounded_as_sums_are_move_results_within_their_bounds() -> None:
    case = conformance.cases("slstm.sequence", "float64")[0]
    noise = RoundedLogGate(np.random.default_rng(0))
    found = case.results(rounding(case.subject.specification, noise))
    for name, array in case.results().items():
        apart = np.abs(found[name] - array).max()
        assert 0 < apart <= case.bounds[name].max(), name
    lstm = conformance.SUBJECTS["lstm.step"].specification
    assert rounding(lstm, noise) is lstm
