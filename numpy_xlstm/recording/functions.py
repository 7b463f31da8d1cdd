"""What the functions of NumPy are to a recording: how their results come about."""

from typing import Any

import numpy as np

NEW: set[Any] = {np.empty, np.empty_like}
"""Make an array that has no value yet."""

FILLED: set[Any] = {np.zeros, np.zeros_like, np.ones, np.ones_like}
"""Make an array that has the same value at the beginning of every run."""

WITH_OUT: set[Any] = {np.concatenate, np.cumsum, np.einsum}
"""Can write their result to an array."""

OUT_COMES_AFTER: dict[Any, int] = {np.concatenate: 2, np.cumsum: 3, np.take: 3}
"""How many arguments come before ``out`` where it is given without its name."""

WITHOUT_OUT: set[Any] = {np.where, np.take, np.full, np.full_like, np.copy}
"""Cannot, or are slower if they do."""

AS_THEY_ARE: set[Any] = {np.array, np.asarray, np.asanyarray, np.ascontiguousarray}
"""Return their argument where it already is what they shall make of it."""

COMPOSED: set[Any] = {
    *(np.stack, np.reshape, np.swapaxes, np.transpose, np.moveaxis, np.expand_dims, np.squeeze),
    *(np.atleast_1d, np.sum, np.prod, np.mean, np.max, np.min, np.any, np.all),
    *(np.shape, np.ndim, np.size),
}
"""Functions made of others that can be noted, or of views; or that ask for no numbers."""

QUESTIONS: set[Any] = {np.result_type, np.may_share_memory, np.iscomplexobj}
"""Ask for no numbers either, but must be asked with plain arrays."""

ORDERLESS: set[Any] = {np.minimum, np.maximum, np.logical_and, np.logical_or}
"""Reductions that give the same bits in any order."""

ALIKE: set[Any] = {np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum}
"""Take half of the time or less if all arrays have one shape, and give the same bits."""

SLOW_WITH_NUMBERS: set[Any] = {np.maximum, np.minimum}
"""Take twice as long with a number in the place of an array."""
