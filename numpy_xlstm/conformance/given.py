"""Recurrences over given pre-activations, or over given q, k and v, without input matrices.

The cell itself computes them. Its input is the concatenation of everything given, and its matrices
select each part.
"""

from typing import Any

import numpy as np

from numpy_xlstm.conformance.subjects import Arrays, Options, Subject
from numpy_xlstm.numerics import Array

OPEN = 1000.0
"""Bias with which an output gate is exactly 1."""


class GivenGates(Subject):
    """LSTM or sLSTM over W x + b: ``Wx`` (B, T, 4·H), gate by gate, instead of x, W and b.

    ``R`` (NH, 4·DH, DH) is an argument, as in the public functions.
    """

    def module(self, options: Options, specification: Any = None) -> Any:
        """Return a layer of the cell, whose x is ``Wx``."""
        inner = {**options, "input_size": 4 * options["hidden_size"]}
        return super().module(inner, specification)

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        arrays = super().blank(options, B, T)
        given = {"Wx": arrays["x"], "R": _with_heads(arrays["params.R"])}
        return given | _kept(arrays, "state", "dy", "dstate")

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        Wx, R = inputs["Wx"], inputs["R"]
        rows = Wx.shape[-1]
        params = {"W": np.eye(rows, dtype=Wx.dtype), "b": np.zeros(rows, Wx.dtype)}
        params["R"] = R.reshape(self.module(options).params["R"].shape)
        rest = {name: array for name, array in inputs.items() if name not in ("Wx", "R")}
        inner = {"x": Wx, **rest, **{f"params.{name}": array for name, array in params.items()}}
        results = super().run(options, inner, specification)
        if "dx" in results:
            del results["grads.W"], results["grads.b"]
            results["dWx"], results["dR"] = results.pop("dx"), _with_heads(results.pop("grads.R"))
        return results


def _with_heads(R: Array) -> Array:
    """Return R as (NH, 4·DH, DH), also for a cell without heads."""
    return R.reshape(-1, *R.shape[-2:])


class GivenMemory(Subject):
    """mLSTM over q, k (B, NH, T, DK), v (B, NH, T, DV) and ĩ, f̃ (B, NH, T), without o."""

    def module(self, options: Options, specification: Any = None) -> Any:
        """Return a layer of the cell, whose x is q, k, v, ĩ and f̃ of all heads."""
        inner = {name: value for name, value in options.items() if name != "chunk_size"}
        inner["input_size"] = sum(_widths(options).values())
        return super().module(inner, specification)

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        NH, widths = options["num_heads"], _widths(options)
        arrays = super().blank(options, B, T)
        given = {name: np.zeros((B, NH, T, widths[name] // NH)) for name in ("q", "k", "v")}
        given |= {name: np.zeros((B, NH, T)) for name in ("i", "f")}
        given |= _kept(arrays, "state", "dy", "dstate")
        return given | {"dy": np.zeros_like(given["v"])}

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        widths = _widths(options)
        given = {name: _joined(inputs[name]) for name in widths}
        x = np.concatenate(list(given.values()), axis=-1)
        rest = {name: array for name, array in inputs.items() if name not in given}
        inner = rest | {"x": x}
        inner |= {f"params.{name}": array for name, array in _pick(widths, x.dtype).items()}
        if "dy" in inputs:
            inner["dy"] = _joined(inputs["dy"])
        results, NH = super().run(options, inner, specification), options["num_heads"]
        outputs = {"y": _apart(results["y"], NH, 4), **_kept(results, "final")}
        if "dy" not in inputs:
            return outputs
        ends = np.cumsum(list(widths.values()))[:-1]
        gradients = dict(zip(widths, np.split(results["dx"], ends, axis=-1), strict=True))
        apart = {f"d{name}": _apart(d, NH, inputs[name].ndim) for name, d in gradients.items()}
        return {**outputs, **apart, **_kept(results, "dstate0")}


def _kept(arrays: Arrays, *kinds: str) -> Arrays:
    """Return the arrays whose names before the dot are ``kinds``."""
    return {name: array for name, array in arrays.items() if name.split(".")[0] in kinds}


def _widths(options: Options) -> dict[str, int]:
    NH, QK, H = options["num_heads"], options["qk_dim"], options["hidden_size"]
    return {"q": QK, "k": QK, "v": H, "i": NH, "f": NH}


def _pick(widths: dict[str, int], dtype: Any) -> Arrays:
    """Return parameters that select q, k, v, ĩ and f̃ from x, with an output gate of 1."""
    rows = np.split(
        np.eye(sum(widths.values()), dtype=dtype), np.cumsum(list(widths.values()))[:-1]
    )
    params = {f"W_{name}": row for name, row in zip(widths, rows, strict=True)}
    params["W_o"] = np.zeros((widths["v"], sum(widths.values())), dtype)
    params |= {f"b_{name}": np.zeros(width, dtype) for name, width in widths.items()}
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
