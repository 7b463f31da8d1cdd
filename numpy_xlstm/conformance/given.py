"""Recurrences over given pre-activations, or over given q, k and v, without input matrices.

The cell itself computes them. Its input is the concatenation of everything given, and its matrices
select each part.
"""

from typing import Any

import numpy as np

from numpy_xlstm.conformance.subjects import Arrays, Options, Subject, part
from numpy_xlstm.numerics import Array

OPEN = 1000.0
"""Bias with which an output gate is exactly 1."""


class GivenGates(Subject):
    """LSTM or sLSTM over W x + b: ``Wx`` (B, T, 4·H), gate by gate, instead of x, W and b."""

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        found = super().blank(_inner(options), B, T)
        for name in ("params.W", "params.b"):
            del found[name]
        return {("Wx" if name == "x" else name): array for name, array in found.items()}

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        Wx, rows = inputs["Wx"], 4 * options["hidden_size"]
        W, b = np.eye(rows, dtype=Wx.dtype), np.zeros(rows, Wx.dtype)
        R = inputs["params.R"]
        rest = {name: array for name, array in inputs.items() if name != "Wx"}
        inner = rest | {"x": Wx, "params.W": W, "params.R": R, "params.b": b}
        found = super().run(_inner(options), inner, specification)
        for name in ("grads.W", "grads.b"):
            del found[name]
        return {("dWx" if name == "dx" else name): array for name, array in found.items()}


def _inner(options: Options) -> Options:
    return {**options, "input_size": 4 * options["hidden_size"]}


class GivenMemory(Subject):
    """mLSTM over q, k (B, NH, T, DK), v (B, NH, T, DV) and ĩ, f̃ (B, NH, T), without o."""

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        NH, widths = options["num_heads"], _widths(options)
        found = super().blank(_memory_options(options), B, T)
        given = {
            g: np.zeros((B, NH, T) if g in "if" else (B, NH, T, widths[g] // NH)) for g in widths
        }
        given |= part_with_prefix(found, "state")
        return {**given, "dy": np.zeros_like(given["v"]), **part_with_prefix(found, "dstate")}

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        options, widths = _memory_options(options), _widths(options)
        given = {g: _joined(inputs[g]) for g in widths}
        x = np.concatenate(list(given.values()), axis=-1)
        rest = {name: array for name, array in inputs.items() if name not in given}
        inner = rest | {"x": x, "dy": _joined(inputs["dy"])}
        inner |= {f"params.{name}": a for name, a in _pick(widths, x.dtype).items()}
        found = super().run(options, inner, specification)
        ends = np.cumsum(list(widths.values()))[:-1]
        NH = options["num_heads"]
        dgiven = dict(zip(widths, np.split(found["dx"], ends, axis=-1), strict=True))
        apart = {f"d{g}": _apart(d, NH, inputs[g].ndim) for g, d in dgiven.items()}
        states = part_with_prefix(found, "final"), part_with_prefix(found, "dstate0")
        return {"y": _apart(found["y"], NH, 4), **states[0], **apart, **states[1]}


def part_with_prefix(arrays: Arrays, prefix: str) -> Arrays:
    """Return the arrays whose names start with ``prefix`` and a dot."""
    return {f"{prefix}.{name}": array for name, array in part(arrays, prefix).items()}


def _widths(options: Options) -> dict[str, int]:
    NH, QK, H = options["num_heads"], options["qk_dim"], options["hidden_size"]
    return {"q": QK, "k": QK, "v": H, "i": NH, "f": NH}


def _memory_options(options: Options) -> dict[str, Any]:
    """Return the options of the cell, without the chunk size, which only the port uses."""
    inner = {name: value for name, value in options.items() if name != "chunk_size"}
    return inner | {"input_size": sum(_widths(options).values())}


def _pick(widths: dict[str, int], dtype: Any) -> Arrays:
    """Return parameters that select q, k, v, ĩ and f̃ from x, with an output gate of 1."""
    rows = np.split(
        np.eye(sum(widths.values()), dtype=dtype), np.cumsum(list(widths.values()))[:-1]
    )
    params = {f"W_{g}": row for g, row in zip(widths, rows, strict=True)}
    params["W_o"] = np.zeros((widths["v"], sum(widths.values())), dtype)
    params |= {f"b_{g}": np.zeros(width, dtype) for g, width in widths.items()}
    return params | {"b_o": np.full(widths["v"], OPEN, dtype)}


def _joined(array: Array) -> Array:
    """Reshape (B, NH, T, ·) or (B, NH, T) to (B, T, NH·…)."""
    B, _, T = array.shape[:3]
    width = int(np.prod(array.shape[3:], dtype=int)) * array.shape[1]
    return np.moveaxis(array, 1, 2).reshape(B, T, width)


def _apart(array: Array, NH: int, ndim: int) -> Array:
    """Reshape (B, T, NH·…) to (B, NH, T, ·) or (B, NH, T)."""
    B, T, width = array.shape
    heads = np.moveaxis(array.reshape(B, T, NH, width // NH), 2, 1)
    return np.ascontiguousarray(heads if ndim == 4 else heads[..., 0])
