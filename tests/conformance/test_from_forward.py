"""A forward in PyTorch or JAX is a port, with the backward of its framework."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from numpy_xlstm.conformance import Case, from_forward, verify
from numpy_xlstm.gradcheck import from_jax, from_torch
from tests.conformance.shared import cases

FRAMEWORKS = [
    pytest.param("torch", "torch", from_torch, id="torch"),
    pytest.param("jax.numpy", "jax.nn", from_jax, id="jax"),
]
"""Modules with tanh and with sigmoid."""


def gru(xp: Any, sigma: Callable[[Any], Any], *, factor: float = 1.0) -> Callable[..., Any]:
    """Return a step of a GRU, with a mistake if the factor is not 1."""

    def forward(case: Case, given: dict[str, Any]) -> dict[str, Any]:
        h = given["state.h"]
        x = given["x"] @ given["params.W"].T + given["params.b"]
        g = h @ given["params.R"].T + given["params.b_h"]
        rows = [slice(n * h.shape[1], (n + 1) * h.shape[1]) for n in range(3)]
        r, z = (sigma(x[:, row] + g[:, row]) for row in rows[:2])
        h = (1 - z) * xp.tanh(x[:, rows[2]] + factor * r * g[:, rows[2]]) + z * h
        return {"y": h, "final.h": h}

    return forward


@pytest.mark.parametrize(("module", "gates", "wrap"), FRAMEWORKS)
def test_a_forward_is_a_port(module: str, gates: str, wrap: Any) -> None:
    xp = pytest.importorskip(module, reason=f"{module} (the extra 'peers') is not installed")
    sigmoid = pytest.importorskip(gates).sigmoid
    chosen = cases("gru.step")
    assert any("empty-state" in case.flags for case in chosen)
    right, wrong = (from_forward(wrap, gru(xp, sigmoid, factor=factor)) for factor in (1.0, 1.001))
    assert verify(chosen, right).outcome == "passed"
    assert verify(chosen, right, forward=True).outcome == "forward only"
    report = verify(chosen, wrong)
    assert {row.tensor for row in report.verdicts[0].rows if not row.passed} >= {"y", "grads.R"}


def test_a_severed_gradient_is_a_failure() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")

    def forward(case: Case, given: dict[str, Any]) -> dict[str, Any]:
        severed = {**given, "params.R": given["params.R"].detach()}
        return dict(gru(torch, torch.sigmoid)(case, severed))

    report = verify(cases("gru.step", "float64"), from_forward(from_torch, forward))
    wrong = {row.tensor for row in report.verdicts[0].rows if not row.passed}
    assert wrong == {"grads.R"}


def test_the_backward_of_a_module_is_not_run_for_the_forward_alone() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")

    class Once(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            return torch.tanh(x)

    forward = gru(SimpleNamespace(tanh=Once.apply), torch.sigmoid)
    port = from_forward(from_torch, forward)
    assert verify(cases("gru.step", "float64"), port, forward=True).passed
    assert verify(cases("gru.step", "float64"), port).outcome == "failed"
