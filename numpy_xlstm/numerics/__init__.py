"""Activations, dtype rules and input checks: what every other layer of the package stands on."""

from numpy_xlstm.numerics.activations import (
    log_sigmoid,
    log_sigmoid_slope,
    maximum,
    sigmoid,
    sigmoid_and_slope,
    tanh_slope,
)
from numpy_xlstm.numerics.arrays import (
    Array,
    cache_of,
    check_array,
    check_batch,
    check_cache,
    check_choice,
    check_generator,
    check_has,
    check_kind,
    check_positive,
    checked_dtype,
    is_number,
)
from numpy_xlstm.numerics.sums import dot, mean

__all__ = [
    "Array",
    "cache_of",
    "check_array",
    "check_batch",
    "check_cache",
    "check_choice",
    "check_generator",
    "check_has",
    "check_kind",
    "check_positive",
    "checked_dtype",
    "dot",
    "is_number",
    "log_sigmoid",
    "log_sigmoid_slope",
    "maximum",
    "mean",
    "sigmoid",
    "sigmoid_and_slope",
    "tanh_slope",
]
