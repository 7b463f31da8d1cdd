"""Official state dicts, which differ from ``params`` in prefixes, sLSTM layouts and a tied matrix.

The official package has a layout of R and b of an sLSTM for each of its backends. "vanilla" is also
the layout of this package: R (NH, 4·DH out, DH in) and b (4, NH, DH), flattened. "cuda" has R
(NH, DH in, 4·DH out) and b (NH, 4, DH), flattened. The flattened b has the same shape in both, so
only R shows the layout. Newer versions store R (NH, DH, 4, DH) and b (NH, 4, DH), which is called
"canonical" here.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array, checked_choice, plain_array

T = TypeVar("T")

ANYWHERE = r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
"""Prefixes that ``torch.compile`` and other wrappers add to a module's name at any depth."""

OUTSIDE = "module.", "model."
"""Prefixes of every name of a model that is part of another module."""

KERNEL, BIAS = "_recurrent_kernel_", "_bias_"
"""Suffixes of the names of R and b."""

LAYOUTS = "vanilla", "cuda"
"""Layouts in which R and a flattened b can be stored."""

Shape = tuple[int, ...]


def unwrapped(named: Mapping[str, T]) -> dict[str, T]:
    """Remove the prefixes of wrappers from the names.

    Examples
    --------
    >>> unwrapped({"module._orig_mod.lm_head.weight": 1, "module._orig_mod.x": 2})
    {'lm_head.weight': 1, 'x': 2}
    """
    plain = renamed(named, ANYWHERE, "")
    while plain and (shared := [p for p in OUTSIDE if all(name.startswith(p) for name in plain)]):
        plain = {name.removeprefix(shared[0]): value for name, value in plain.items()}
    return plain


def renamed(named: Mapping[str, T], pattern: str, new: str) -> dict[str, T]:
    """Replace parts of the names. Two entries must not get the same name."""
    values: dict[str, T] = {}
    for name, value in named.items():
        if (other := re.sub(pattern, new, name)) in values:
            raise ShapeError(f"{name}: expected one array {other!r}; got two")
        values[other] = value
    return values


def shapes(NH: int, DH: int) -> dict[str, tuple[Shape, Shape]]:
    """Return the shapes of R and b in each layout."""
    return {
        "vanilla": ((NH, 4 * DH, DH), (4 * NH * DH,)),
        "cuda": ((NH, DH, 4 * DH), (4 * NH * DH,)),
        "canonical": ((NH, DH, 4, DH), (NH, 4, DH)),
    }


def found_layouts(
    name: str, R: Shape, b: Shape, ours: Shape, layout: str | None = None
) -> tuple[str, str]:
    """Determine the layouts of R and of b from their shapes, and from that of R in the model.

    ``name`` is the name of R. ``layout`` is the layout of b, if it is known; otherwise that of R.
    """
    NH, known = ours[0], shapes(ours[0], ours[2])
    fitting = [layout for layout, (shape, _) in known.items() if shape == R]
    if not fitting:
        expected = " or ".join(str(shape) for shape, _ in known.values())
        raise ShapeError(f"{name}: expected shape {expected}; got {R}")
    of_R = fitting[0]
    bias = name.removesuffix(KERNEL) + BIAS
    if b == known["canonical"][1]:
        return of_R, "canonical"
    if b != known["cuda"][1]:
        raise ShapeError(f"{bias}: expected shape {known['cuda'][1]}; got {b}")
    if layout is not None:
        return of_R, checked_choice("layout", layout, LAYOUTS)
    if of_R != "canonical":
        return of_R, of_R
    if NH > 1:
        raise ShapeError(
            f"{bias}: expected shape {known['canonical'][1]} for R {R}; got {b}, whose layout is "
            "ambiguous: pass layout='vanilla' or layout='cuda'"
        )
    return of_R, "vanilla"  # with one head, all layouts are the same


def kernel_to_vanilla(R: Array, layout: str) -> Array:
    """Convert R from any layout to (NH, 4·DH, DH)."""
    if layout == "vanilla":
        return R
    NH, DH = R.shape[:2]
    return R.reshape(NH, DH, 4, DH).transpose(0, 2, 3, 1).reshape(NH, 4 * DH, DH)


def bias_to_vanilla(b: Array, layout: str, NH: int) -> Array:
    """Convert b from any layout to "vanilla", gate by gate."""
    return b if layout == "vanilla" else b.reshape(NH, 4, -1).swapaxes(0, 1).reshape(-1)


def in_layout(params: dict[str, Array], layout: str) -> dict[str, Array]:
    """Return the parameters with every R and b in another layout."""
    checked_choice("layout", layout, (*LAYOUTS, "canonical"))
    arrays = dict(params)
    for name, R in params.items() if layout != "vanilla" else ():
        if name.endswith(KERNEL):
            (NH, _, DH), bias = R.shape, name.removesuffix(KERNEL) + BIAS
            of_R, of_b = shapes(NH, DH)[layout]
            arrays[name] = R.reshape(NH, 4, DH, DH).transpose(0, 3, 1, 2).reshape(of_R)
            arrays[bias] = params[bias].reshape(4, NH, DH).swapaxes(0, 1).reshape(of_b)
    return arrays


class StateDict(Module):
    """A model that reads and writes official state dicts."""

    shared: tuple[str, str] | None = None
    """Names of the matrices of head and embedding if they are tied."""

    def state_dict(self, layout: str = "vanilla") -> dict[str, Array]:
        """Return copies of all parameters under the official names, including a tied head.

        Parameters
        ----------
        layout : {"vanilla", "cuda", "canonical"}
            Layout of R and b of the sLSTM: the layout of the official backend of this name, or
            "canonical", the layout of newer versions, R (NH, DH, 4, DH) and b (NH, 4, DH).
        """
        arrays = in_layout(dict(self.params), layout)
        if self.shared is not None:
            head, embedding = self.shared
            arrays[head] = arrays[embedding]
        return {name: array.copy() for name, array in arrays.items()}

    def load_state_dict(self, arrays: Mapping[str, Any], *, layout: str | None = None) -> None:
        """Copy arrays with official names into the parameters; after an error, none is changed.

        Parameters
        ----------
        arrays : Mapping[str, array_like]
            Such as ``{k: v.numpy() for k, v in model.state_dict().items()}`` of the official model.
            R and b of an sLSTM are converted from their layout. The prefixes of ``torch.compile``
            and other wrappers, ``_orig_mod.``, ``module.`` and ``model.``, are removed.
        layout : {"vanilla", "cuda"}, optional
            Layout of b, which has the same shape in both layouts. By default it is the layout of R,
            which is found from the shape of R.
        """
        if not isinstance(arrays, Mapping) or not all(isinstance(name, str) for name in arrays):
            raise ShapeError(f"state_dict: expected a mapping of arrays; got {arrays!r:.80}")
        if layout is not None:
            checked_choice("layout", layout, LAYOUTS)
        plain = {name: plain_array(name, array) for name, array in unwrapped(arrays).items()}
        super().load_state_dict(self._in_vanilla(self._without_head(plain), layout))

    def _without_head(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Return the arrays without that of a tied head, which must equal the embedding's."""
        if self.shared is None or self.shared[0] not in arrays:
            return arrays
        name, other = self.shared
        head, embedding = arrays[name], arrays.get(other)
        if embedding is not None and not np.array_equal(head, embedding):
            raise ShapeError(f"{name}: expected the same numbers as {other}; got others")
        return {own: array for own, array in arrays.items() if own != name}

    def _in_vanilla(self, arrays: dict[str, Array], layout: str | None) -> dict[str, Array]:
        """Return the arrays with every R and b of an sLSTM in the layout "vanilla"."""
        converted = dict(arrays)
        for name, ours in self.params.items():
            bias = name.removesuffix(KERNEL) + BIAS
            if name.endswith(KERNEL) and name in arrays and bias in arrays:
                R, b = arrays[name], arrays[bias]
                of_R, of_b = found_layouts(name, R.shape, b.shape, ours.shape, layout)
                converted[name] = kernel_to_vanilla(R, of_R)
                converted[bias] = bias_to_vanilla(b, of_b, len(ours))
        return converted
