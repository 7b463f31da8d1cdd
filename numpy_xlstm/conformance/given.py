"""Recurrences over given pre-activations, or over given q, k and v, without input matrices.

The cell itself computes them. Its input is the concatenation of everything given, and its matrices
select each part.
"""

from math import prod
from typing import Any

import numpy as np

from numpy_xlstm.conformance.subjects import Arrays, Options, Subject
from numpy_xlstm.numerics import Array

OPEN = 1000.0
"""Bias with which an output gate is exactly 1."""


class Given(Subject):
    """LSTM or sLSTM over ``Wx`` and ``R``, or mLSTM over ``q``, ``k``, ``v``, ``i`` and ``f``.

    ``Wx`` (B, T, 4·H) is W x + b, gate by gate. ``R`` (NH, 4·DH, DH) is an argument, as in the
    public functions. q and k are (B, NH, T, DK), v is (B, NH, T, DV), and ĩ and f̃ are (B, NH, T).
    There is no o.
    """

    def module(self, options: Options, specification: Any = None) -> Any:
        """Return a layer of the cell, whose x is everything given."""
        inner = {name: value for name, value in options.items() if name != "chunk_size"}
        inner["input_size"] = sum(_widths(options).values())
        return super().module(inner, specification)

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        arrays = super().blank(options, B, T)
        given = _split(arrays["x"], options)
        if "params.R" in arrays:
            given["R"] = _with_heads(arrays["params.R"])
        arrays["dy"] = _apart("y", arrays["dy"], options)
        return given | _kept(arrays, "state", "dy", "dstate")

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        widths = _widths(options)
        x = np.concatenate([_joined(inputs[name], options) for name in widths], axis=-1)
        params = {n: np.zeros(a.shape, x.dtype) for n, a in self.module(options).params.items()}
        rows = np.split(np.eye(x.shape[-1], dtype=x.dtype), np.cumsum([*widths.values()])[:-1])
        if "R" in inputs:
            params |= {"W": rows[0], "R": inputs["R"].reshape(params["R"].shape)}
        else:
            params |= {f"W_{name}": row for name, row in zip(widths, rows, strict=True)}
            params["b_o"] += OPEN
        inner = {"x": x, **{f"params.{name}": array for name, array in params.items()}}
        inner |= {name: array for name, array in inputs.items() if name not in (*widths, "R")}
        if "dy" in inputs:
            inner["dy"] = _joined(inputs["dy"], options)
        results = super().run(options, inner, specification)
        outputs = {"y": _apart("y", results["y"], options), **_kept(results, "final")}
        if "dy" not in inputs:
            return outputs
        gradients = {f"d{name}": d for name, d in _split(results["dx"], options).items()}
        if "R" in inputs:
            gradients["dR"] = _with_heads(results["grads.R"])
        return {**outputs, **gradients, **_kept(results, "dstate0")}


def _widths(options: Options) -> dict[str, int]:
    """Return the names of everything given, and their widths."""
    H = options["hidden_size"]
    if "qk_dim" not in options:
        return {"Wx": 4 * H}
    NH, QK = options["num_heads"], options["qk_dim"]
    return {"q": QK, "k": QK, "v": H, "i": NH, "f": NH}


def _split(x: Array, options: Options) -> Arrays:
    """Return everything given that is part of x, or its gradients."""
    widths = _widths(options)
    parts = np.split(x, np.cumsum([*widths.values()])[:-1], axis=-1)
    return {name: _apart(name, part, options) for name, part in zip(widths, parts, strict=True)}


def _with_heads(R: Array) -> Array:
    """Return R as (NH, 4·DH, DH), also for a cell without heads."""
    return R.reshape(-1, *R.shape[-2:])


def _kept(arrays: Arrays, *kinds: str) -> Arrays:
    """Return the arrays whose names before the dot are ``kinds``."""
    return {name: array for name, array in arrays.items() if name.split(".")[0] in kinds}


def _joined(array: Array, options: Options) -> Array:
    """Reshape (B, NH, T, ·) or (B, NH, T) of an mLSTM to (B, T, NH·…)."""
    if "qk_dim" not in options:
        return array
    B, NH, T, *width = array.shape
    return np.moveaxis(array, 1, 2).reshape(B, T, NH * prod(width))


def _apart(name: str, array: Array, options: Options) -> Array:
    """Reshape (B, T, NH·…) of an mLSTM to (B, NH, T, ·), or (B, NH, T) for a gate."""
    if "qk_dim" not in options:
        return array
    (B, T, width), NH = array.shape, options["num_heads"]
    heads = np.moveaxis(array.reshape(B, T, NH, width // NH), 2, 1)
    return np.ascontiguousarray(heads[..., 0] if name in ("i", "f") else heads)
