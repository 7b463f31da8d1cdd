"""Arithmetic modulo five. Operators have the ids 1: +, 2: −, 3: ×, then come =, ( and )."""

import numpy as np

from numpy_xlstm.experiments.tasks.layout import PAD, Length, answered, ended, random_lengths
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Batch

PLUS, MINUS, TIMES, EQUALS, OPEN, CLOSE = range(1, 7)


def modular_arithmetic(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the value of digits (5…9) and operators; an even length is rounded down."""
    n = 2 * random_lengths(rng, batch, ((length[0] + 1) // 2, (length[1] + 1) // 2)) - 1
    shape = (batch, n.max())
    steps = np.arange(n.max())
    terms = np.where(steps % 2, rng.integers(PLUS, EQUALS, shape), rng.integers(5, 10, shape))
    strings, ends = ended(np.where(steps < n[:, None], terms, PAD), n, EQUALS)
    digits = strings[:, ::2] - 5  # −5 at the padding, which is 0 modulo 5 and adds nothing
    total, product = np.zeros_like(n), digits[:, 0]
    for operator, digit in zip(strings[:, 1:-1:2].T, digits[:, 1:].T, strict=True):
        times = operator == TIMES
        total = np.where(times, total, total + product)
        factor = np.where(times, product, np.where(operator == MINUS, -1, 1))
        product = factor * digit % 5
    return answered(strings, ends, 5 + (total + product) % 5)


def modular_arithmetic_brackets(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the value of an expression with brackets and digits (7…11)."""
    n = random_lengths(rng, batch, length)
    strings, values = _expressions(rng, n, TIMES, zero=7)
    return answered(*ended(strings, n, EQUALS), 7 + values)


def solve_equation(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the digit (9…13) that x (7) replaces in an expression of known value.

    The expression has no ×, so that only one digit is a solution. Then come =, the value and a
    mark (8). The length is that of the expression.
    """
    n = random_lengths(rng, batch, length)
    strings, values = _expressions(rng, n, MINUS, zero=9)
    row = np.arange(batch)
    at = np.argmax(np.where(strings >= 9, rng.random(strings.shape), -1), 1)
    answers = strings[row, at]
    strings[row, at] = 7
    strings, n = ended(strings, n, EQUALS)
    strings, n = ended(strings, n, 9 + values)
    return answered(*ended(strings, n, 8), answers)


def _expressions(
    rng: np.random.Generator, n: Array, operators: int, zero: int
) -> tuple[Array, Array]:
    """Return random expressions of lengths ``n``, and their values.

    Only the first ``operators`` operators occur. Expressions of less than five symbols are d, −d,
    (d) or (−d); longer ones are (E op E), where the length of the first E is uniform. Digits have
    the ids from ``zero`` on.
    """
    strings = np.full((len(n), n.max()), PAD)

    def write(row: Array, start: Array, size: Array) -> Array:
        """Write an expression into each span of the strings and return their values."""
        if len(row) == 0:
            return size
        wide, leaf = size > 2, size < 5
        strings[row[wide], start[wide]] = OPEN
        strings[row[wide], (start + size - 1)[wide]] = CLOSE
        value = rng.integers(0, 5, len(row))
        strings[row[leaf], (start + size // 2)[leaf]] = zero + value[leaf]
        negative = leaf & (size % 2 == 0)
        strings[row[negative], (start + size // 2 - 1)[negative]] = MINUS
        value[negative] *= -1

        row, start, size = row[~leaf], start[~leaf], size[~leaf]
        left = rng.integers(1, size - 3)
        operator = rng.integers(1, operators + 1, len(row))
        middle = start + 1 + left
        strings[row, middle] = operator
        spans = ((row, row), (start + 1, middle + 1), (left, size - 3 - left))
        a, b = np.split(write(*(np.concatenate(span) for span in spans)), 2)
        value[~leaf] = np.choose(operator - 1, (a + b, a - b, a * b))
        return value % 5

    return strings, write(np.arange(len(n)), np.zeros_like(n), n)
