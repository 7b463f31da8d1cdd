"""Official state dicts: the names are ours, but for two layouts and one shared matrix."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.module import like_parameters
from numpy_xlstm.numerics import Array

KERNEL, BIAS = "_recurrent_kernel_", "_bias_"


def official_arrays(
    arrays: Mapping[str, Any], params: Mapping[str, Array], shared: tuple[str, str] | None
) -> dict[str, Array]:
    """Check official arrays against our parameters and bring them into their layout.

    ``shared`` names the head's matrix and the embedding's where they are the same one.
    """
    if not isinstance(arrays, Mapping):
        raise ShapeError(f"state_dict: expected arrays by name; got {type(arrays).__name__}")
    found = {name: np.asarray(array) for name, array in arrays.items()}
    if shared is not None and shared[0] in found:
        head, embedding = found.pop(shared[0]), found.get(shared[1])
        if embedding is not None and not np.array_equal(head, embedding):
            raise ShapeError(f"{shared[0]}: expected the same numbers as {shared[1]}; got others")
    for name in found.keys() & params.keys():
        if name.endswith(KERNEL):
            _from_cuda_layout(found, name, params[name].shape)
    return like_parameters(params, found)


def _from_cuda_layout(arrays: dict[str, Array], name: str, shape: tuple[int, ...]) -> None:
    """Put R (NH, DH in, 4, DH out) and b (NH, 4, DH) into the order of the vanilla backend."""
    NH, rows, DH = shape
    if arrays[name].shape != (NH, DH, rows):
        return
    R = arrays[name].reshape(NH, DH, 4, DH)
    arrays[name] = R.transpose(0, 2, 3, 1).reshape(shape)
    bias = name.removesuffix(KERNEL) + BIAS
    if bias in arrays and arrays[bias].size == NH * rows:
        arrays[bias] = arrays[bias].reshape(NH, 4, DH).swapaxes(0, 1).reshape(-1)
