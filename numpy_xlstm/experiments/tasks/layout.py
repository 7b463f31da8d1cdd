"""Random strings, and the batch that asks for an answer at their end."""

import numpy as np

from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Batch

PAD = 0
"""Id of the padding, and of the input at every position of an answer but the first."""

Length = tuple[int, int]
"""Shortest and longest length of a row, both included."""


def random_lengths(rng: np.random.Generator, batch: int, length: Length) -> Array:
    """Return uniformly random lengths, (B,)."""
    return rng.integers(length[0], length[1] + 1, batch)


def random_strings(
    rng: np.random.Generator, batch: int, length: Length, symbols: int
) -> tuple[Array, Array]:
    """Return strings of the ids 1…``symbols``, (B, T), padded with 0, and their lengths (B,)."""
    n = random_lengths(rng, batch, length)
    strings = rng.integers(1, symbols + 1, (batch, n.max()))
    return np.where(np.arange(n.max()) < n[:, None], strings, PAD), n


def ended(strings: Array, n: Array, mark: Array | int) -> tuple[Array, Array]:
    """Return strings (B, T + 1) with a mark at their ends, and their lengths with it (B,)."""
    strings = np.pad(strings, ((0, 0), (0, 1)))
    strings[np.arange(len(n)), n] = mark
    return strings, n + 1


def gather(array: Array, at: Array) -> Array:
    """Return the entries of each row (B, T) at positions (B, N), which are clipped to the row."""
    return np.take_along_axis(array, np.clip(at, 0, array.shape[1] - 1), 1)


def answered(strings: Array, n: Array, answers: Array, m: Array | int = 1) -> Batch:
    """Return the batch that asks for an answer after each string.

    The layout is that of the official repository: string and answer are one sequence, the answer
    is hidden from the input by padding, and the targets are shifted by one. The first symbol of
    the answer is thus predicted at the last symbol of the string.

    Strings are padded, (B, T), and n are their lengths, (B,). Answers are (B, A), with lengths m,
    (B,); or (B,), if each is one symbol.
    """
    answers = answers.reshape(len(answers), -1)
    inputs = np.full((len(n), int((n + m).max()) - 1), PAD)
    inputs[:, : strings.shape[1]] = strings
    at = np.arange(inputs.shape[1]) - (n - 1)[:, None]
    mask = (at >= 0) & (at < np.reshape(m, (-1, 1)))
    return Batch(inputs, np.where(mask, gather(answers, at), PAD), mask)
