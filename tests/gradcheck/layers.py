"""Plain NumPy layers for tests, with optional mistakes."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.gradcheck import Row
from numpy_xlstm.numerics import Array

X = np.array([[0.5, -1.0], [2.0, 3.0]])


class State(NamedTuple):
    h: Any
    c: Any
    n: Any
    m: Any


class ExponentialStep:
    """One step of an sLSTM with one head; ``plant`` names a term that its backward omits."""

    tensor_axes: dict[str, str] = {  # noqa: RUF012
        "W": "(gate=ifzo unit) input",
        "R": "(gate=ifzo unit) from",
        "b": "(gate=ifzo unit)",
    }

    def __init__(self, D: int = 3, H: int = 2, plant: str = "", seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        shapes = {"W": (4 * H, D), "R": (4 * H, H), "b": (4 * H,)}
        self.params = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        self.plant = plant

    def forward(self, x: Array, state: State | None = None) -> Any:
        p, zeros = self.params, np.zeros((len(x), len(self.params["b"]) // 4))
        h, c, n, m = state or State(zeros, zeros, zeros, zeros - np.inf)
        i, f, z, o = np.split(x @ p["W"].T + h @ p["R"].T + p["b"], 4, axis=1)
        past = m - np.log(1 + np.exp(-f))
        m = np.where(past.real >= i.real, past, i)
        i_gate, f_gate, o_gate = np.exp(i - m), np.exp(past - m), 1 / (1 + np.exp(-o))
        c_new, n_new = f_gate * c + i_gate * np.tanh(z), f_gate * n + i_gate
        y = o_gate * c_new / n_new
        cache = x, (h, c, n), (i, f, z), past, (i_gate, f_gate, o_gate), (c_new, n_new)
        return y, State(y, c_new, n_new, m), cache

    def backward(self, dy: Array, cache: Any, dstate: State | None = None) -> Any:
        x, (h, c, n), (i, f, z), past, (i_gate, f_gate, o_gate), (c_new, n_new) = cache
        dh, dc, dn, dm = dstate or State(*np.zeros((4, *dy.shape)))
        dh = dh + dy
        do = dh * c_new / n_new * o_gate * (1 - o_gate)
        dc, dn = dc + dh * o_gate / n_new, dn - dh * o_gate * c_new / n_new**2
        dz = dc * i_gate * (1 - np.tanh(z) ** 2)
        di = dc * np.tanh(z) + dn
        df = (self.plant != "c") * dc * c + (self.plant != "n") * dn * n
        dm = dm - i_gate * di - f_gate * df
        wins = past >= i
        dpast = f_gate * df + np.where(wins, dm, 0)
        di = i_gate * di + np.where(wins, 0, dm)
        dgates = np.concatenate([di, dpast / (1 + np.exp(f)), dz, do], axis=1)
        dW, dR = dgates.T @ x, dgates.T @ (0 * h if self.plant == "h" else h)
        if self.plant == "rows of f":
            dW[len(dW) // 4 : len(dW) // 2] *= 1.01
        grads = {"W": dW, "R": dR, "b": dgates.sum(0)}
        dx, dh_prev = dgates @ self.params["W"], dgates @ self.params["R"]
        return dx, State(dh_prev, f_gate * dc, f_gate * dn, dpast), grads


def square(x: Array) -> Any:
    return x**2, x


def real(pair: Any) -> Any:
    """The same pair, whose forward takes no complex numbers."""
    forward, backward = pair

    def checked(x: Array) -> Any:
        if x.dtype.kind == "c":
            raise TypeError("expected real numbers")
        return forward(x)

    return checked, backward


def of_tensors(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of tensors, without those of all together."""
    return [row for row in rows if row.method not in ("adjoint", "specification")]


class Square:
    """y = w x², with an optional function that replaces the backward."""

    def __init__(self, backward: Callable[..., Any] | None = None) -> None:
        self.params = {"w": np.array([1.5, -2.0])}
        self.replacement = backward

    def forward(self, x: Array) -> Any:
        return self.params["w"] * x**2, x

    def backward(self, dy: Array, x: Array) -> Any:
        if self.replacement is not None:
            return self.replacement(self, dy, x)
        return 2 * self.params["w"] * x * dy, {"w": (dy * x**2).sum(0)}
