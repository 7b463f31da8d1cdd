"""The backward formulas are the symbolic derivatives of the forward formulas.

The methods of the cells run on arrays of symbols. A symbol also has a value, which decides
comparisons, so that each case of a maximum is one test.
"""

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sympy

from numpy_xlstm import cells
from numpy_xlstm.cells import (
    ElmanCell,
    ElmanState,
    GRUCell,
    GRUState,
    LSTMCell,
    LSTMPCell,
    LSTMState,
    OriginalGRUCell,
    PeepholeLSTMCell,
    mLSTMCell,
    mLSTMState,
    sLSTMCell,
    sLSTMState,
)
from numpy_xlstm.cells.gates import GATE_KINDS, log_gate, log_gate_slope
from numpy_xlstm.numerics import Array
from tests.variants import spoiled


class Value:
    """An expression, and its value at one point."""

    def __init__(self, expr: Any, value: float) -> None:
        self.expr, self.value = expr, value

    def __add__(self, other: Any) -> "Value":
        other = _value(other)
        return Value(self.expr + other.expr, self.value + other.value)

    def __mul__(self, other: Any) -> "Value":
        other = _value(other)
        return Value(self.expr * other.expr, self.value * other.value)

    def __truediv__(self, other: Any) -> "Value":
        other = _value(other)
        return Value(self.expr / other.expr, self.value / other.value)

    def __sub__(self, other: Any) -> "Value":
        return self + -_value(other)

    def __rsub__(self, other: Any) -> "Value":
        return _value(other) - self

    def __rtruediv__(self, other: Any) -> "Value":
        return _value(other) / self

    def __neg__(self) -> "Value":
        return self * -1

    def __lt__(self, other: Any) -> bool:
        return self.value < _value(other).value

    def __le__(self, other: Any) -> bool:
        return self.value <= _value(other).value

    def __gt__(self, other: Any) -> bool:
        return self.value > _value(other).value

    def __ge__(self, other: Any) -> bool:
        return self.value >= _value(other).value

    def __eq__(self, other: object) -> bool:
        return bool(self.value == _value(other).value)

    def __hash__(self) -> int:
        return hash(self.expr)

    def exp(self) -> "Value":
        return Value(sympy.exp(self.expr), float(np.exp(self.value)))

    def log(self) -> "Value":
        return Value(sympy.log(self.expr), float(np.log(self.value)))

    def tanh(self) -> "Value":
        e = (self * -2).exp()
        return (-e + 1) / (e + 1)

    __radd__, __rmul__ = __add__, __mul__


def _value(number: Any) -> Value:
    if isinstance(number, Value):
        return number
    return Value(sympy.oo if number == np.inf else sympy.Integer(int(number)), float(number))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _sigmoid_slope(x: Any) -> Any:
    return _sigmoid(x) * _sigmoid(-x)


# Functions that the cells import, for symbols, without validation and without underflow.
SYMBOLIC: dict[str, Any] = {
    "enter": lambda cell, x, state: state,
    "enter_backward": lambda cell, dh, cache, dstate: dstate,
    "check_memory": lambda state: None,
    "underflows": lambda exponent: np.zeros(exponent.shape, bool),
    "clip": lambda m: m,
    "root": lambda width, x: Value(sympy.Rational(3, 2), 1.5),  # any number will do
    "maximum": lambda a, b: np.where(a >= b, a, b),
    "modulus": lambda x: np.where(x < 0, -x, x),
    "sigmoid": _sigmoid,
    "sigmoid_slope": _sigmoid_slope,
    "tanh_slope": lambda x: 4 * _sigmoid_slope(2 * x),
    "log_sigmoid": lambda x: -np.log(1 + np.exp(-x)),
    "log_sigmoid_slope": lambda x: _sigmoid(-x),
}


def _on_symbols(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the code with its functions replaced by those above."""
    function = inspect.unwrap(function)
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__, {**function.__globals__, **SYMBOLIC})


sigmoid_kind = GATE_KINDS["sigmoid"]._replace(
    log=SYMBOLIC["log_sigmoid"], slope=SYMBOLIC["log_sigmoid_slope"]
)
SYMBOLIC["GATE_KINDS"] = GATE_KINDS | {"sigmoid": sigmoid_kind}
SYMBOLIC |= {f.__name__: _on_symbols(f) for f in (log_gate, log_gate_slope)}


class Symbols:
    """Return arrays of new symbols with random values, multiples of 1/8, and add ``given``."""

    def __init__(self, **given: float) -> None:
        self.given, self.rng = given, np.random.default_rng(0)
        self.values: dict[sympy.Symbol, Any] = {}

    def arrays(self, **shapes: tuple[int, ...]) -> dict[str, Array]:
        arrays = {}
        for name, shape in shapes.items():
            arrays[name] = np.empty(shape, object)
            for index in np.ndindex(*shape):
                value = self.given.get(name, 0) + int(self.rng.integers(4, 13)) / 8
                symbol = sympy.Symbol(f"{name}{len(self.values)}", real=True)
                self.values[symbol] = sympy.Rational(value)
                arrays[name][index] = Value(symbol, value)
        return arrays

    def numbers(self, pre: list[Value]) -> dict[sympy.Symbol, Any]:
        """Return a rational number for each symbol, or a log of one for pre-activations and m."""
        numbers = {
            s: sympy.log(abs(value)) if s.name[0] == "m" else value
            for s, value in self.values.items()
        }
        for p in pre:  # one may contain those before it; its own bias is added to the rest
            b = next(s for s in self.values if s.name[0] == "b" and s in p.expr.args)
            numbers[b] = sympy.log(abs(self.values[b])) - (p.expr - b).xreplace(numbers)
        return numbers


def _check(cell: Any, layer: Any, state: Any, new: Symbols) -> Any:
    """Compare a backward with the derivatives of <cotangents, outputs> for every input.

    The derivatives are symbolic. Exact numbers are then substituted, so that the difference has no
    rounding error.
    """
    x = new.arrays(x=(1, 1))["x"]
    h, after, cache = _on_symbols(cell.forward)(layer, x, state)
    used = {name: a.shape for name, a in state._asdict().items() if a is not None}
    dh = new.arrays(dh=h.shape)["dh"]
    dafter = after._replace(**new.arrays(**used))
    dx, dstate0, grads = _on_symbols(cell.backward)(layer, dh, cache, dafter)
    loss = (h * dh).sum() + sum((getattr(after, a) * getattr(dafter, a)).sum() for a in used)
    pre = cache.pre if hasattr(cache, "pre") else [cache.h_pre]
    numbers = new.numbers([p for gate in pre for p in gate.flat])
    inputs = {"x": x, **layer.params, **{a: getattr(state, a) for a in used}}
    found = {"x": dx, **grads, **{a: getattr(dstate0, a) for a in used}}
    for name, array in inputs.items():
        formulas = np.broadcast_to(found[name], array.shape)
        for symbol, formula in zip(array.flat, formulas.flat, strict=True):
            difference = sympy.diff(loss.expr, symbol.expr) - _value(formula).expr
            assert sympy.simplify(difference.xreplace(numbers)) == 0, name
    return cache


def _check_one_unit(cell: Any, state: Any, gates: int, b: float = 0, **more: Any) -> Any:
    """A cell of one unit, whose W, R and b have a row for each gate."""
    new, own = Symbols(b=b), more.pop("params", {})
    params = new.arrays(W=(gates, 1), R=(gates, 1), b=(gates,), **own)
    before = state(**new.arrays(**dict.fromkeys(state._fields, (1, 1))))
    return _check(cell, SimpleNamespace(params=params, **more), before, new)


def _check_slstm(cell: Any, forget_gate: str = "sigmoid", m: float = 5) -> None:
    new = Symbols(m=m)
    params = new.arrays(W=(4, 1), R=(1, 4, 1), b=(4,))
    layer = SimpleNamespace(params=params, forget_gate=forget_gate)
    state = sLSTMState(**new.arrays(h=(1, 1), c=(1, 1), n=(1, 1), m=(1, 1)))
    cache = _check(cell, layer, state, new)
    assert (cache.pre[0] <= cache.A) == (m > 0)


def _check_mlstm(cell: Any, gates: tuple[str, str] = ("exp", "sigmoid"), **given: float) -> Any:
    new, rows = Symbols(**given), {"q": 2, "k": 2, "v": 2, "i": 1, "f": 1, "o": 2}
    params = new.arrays(**{f"W_{g}": (n, 1) for g, n in rows.items()})
    params |= new.arrays(**{f"b_{g}": (n,) for g, n in rows.items()})
    layer = SimpleNamespace(params=params, num_heads=1, input_gate=gates[0], forget_gate=gates[1])
    layer.normalised = gates[0] == "exp"
    layer.eps = new.arrays(eps=(1,))["eps"][0] if layer.normalised else 0
    shapes = {"C": (1, 1, 2, 2), "n": (1, 1, 2), "m": (1, 1)}
    state = mLSTMState(**new.arrays(**shapes))
    if not layer.normalised:
        state = mLSTMState(state.C, None, None)
    return _check(cell, layer, state, new)


CHECKS: dict[Any, Callable[..., Any]] = {
    LSTMCell: partial(_check_one_unit, state=LSTMState, gates=4),
    PeepholeLSTMCell: partial(_check_one_unit, state=LSTMState, gates=4, params={"P": (3,)}),
    LSTMPCell: partial(_check_one_unit, state=LSTMState, gates=4, params={"W_hr": (1, 1)}),
    GRUCell: partial(_check_one_unit, state=GRUState, gates=3, params={"b_h": (3,)}),
    OriginalGRUCell: partial(_check_one_unit, state=GRUState, gates=3),
    ElmanCell: partial(_check_one_unit, state=ElmanState, gates=1, nonlinearity="tanh"),
    sLSTMCell: _check_slstm,
    mLSTMCell: _check_mlstm,
}


@pytest.mark.parametrize("cell", CHECKS, ids=lambda cell: cell.__name__)
def test_a_cell(cell: Any) -> None:
    CHECKS[cell](cell)


def test_every_cell_is_here() -> None:
    checked = {cell.__name__ for cell in CHECKS}
    assert checked == {name for name in cells.__all__ if name.endswith("Cell")}


@pytest.mark.parametrize(("b", "alive"), [(4, True), (-4, False)])
def test_elman_with_relu(b: float, alive: bool) -> None:
    assert (CHECKS[ElmanCell](ElmanCell, nonlinearity="relu", b=b).h_pre > 0) == alive


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
@pytest.mark.parametrize("m", [-5, 5])
def test_slstm(forget_gate: str, m: float) -> None:
    _check_slstm(sLSTMCell, forget_gate, m)


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
@pytest.mark.parametrize("past_wins", [True, False])
@pytest.mark.parametrize("denominator", [1, -1, 0])  # q·n, −q·n or the floor
def test_mlstm(forget_gate: str, past_wins: bool, denominator: int) -> None:
    low, high = (0, 6) if denominator else (-12, -6)
    m, b_i = (high, low) if past_wins else (low, high)
    given = {"m": m, "b_i": b_i, "b_q": 3 * denominator - 1}
    cache = _check_mlstm(mLSTMCell, ("exp", forget_gate), **given)
    assert (cache.log_i <= cache.A) == past_wins
    qn, floor = cache.qn.item().value, np.exp(-cache.m.item().value)
    assert (np.sign(qn) if abs(qn) >= floor else 0) == denominator


def test_mlstm_with_a_sigmoid_input_gate() -> None:
    _check_mlstm(mLSTMCell, ("sigmoid", "sigmoid"))


@pytest.mark.parametrize(
    ("cell", "options", "line", "error"),
    [
        (LSTMCell, {}, "dc * c_prev", "dc * c"),
        (PeepholeLSTMCell, {}, "+ p_o * do_pre", ""),
        (LSTMPCell, {}, "dc_next + dm * o", "dc_next + o"),
        (GRUCell, {}, "r * dn_pre", "dn_pre"),
        (OriginalGRUCell, {}, "+ r * ds", "+ ds"),
        (ElmanCell, {}, "dh_pre.T @ h_prev", "dh_pre.T @ h_pre"),
        # Where log f + m₋ is the maximum, δf′ is not used: (stab.9).
        (sLSTMCell, {"m": -5}, "+ dn * n_prev", ""),
        (sLSTMCell, {"m": 5}, "dm_next - i * di", "dm_next"),
        (mLSTMCell, {"m": 6, "b_q": -4}, "-np.sign(qn.real) * S", "-S"),
        (mLSTMCell, {"m": 6}, "dm - i * di", "dm"),
    ],
)
def test_an_error_is_found(cell: Any, options: dict[str, float], line: str, error: str) -> None:
    with pytest.raises(AssertionError):
        CHECKS[cell](spoiled(cell, line, error), **options)
