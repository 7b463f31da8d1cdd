"""PyTorch and JAX through ``from_torch`` and ``from_jax``: only correct layers pass."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.errors import DTypeError, MissingExtraError, OptionError, ShapeError
from numpy_xlstm.gradcheck import Report, from_jax, from_torch

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 3))
NEAR_KINKS = [0.0, 1e-6, 5e-9]


def failing(report: Report) -> set[str]:
    return {row.tensor for row in report.failures if row.method == "finite differences"}


@pytest.fixture
def torch() -> Iterator[Any]:
    """PyTorch with one thread, because small matrices are slower with more."""
    torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


class TestTorch:
    def test_its_lstm_passes_from_no_state_and_from_one(self, torch: Any) -> None:
        report = gradcheck(from_torch(torch.nn.LSTM(3, 2)), X, rng=0)
        assert report.passed
        assert {row.tensor for row in report.rows} > {"weight_ih_l0", "bias_hh_l0", "input", "hx.1"}
        assert any("no complex step" in note for note in report.notes)

    def test_the_module_stays_as_it_is(self, torch: Any) -> None:
        module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(3))
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        assert gradcheck(from_torch(module), X, rng=0).passed
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, before[name]), name

    def test_a_custom_function_with_several_inputs_is_located(self, torch: Any) -> None:
        class Product(torch.autograd.Function):  # type: ignore[misc]
            @staticmethod
            def forward(ctx: Any, a: Any, b: Any) -> Any:
                ctx.save_for_backward(a, b)
                return a * b

            @staticmethod
            def backward(ctx: Any, dy: Any) -> Any:
                a, b = ctx.saved_tensors
                da, db = dy * b, dy * a
                db[0, 1, 2] *= 1 + 1e-5
                return da, db

        report = gradcheck(from_torch(lambda a, b: Product.apply(a, b)), X, X[::-1] + 1, rng=0)
        assert failing(report) == {"b"}
        assert report.failures[0].note.startswith("1 of 18 entries; worst at [0, 1, 2]")

    def test_constants_and_integers_have_no_gradient(self, torch: Any) -> None:
        module = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Linear(3, 2))
        module[1].bias.requires_grad_(False)
        report = gradcheck(from_torch(module), np.array([1, 4, 4]), rng=0)
        assert report.passed
        assert "1.bias" not in {row.tensor for row in report.rows}

    def test_functions_that_python_cannot_look_into(self, torch: Any) -> None:
        assert gradcheck(from_torch(torch.tanh), X, rng=0).passed

    @pytest.mark.parametrize("distance", NEAR_KINKS)
    def test_near_a_kink(self, torch: Any, distance: float) -> None:
        for function in (torch.relu, torch.abs, lambda x: torch.clamp(x, 0, 1)):
            x = np.array([0.7, distance, -1.2])
            assert not gradcheck(from_torch(function), x, rng=0).failures

    def test_states_are_trees(self, torch: Any) -> None:
        def step(x: Any, state: dict[str, Any]) -> Any:
            h = torch.tanh(x + state["h"] * state["more"][0])
            return h, {"h": h, "more": [x * state["h"]]}

        state = {"h": X[0], "more": [X[1]]}
        report = gradcheck(from_torch(step), X[0] + 1, state, rng=0)
        assert report.passed
        assert {row.tensor for row in report.rows} >= {"x", "state.h", "state.more.0"}

    def test_what_a_module_makes_itself_is_of_the_same_dtype(self, torch: Any) -> None:
        class Shifted(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("gain", torch.tensor(0.5))

            def forward(self, x: Any) -> Any:
                return torch.tanh(x * self.gain) @ (torch.eye(3) + self.gain)

        for dtype in (np.float64, np.float32):
            y, cache = from_torch(Shifted()).forward(X.astype(dtype))
            dx, grads = from_torch(Shifted()).backward(y, cache)
            assert (y.dtype, dx.dtype, grads) == (dtype, dtype, {})
        assert gradcheck(from_torch(Shifted()), X, rng=0).passed
        assert torch.get_default_dtype() == torch.float32

    def test_parameters_of_other_names_are_refused(self, torch: Any) -> None:
        with pytest.raises(OptionError, match=r"params: expected bias, weight; got W"):
            from_torch(torch.nn.Linear(3, 2)).with_params({"W": X[0]})

    def test_cotangents_of_another_form_are_refused(self, torch: Any) -> None:
        layer = from_torch(torch.nn.LSTM(3, 2))
        y, (h, _), cache = layer.forward(X)
        for dstate in [(h,), (None, h), (h, h[0])]:
            with pytest.raises(ShapeError, match="dy, dstate: expected cotangents of shapes"):
                layer.backward(y, cache, dstate)

    def test_what_is_no_tensor_is_refused(self, torch: Any) -> None:
        with pytest.raises(TypeError, match=r"outputs: expected arrays of the .*; got str"):
            gradcheck(from_torch(lambda x: (x, "text")), X, rng=0)
        with pytest.raises(TypeError, match=r"from_torch: expected a function or a module; got 3"):
            from_torch(3)  # type: ignore[arg-type]
        with pytest.raises(DTypeError, match=r"expected one dtype.*float64 for weight, float32"):
            gradcheck(from_torch(torch.nn.Linear(3, 2)), X.astype(np.float32), rng=0)


class TestJax:
    @property
    def jax(self) -> Any:
        return pytest.importorskip("jax", reason="JAX (the extra 'peers') is not installed")

    def cell(self, slope: float = 1.0) -> Callable[..., Any]:
        jnp = self.jax.numpy

        tanh = self.jax.custom_vjp(lambda x: jnp.tanh(x))
        tanh.defvjp(
            lambda x: (jnp.tanh(x), x), lambda x, dy: (slope * dy * (1 - jnp.tanh(x) ** 2),)
        )

        def cell(params: Any, x: Any, state: Any = None) -> Any:
            h = jnp.zeros((x.shape[1], 2)) if state is None else state["h"]

            def step(h: Any, x: Any) -> Any:
                h = tanh(x @ params["W"].T + h @ params["R"].T)
                return h, h

            h, y = self.jax.lax.scan(step, h, x)
            return y, {"h": h}

        return cell

    @property
    def params(self) -> dict[str, Any]:
        return {"W": np.linspace(-1, 1.1, 6).reshape(2, 3), "R": np.array([[0.3, -1], [0.7, 0.2]])}

    def test_a_function_passes_from_no_state_and_from_one(self) -> None:
        report = gradcheck(from_jax(self.cell()), self.params, X, rng=0)
        assert report.passed
        assert {row.tensor for row in report.rows} > {"params.W", "params.R", "x", "state.h"}

    @pytest.mark.parametrize("distance", NEAR_KINKS)
    def test_near_a_kink(self, distance: float) -> None:
        maximum = from_jax(self.jax.numpy.maximum)
        assert not gradcheck(maximum, X, X[:, ::-1] + X + distance, rng=0).failures
        for function in (self.jax.nn.relu, self.jax.numpy.abs):
            x = np.array([0.7, distance, -1.2])
            assert not gradcheck(from_jax(function), x, rng=0).failures

    def test_a_wrong_custom_vjp_fails(self) -> None:
        report = gradcheck(from_jax(self.cell(1 + 1e-5)), self.params, X, rng=0)
        assert failing(report) == {"params.W", "params.R", "x", "state.h"}

    @pytest.mark.parametrize(
        ("function", "x"),
        [
            (lambda x, n: x**2 if x[0, 0, 0] > 0 else x ** int(n), -np.abs(X[:1, :1])),
            (lambda x, n: x[x > 0] ** 2, X[:1, :1]),
            (lambda x, n: (x, {"z": x**2, "a": x**3}), X),
            (lambda x, n: (x, {"z": float(int(n)) * x**2, "a": x**3}), X),
        ],
    )
    def test_functions_that_cannot_be_compiled_and_states_in_any_order(
        self, function: Any, x: Any
    ) -> None:
        assert self.jax
        report = gradcheck(from_jax(function), x, np.array(3), rng=0)
        assert report.passed
        assert {row.tensor for row in report.rows if row.method == "finite differences"} == {"x"}

    def test_what_is_no_array_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"from_jax: expected a function or a module; got 3"):
            from_jax(3)  # type: ignore[arg-type]
        module = self.jax.tree_util.Partial(lambda p, x: p * x, self.jax.numpy.ones(2))
        with pytest.raises(TypeError, match="parameters are arguments; got a Partial with arrays"):
            from_jax(module)


@pytest.mark.parametrize(("make", "package"), [(from_torch, "torch"), (from_jax, "jax")])
def test_without_the_package_it_is_named(
    make: Callable[..., Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"pip install {package}"):
        make(np.sin)
