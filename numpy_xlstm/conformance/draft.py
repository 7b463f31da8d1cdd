"""Inputs of a case under construction."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from numpy_xlstm.conformance.subjects import Arrays, Subject
from numpy_xlstm.numerics import Array

GATE_ROWS = {"slstm": "ifzo", "lstm": "ifzo", "lstmp": "ifzo", "peephole": "ifzo"}
GATE_ROWS |= {"gru": "rzn", "original-gru": "rzn"}
"""Gates in the order of their rows in W, R and b."""


@dataclass
class Draft:
    """Inputs of a case under construction, in float64."""

    subject: Subject
    options: dict[str, Any]
    inputs: Arrays
    rng: np.random.Generator
    largest: float
    """Factor of pre-activations in situations with large ones."""
    dtype: str
    """Dtype of the case."""
    exact: set[str] = field(default_factory=set)
    """Names of inputs that must not be perturbed, because of a tie or kink."""

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        """Return uniform numbers, the same on every machine."""
        return low + (high - low) * self.rng.random(shape)

    @property
    def two_gates(self) -> str:
        """The two gates that situations close or make large: i and f, or r and z of a GRU."""
        return GATE_ROWS.get(self.subject.family, "if")[:2]

    def rows(self, gate: str, kind: str = "b") -> list[Array]:
        """Return views of the parts of W or b, and of given inputs, that belong to a gate."""
        gates, found = GATE_ROWS.get(self.subject.family, "ifzo"), []
        word = "weight" if kind == "W" else "bias"
        for name, array in self.inputs.items():
            base = re.sub(r"_l\d+(_reverse)?$", "", name)
            if base in (gate, f"params.{kind}_{gate}") or base.endswith(f".{gate}gate.{word}"):
                found.append(array)
            elif name == "Wx":
                found.append(np.split(array, len(gates), axis=-1)[gates.index(gate)])
            elif base == f"params.{kind}" or base.endswith(f"_{word}_"):
                found.append(np.split(array, len(gates))[gates.index(gate)])
        return found
