"""Descriptions of wrong entries by index, name and common properties."""

from inspect import isclass, signature
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import Module, cells, gradcheck
from numpy_xlstm.gradcheck.axes import Axes
from tests.gradcheck.layers import ExponentialStep, X

x = np.random.default_rng(1).standard_normal((2, 3))


def test_a_wrong_gate_is_named() -> None:
    report = gradcheck(ExponentialStep(H=4, plant="rows of f"), x, rng=0)
    row = next(row for row in report.failures if row.state == "returned")
    common, worst = row.note.split("; worst at ")
    assert (row.tensor, row.shape, common) == ("W", (16, 3), "12 of 48 entries, all in gate f")
    place, numbers = worst.split(": ")
    index = eval(place.split(" (")[0])
    assert place == f"{index} (gate f, unit {index[0] - 4}, input {index[1]})"
    claimed, reference = (float(text.split()[1]) for text in numbers.split(", "))
    assert numbers == f"backward {claimed:.9g}, reference {reference:.9g}"
    assert claimed == pytest.approx(1.01 * reference, rel=1e-6)


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(cells).values() if isclass(kind) and issubclass(kind, Module)]
)
def test_every_cell_names_the_entries_of_its_parameters(kind: Any) -> None:
    more = {"num_heads": 2} if "num_heads" in signature(kind).parameters else {}
    more |= {"proj_size": 3} if kind is cells.LSTMPCell else {}
    cell = kind(3, 4, **more)
    assert cell.tensor_axes.keys() == cell.params.keys()
    for name, array in cell.params.items():
        places = Axes(name, array.shape, cell.tensor_axes[name])
        assert "(" in places.describe((0,) * array.ndim)


def test_along_directions_there_are_no_places() -> None:
    pair = (lambda x: (x**2, x)), (lambda dy, x: 3 * x * dy)
    report = gradcheck(pair, X, rng=0, max_entries=0)
    by_direction = "8 of 8 directions; worst: backward "
    assert all(row.note.startswith(by_direction) for row in report.failures)
    assert [row.tensor for row in report.failures] == ["x", "⟨ȳ,Jv⟩ = ⟨Jᵀȳ,v⟩"]


@pytest.mark.parametrize(
    ("pattern", "shape", "index", "described"),
    [
        ("(gate=ifzo unit) input", (8, 3), (3, 2), "[3, 2] (gate f, unit 1, input 2)"),
        ("head (gate=ifzo unit) from", (2, 8, 2), (1, 7, 0), "(head 1, gate o, unit 1, from 0)"),
        ("(gate=ifzo head=2 unit)", (24,), (23,), "[23] (gate o, head 1, unit 2)"),
        ("", (8, 3), (3, 2), "[3, 2]"),
        ("", (), (), "[]"),
    ],
)
def test_names_of_one_entry(pattern: str, shape: Any, index: Any, described: str) -> None:
    places = Axes("W", shape, pattern)
    assert places.describe(index).endswith(described)
    assert places.in_common([index]) == ""


@pytest.mark.parametrize(
    ("pattern", "indices", "common"),
    [
        ("(gate=ifzo unit) input", [(2, 0), (3, 1), (3, 2)], ", all in gate f"),
        ("(gate=ifzo unit) input", [(0, 1), (7, 1)], ", all in gate i or o, input 1"),
        ("(gate=ifzo unit) input", [(0, 0), (2, 1), (4, 2), (7, 0)], ""),
        ("", [(3, 0), (3, 1), (3, 2)], ", all in axis 0 = 3"),
        ("", [(n, n % 3) for n in range(4)], ""),
    ],
)
def test_what_entries_have_in_common(pattern: str, indices: Any, common: str) -> None:
    assert Axes("W", (8, 3), pattern).in_common(indices) == common
