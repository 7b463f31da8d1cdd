"""Correct ports in PyTorch pass gradcheck and the kit."""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import conformance, gradcheck
from numpy_xlstm.conformance import Case
from numpy_xlstm.gradcheck import from_torch

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
PORTS = importlib.import_module("tests.ports.torch_ports").PORTS
SUBJECTS = [f"{family}.{form}" for family in PORTS for form in ("step", "sequence")]


def layer(case: Case) -> Any:
    return from_torch(PORTS[case.subject.family](**case.options))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, because small matrices are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_they_pass_in_float32(seed_of_cases: int) -> None:
    chosen = [c for s in SUBJECTS for c in conformance.cases(s, "float32", seed=seed_of_cases)]
    lost = ["open-gates"]  # autograd takes y (1 − y) and 1 − y² for slopes
    report = conformance.verify(chosen, conformance.from_layer(layer), expect_fail=lost)
    assert report.passed, report


@pytest.mark.parametrize("subject", SUBJECTS)
def test_they_pass_in_float64(subject: str) -> None:
    chosen = conformance.cases(subject, "float64")
    lost = ["open-gates"] if subject.startswith("slstm") else []
    report = conformance.verify(chosen, conformance.from_layer(layer), expect_fail=lost)
    assert report.passed, report


def test_torchs_own_maximum_shares_a_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.ports.torch_ports.larger", torch.maximum)
    chosen = [case for case in conformance.cases("slstm.step", "float64") if "tie" in case.flags]
    report = conformance.verify(chosen, conformance.from_layer(layer))
    assert not any(verdict.passed for verdict in report.verdicts)
    wrong = {row.tensor for v in report.verdicts for row in v.rows if not row.passed}
    assert {"dstate0.m", "grads.W", "grads.b"} <= wrong
    assert "y" not in wrong


@pytest.mark.parametrize("family", PORTS)
def test_they_pass_gradcheck(family: str) -> None:
    case = conformance.cases(f"{family}.sequence", "float64")[0]
    port = layer(case)
    port.params = {n.removeprefix("params."): a for n, a in case.inputs.items() if "params" in n}
    report = gradcheck(port, case.inputs["x"][:1, :3], rng=0, max_entries=20)
    assert report.passed, report
    assert {row.state for row in report.rows} == {"none", "returned"}
    assert np.isfinite(report.max_error)
