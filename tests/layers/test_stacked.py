"""Stacks in both directions, compared with unrolled cells."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import GRU, LSTM, RNN, Stacked, sLSTM
from numpy_xlstm.cells import ElmanCell, GRUCell, LSTMCell, LSTMPCell
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild, tree_map
from tests.samples import mostly, times
from tests.variants import assert_close

KINDS = ("LSTM", "LSTMP", "GRU", "RNN")


@dataclass(frozen=True)
class Sizes:
    """A random case, and the seed of its numbers."""

    kind: str
    B: int
    T: int
    D: int
    H: int
    layers: int
    both: bool
    bias: bool
    padded: bool
    batch_first: bool
    seed: int


flag = st.booleans()
sizes = st.builds(
    Sizes,
    kind=st.sampled_from(KINDS),
    B=mostly(3, "batch"),
    T=st.integers(0, 5),
    D=mostly(3, "inputs"),
    H=mostly(4, "units", least=2),
    layers=st.integers(1, 3),
    both=flag,
    bias=flag,
    padded=flag,
    batch_first=flag,
    seed=st.integers(0, 2**32 - 1),
)


class Case:
    """Make a layer with random parameters, its inputs, and cotangents of its outputs."""

    def __init__(self, s: Sizes) -> None:
        self.s, self.rng = s, np.random.default_rng(s.seed)
        kind = {"LSTM": LSTM, "LSTMP": LSTM, "GRU": GRU, "RNN": RNN}[s.kind]
        options: dict[str, Any] = {"proj_size": s.H - 1} if s.kind == "LSTMP" else {}
        options |= {"bias": s.bias, "bidirectional": s.both, "batch_first": s.batch_first}
        self.layer = kind(s.D, s.H, s.layers, **options)
        for array in self.layer.params.values():
            array[...] = min(1, (4 / s.H) ** 0.5) * self.rng.standard_normal(array.shape)
        self.x = self.swapped(self.rng.standard_normal((s.B, s.T, s.D)))
        self.lengths = self.rng.integers(0, s.T + 1, s.B) if s.padded else None
        self.dy = self.swapped(self.rng.standard_normal((s.B, s.T, self.layer.out_features)))
        self.state, self.dstate = (
            tree_map(lambda a: self.rng.standard_normal(a.shape), self.layer.init_state(s.B))
            for _ in range(2)
        )

    def swapped(self, array: Array) -> Array:
        return array if self.s.batch_first else np.ascontiguousarray(array.swapaxes(0, 1))

    def run(self) -> Any:
        y, state, cache = self.layer.forward(self.x, self.state, lengths=self.lengths)
        return y, state, *self.layer.backward(self.dy, cache, self.dstate)

    def cell(self, suffix: str, width: int) -> Any:
        s, p = self.s, self.layer.params
        zero = np.zeros({"GRU": 3 * s.H, "RNN": s.H}.get(s.kind, 4 * s.H))
        b_ih, b_hh = (p.get(f"bias_{which}{suffix}", zero) for which in ("ih", "hh"))
        params = {"W": p[f"weight_ih{suffix}"], "R": p[f"weight_hh{suffix}"], "b": b_ih + b_hh}
        if s.kind == "GRU":
            return GRUCell(width, s.H).with_params(params | {"b": b_ih, "b_h": b_hh.copy()})
        if s.kind == "LSTMP":
            params["W_hr"] = p[f"weight_hr{suffix}"]
            return LSTMPCell(width, s.H, s.H - 1).with_params(params)
        return {"LSTM": LSTMCell, "RNN": ElmanCell}[s.kind](width, s.H).with_params(params)

    def by_hand(self) -> Any:
        """Compute the same with ``unroll`` alone, row by row, each cut to its length."""
        x, dy = self.swapped(self.x), self.swapped(self.dy)
        y, dx, rows = np.zeros_like(dy), np.zeros_like(x), []
        for b in range(self.s.B):
            T = self.s.T if self.lengths is None else self.lengths[b]
            states = (tree_map(lambda a, b=b: a[:, b], s) for s in (self.state, self.dstate))
            y[b, :T], dx[b, :T], *rest = self._row(x[b : b + 1, :T], dy[b : b + 1, :T], *states)
            rows.append(rest)
        state, dstate0 = (
            tree_map(lambda *arrays: np.stack(arrays, axis=1), *(row[n] for row in rows))
            for n in (0, 1)
        )
        grads = {name: sum(row[2][name] for row in rows) for name in self.layer.params}
        return self.swapped(y), state, self.swapped(dx), dstate0, grads

    def _row(self, x: Array, dy: Array, state: Any, dstate: Any) -> Any:
        """Return outputs, dx, last state, dstate0 and gradients of one row."""
        turns: tuple[int, ...] = (1, -1) if self.s.both else (1,)
        steps, after, before = list[Any](), list[Any](), list[Any]()
        grads: dict[str, Any] = {}

        def at(tree: Any, place: int) -> tuple[Array, ...]:
            return tuple(a[place][None] for _, a in leaves("", tree))

        def joined(states: list[Any]) -> Any:
            arrays = zip(*([a[0] for _, a in leaves("", s)] for s in states), strict=True)
            return rebuild(state, map(np.array, arrays))

        for n in range(self.s.layers):
            ys = []
            for k, turn in enumerate(turns):
                cell = self.cell(f"_l{n}{'_reverse' * k}", x.shape[-1])
                y, last, cache = unroll(cell, x[:, ::turn], at(state, len(steps)))
                ys.append(y[:, ::turn])
                after.append(last)
                steps.append((cell, cache))
            x = np.concatenate(ys, axis=-1)
        for n in reversed(range(self.s.layers)):
            parts, dxs = np.split(dy, len(turns), axis=-1), []
            for k, turn in reversed(list(enumerate(turns))):
                cell, cache = steps.pop()
                dlast = at(dstate, len(steps))
                d, dbefore, found = unroll_backward(parts[k][:, ::turn], cache, dlast)
                dxs.append(d[:, ::turn])
                before.insert(0, dbefore)
                named: dict[str, Any] = {
                    "weight_ih": found["W"],
                    "weight_hh": found["R"],
                    "bias_ih": found["b"],
                }
                named |= {"bias_hh": found.get("b_h", found["b"]), "weight_hr": found.get("W_hr")}
                grads |= {f"{name}_l{n}{'_reverse' * k}": array for name, array in named.items()}
            dy = sum(dxs, np.zeros(1))
        return x[0], dy[0], joined(after), joined(before), grads


def assert_same(got: Any, expected: Any) -> None:
    assert got[4].keys() == expected[4].keys()
    a, b = ((*r[:4], tuple(r[4][name] for name in expected[4])) for r in (got, expected))
    assert_close(a, b, 1e-11, 1e-12)


@times(2)
@given(sizes)
def test_stacks_are_cells_unrolled_by_hand(s: Sizes) -> None:
    case = Case(s)
    assert_same(case.run(), case.by_hand())


def test_the_axes_are_those_of_the_stack() -> None:
    with pytest.raises(OptionError, match=r"layers\[1\]: expected batch_first=True, .*; got False"):
        Stacked([[sLSTM(3, 4)], [sLSTM(4, 4, batch_first=False)]])
