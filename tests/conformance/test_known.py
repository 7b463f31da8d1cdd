"""The page of known mistakes is up to date, and lists those of peers."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.conformance import Case, cases
from numpy_xlstm.conformance.diagnosis import Diagnosis
from numpy_xlstm.conformance.subjects import Arrays
from tests.conformance.known import PAGE, page

SITUATIONS = "ordinary", "zero-state", "above-a-chunk", "one-row"


def test_the_tables_are_those_of_the_mistakes() -> None:
    text = PAGE.read_text("utf-8")
    assert text == page(text), "python -m tests.conformance.known writes them anew"


def test_all_mistakes_of_a_peers_backward_are_told_apart() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
    theirs: Any = pytest.importorskip(
        "mlstm_kernels.torch.chunkwise.native.fwbw",
        reason="mlstm_kernels (the extra 'peers') is not installed",
        exc_type=ImportError,
    )

    def port(case: Case) -> Arrays:
        """Their chunkwise form with its own backward, in one chunk."""
        inputs = {name: torch.tensor(a, requires_grad=True) for name, a in case.inputs.items()}
        h, (C, n, m) = theirs.mlstm_chunkwise__native_custbw(
            *(inputs[name] for name in "qkvif"),
            *(inputs[f"state.{name}"] for name in "Cnm"),
            return_last_states=True,
            eps=case.options["eps"],
            chunk_size=case.inputs["q"].shape[2],
        )
        results = {"y": h, "final.C": C, "final.n": n, "final.m": m.reshape(m.shape[:2])}
        cotangents = ("dy", "dstate.C", "dstate.n", "dstate.m")
        pairs = zip(cotangents, results.values(), strict=True)
        sum((inputs[name].detach() * a).sum() for name, a in pairs).backward()
        found = {name: a.detach().numpy() for name, a in results.items()}
        for name, a in inputs.items():
            place = name.replace("state.", "dstate0.") if "." in name else f"d{name}"
            found[place] = np.zeros(a.shape) if a.grad is None else a.grad.numpy()
        return {name: found[name] for name in case.expected}

    wanted = [f"mlstm.chunkwise.sigmoid.{name}.float64" for name in SITUATIONS]
    failed = [(case, port(case)) for case in cases("mlstm.chunkwise") if case.id in wanted]
    names = {each.bug.name for each in Diagnosis().findings(failed)}
    assert names == {
        "scale-on-queries",
        "normaliser-constant",
        "cotangent-of-final-n-dropped",
        "sum-of-gradients-for-forget-gate",
        "gradient-of-initial-m-dropped",
    }
