"""Official state dicts, which differ from ``params`` in sLSTM layouts and a tied matrix only."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.models.layouts import (
    BIAS,
    KERNEL,
    LAYOUTS,
    bias_to_vanilla,
    found_layouts,
    in_layout,
    kernel_to_vanilla,
)
from numpy_xlstm.models.names import unwrapped
from numpy_xlstm.module import like_parameters
from numpy_xlstm.numerics import Array, check_choice, check_writable, plain_array


class StateDict:
    """Methods of a model that reads and writes official state dicts."""

    params: Any
    shared: tuple[str, str] | None = None
    """Names of the matrices of head and embedding if they are tied."""

    def state_dict(self, layout: str = "vanilla") -> dict[str, Array]:
        """Return copies of all parameters under the official names, including a tied head.

        Parameters
        ----------
        layout : {"vanilla", "cuda", "canonical"}
            Layout of R and b of the sLSTM: that of the official backend of this name, or
            "canonical", that of newer versions, R (NH, DH, 4, DH) and b (NH, 4, DH).
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
        converted = official_arrays(arrays, self.params, self.shared, layout)
        check_writable(self.params)
        for name, array in converted.items():
            self.params[name][...] = array


def official_arrays(
    arrays: Mapping[str, Any],
    params: Mapping[str, Array],
    shared: tuple[str, str] | None,
    layout: str | None = None,
) -> dict[str, Array]:
    """Check official arrays against the parameters and convert them to the same layout.

    ``shared`` contains the names of the matrices of head and embedding if they are tied.
    """
    if not isinstance(arrays, Mapping) or not all(isinstance(name, str) for name in arrays):
        raise ShapeError(f"state_dict: expected a mapping of arrays; got {arrays!r:.80}")
    if layout is not None:
        check_choice("layout", layout, LAYOUTS)
    plain = {name: plain_array(name, array) for name, array in unwrapped(arrays).items()}
    if shared is not None and shared[0] in plain:
        head, embedding = plain.pop(shared[0]), plain.get(shared[1])
        if embedding is not None and not np.array_equal(head, embedding):
            raise ShapeError(f"{shared[0]}: expected the same numbers as {shared[1]}; got others")
    for name in params:
        bias = name.removesuffix(KERNEL) + BIAS
        if name.endswith(KERNEL) and name in plain and bias in plain:
            NH, (R, b) = len(params[name]), (plain[name], plain[bias])
            of_R, of_b = found_layouts(name, R.shape, b.shape, params[name].shape, layout)
            plain |= {name: kernel_to_vanilla(R, of_R), bias: bias_to_vanilla(b, of_b, NH)}
    return like_parameters(params, plain)
