"""Arrays that several processes see: one file, mapped into the memory of each."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from numpy_xlstm.numerics import Array

MODEL, PARAMETERS, GRADIENTS = "model.npz", "parameters", "gradients"
"""The files in the folder that processes share."""


def shared(
    path: Path, like: Mapping[str, Array], mode: Literal["r", "r+", "w+"]
) -> dict[str, Array]:
    """Arrays of the names, shapes and dtypes of ``like``, one behind the other in a file."""
    total = sum(array.nbytes for array in like.values())
    if mode == "w+" and hasattr(os, "posix_fallocate"):  # so that a full disk is an error here
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, total)
        mode = "r+"
    buffer, arrays, start = np.memmap(path, np.uint8, mode, shape=(total,)), {}, 0
    for name, array in like.items():
        part = buffer[start : start + array.nbytes]
        arrays[name] = part.view(array.dtype).reshape(array.shape).view(np.ndarray)
        start += array.nbytes
    return arrays
