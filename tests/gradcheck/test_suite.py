"""Every gradient of the package: what ``numpy-xlstm gradcheck`` checks, in both dtypes."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck, mLSTM, mlstm_parallel, sLSTM
from numpy_xlstm.cells.gates import GATE_KINDS
from numpy_xlstm.conformance import SUBJECTS
from numpy_xlstm.suite import cases

ALL = ("complex", "difference", "adjoint")


@pytest.mark.parametrize(
    ("dtype", "methods"),
    [
        pytest.param(np.float64, ALL, marks=pytest.mark.long, id="float64"),
        pytest.param(np.float32, ("complex", "adjoint"), id="float32"),  # differences need float64
    ],
)
@pytest.mark.parametrize("name", cases())
def test_every_gradient(name: str, dtype: type, methods: tuple[str, ...], trials: int) -> None:
    """All entries of small tensors, in eight trials those of larger ones too; directions in all."""
    target, inputs = cases()[name](np.random.default_rng(0), dtype)
    more: Any = {"max_entries": 8 * trials, "directions": min(8, 2 * trials)}
    report = gradcheck(target, *inputs, rng=0, methods=methods, **more)
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
    assert targets["mlstm.parallel/exp"][0].func is mlstm_parallel
