"""The page of known mistakes is up to date, and lists those of peers."""

from typing import Any

import pytest

from numpy_xlstm.conformance import Case, cases
from tests.conformance.implementations.tensors import Tensors, autograd
from tests.conformance.known import PAGE, page
from tests.conformance.shared import diagnosed

SITUATIONS = "ordinary", "zero-state"


def test_the_tables_are_those_of_the_mistakes() -> None:
    text = PAGE.read_text("utf-8")
    assert text == page(text), "python -m tests.conformance.known writes them anew"


def test_all_mistakes_of_a_peers_backward_are_told_apart() -> None:
    pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
    theirs: Any = pytest.importorskip(
        "mlstm_kernels.torch.chunkwise.native.fwbw",
        reason="mlstm_kernels (the extra 'peers') is not installed",
        exc_type=ImportError,
    )

    def forward(case: Case, given: Tensors) -> Tensors:
        """Their chunkwise form with its own backward, in one chunk."""
        h, (C, n, m) = theirs.mlstm_chunkwise__native_custbw(
            *(given[name] for name in "qkvif"),
            *(given[f"state.{name}"] for name in "Cnm"),
            return_last_states=True,
            eps=case.options["eps"],
            chunk_size=case.inputs["q"].shape[2],
        )
        return {"y": h, "final.C": C, "final.n": n, "final.m": m.reshape(m.shape[:2])}

    port = autograd(forward)
    wanted = [f"mlstm.chunkwise.sigmoid.{name}.float64" for name in SITUATIONS]
    failed = [(case, port(case)) for case in cases("mlstm.chunkwise") if case.id in wanted]
    assert {bug.name for bug in diagnosed(failed)} == {
        "scale-on-queries",
        "normaliser-constant",
        "cotangent-of-final-n-dropped",
        "sum-of-gradients-for-forget-gate",
        "gradient-of-initial-m-dropped",
    }
