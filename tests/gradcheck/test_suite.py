"""Every gradient of the package: the cases of ``numpy-xlstm gradcheck``, and random shapes."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import OriginalGRUCell, gradcheck, mLSTM, mlstm_parallel, sLSTM
from numpy_xlstm.cells.gates import GATE_KINDS
from numpy_xlstm.conformance import SUBJECTS
from numpy_xlstm.conformance.catalogue import FAMILIES
from numpy_xlstm.conformance.subjects import Given
from numpy_xlstm.conformance.suite import cases
from numpy_xlstm.layers.sequence import KERNELS, Kernel
from numpy_xlstm.numerics import Array
from tests.variants import VARIANTS, Sizes, make


@pytest.mark.parametrize("dtype", [pytest.param(np.float64, marks=pytest.mark.long), np.float32])
@pytest.mark.parametrize("name", cases())
def test_every_gradient(name: str, dtype: type, trials: int) -> None:
    """All entries of small tensors, in eight trials those of larger ones too; directions in all."""
    target, inputs = cases()[name](np.random.default_rng(0), dtype)
    more: Any = {"max_entries": 8 * trials, "directions": min(8, 2 * trials)}
    report = gradcheck(target, *inputs, rng=0, **more)
    assert report.passed, str(report)
    decided = {row.tensor for row in report.rows if row.status == "ok"}
    assert getattr(target, "params", {}).keys() <= decided


def test_the_suite_covers_every_variant() -> None:
    subjects = {name.split("/")[0] for name in cases()}
    assert subjects == SUBJECTS.keys() | {"torch.LSTM", "torch.GRU", "torch.RNN"}
    for forget in GATE_KINDS:
        for name in ("slstm.step", "slstm.sequence", "mlstm.step", "mlstmsig.chunkwise"):
            assert f"{name}/{forget}" in cases()


def test_what_is_checked_is_what_users_call() -> None:
    rng = np.random.default_rng(0)
    targets = {name: case(rng, np.float64)[0] for name, case in cases().items()}
    assert type(targets["slstm.sequence/exp"]) is sLSTM
    assert type(targets["mlstm.sequence/exp"]) is mLSTM
    assert targets["gru.sequence"].kernel is not None
    assert all(layer.kernel for layer in targets["lstm.stack"].layers)
    assert targets["mlstm.parallel/exp"].forward.func is mlstm_parallel


def test_each_kernel_is_compared_with_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backward that is right for a forward that is not the cell's has one failing row."""

    def doubled(kernel: Kernel) -> Kernel:
        def forward(Wx: Array, *given: Any, **options: Any) -> Any:
            return kernel.forward(2 * Wx, *given, **options)

        def backward(*given: Any) -> Any:
            dWx, *others = kernel.backward(*given)
            return 2 * dWx, *others

        return kernel._replace(forward=forward, backward=backward)

    compared, checked = set(), {"max_entries": 0, "directions": 1, "rng": 0}
    for name, case in cases().items():
        target, inputs = case(np.random.default_rng(0), np.float64)
        if getattr(target, "specification", None) is None:
            continue
        compared.add(name.split("/")[0])
        cell = type(getattr(getattr(target, "layer", target), "cell", None))
        if cell in KERNELS:
            with monkeypatch.context() as patch:
                patch.setitem(KERNELS, cell, doubled(KERNELS[cell]))
                rows = gradcheck(target, *inputs, **checked).failures
            assert {row.method for row in rows} == {"specification"}, name
            assert "another result than that of the specification: y, " in rows[0].note
            assert "the gradient of " in rows[0].note
    families = [name for name, family in FAMILIES.items() if family.cell is not OriginalGRUCell]
    functions = [name for name, subject in SUBJECTS.items() if isinstance(subject, Given)]
    assert compared == {*(f"{name}.sequence" for name in families), *functions}


SHAPES = 24
"""How many shapes there are in a trial."""
PARTS = [*range(2), *(pytest.param(n, marks=pytest.mark.long) for n in (2, 3))]


@pytest.mark.parametrize("part", PARTS)
def test_random_shapes(part: int, trials: int) -> None:
    for seed in range(part, SHAPES * trials, len(PARTS)):
        rng = np.random.default_rng([2024, seed])
        B, T, D, NH, DH, DK = (int(n) for n in rng.integers((1, 0, 1, 1, 1, 1), (5, 9, 6, 4, 4, 4)))
        s = Sizes(B, T, D, NH, DH, DK, bool(rng.integers(2)), float(rng.choice([0, 1e-6])), seed)
        variant = VARIANTS[seed % len(VARIANTS)]
        case = make(variant, s, step=bool(rng.integers(2)))
        report = gradcheck(case.layer, *case.inputs, rng=seed, max_entries=8, directions=3)
        assert not report.failures, f"{variant} {s}\n{report}"
