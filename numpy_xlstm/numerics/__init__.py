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
    check_above_zero,
    check_array,
    check_batch,
    check_callable,
    check_choice,
    check_generator,
    check_has,
    check_interval,
    check_kind,
    check_positive,
    check_whole,
    checked_dtype,
    is_number,
)
from numpy_xlstm.numerics.sums import dot, mean

__all__ = [
    "Array",
    "check_above_zero",
    "check_array",
    "check_batch",
    "check_callable",
    "check_choice",
    "check_generator",
    "check_has",
    "check_interval",
    "check_kind",
    "check_positive",
    "check_whole",
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
