"""Every gradient of the package: what ``numpy-xlstm gradcheck`` checks, in both dtypes."""

import numpy as np
import pytest

from numpy_xlstm import gradcheck
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
    report = gradcheck(target, *inputs, rng=0, methods=methods, max_entries=8 * trials)
    assert report.passed, str(report)


def test_the_suite_covers_every_variant() -> None:
    names = set(cases())
    assert len(names) >= 24
    for forget in ("sigmoid", "exp"):
        assert {f"sLSTM/{forget}", f"sLSTMCell/{forget}"} <= names
        for input_gate in ("exp", "sigmoid"):
            for layer in ("mLSTM", "mLSTMCell", "mlstm_recurrent"):
                assert f"{layer}/{forget}-{input_gate}" in names
    assert {"GatedFeedForward/gelu", "GatedFeedForward/swish", "CausalConv1d"} <= names
    assert {"HeadwiseLinear", "silu", "gelu", "gelu_tanh", "soft_cap"} <= names
    for norm in ("LayerNorm", "RMSNorm"):
        assert {norm, f"MultiHead{norm}"} <= names
