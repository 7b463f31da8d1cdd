"""Formal languages: the answer is a function of a random string.

Symbols have the ids from 1 on, then come the marks. All functions have the parameters of
``Experiment.sample`` in the catalogue.
"""

import numpy as np

from numpy_xlstm.experiments.tasks.layout import (
    PAD,
    Length,
    answered,
    ended,
    gather,
    random_lengths,
    random_strings,
)
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Batch


def parity(
    rng: np.random.Generator, batch: int, length: Length, *, own_shares: bool = False
) -> Batch:
    """Ask for the parity of bits 1 and 2: 1 if the number of 2s is even, else 2.

    With ``own_shares``, each row has its own share of 2s, uniform from 0 to 1.
    """
    if own_shares:
        n, share = random_lengths(rng, batch, length), rng.random((batch, 1))
        bits = 1 + (rng.random((batch, n.max())) < share)
        bits = np.where(np.arange(n.max()) < n[:, None], bits, PAD)
    else:
        bits, n = random_strings(rng, batch, length, 2)
    return answered(bits, n, 1 + (bits == 2).sum(1) % 2)


def even_pairs(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask whether the bits change an even number of times (1) or an odd one (2)."""
    bits, n = random_strings(rng, batch, length, 2)
    changes = (bits[:, 1:] != bits[:, :-1]) & (bits[:, 1:] != PAD)
    return answered(bits, n, 1 + changes.sum(1) % 2)


def cycle_navigation(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the place on a cycle of five (4…8) after the moves 1: stay, 2: +1 and 3: −1."""
    moves, n = random_strings(rng, batch, length, 3)
    return answered(moves, n, 4 + np.array([0, 0, 1, -1])[moves].sum(1) % 5)


def majority(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the most frequent of 63 symbols.

    If several are, one of them is the answer, and takes the place of another symbol in the string.
    """
    strings, n = random_strings(rng, batch, length, 63)
    counts, row = _counts(strings), np.arange(batch)
    answers = strings[row, (counts + rng.random(counts.shape)).argmax(1)]
    other = (strings != answers[:, None]) & (strings != PAD)
    place = (other * (1 + rng.random(other.shape))).argmax(1)
    tied = (other & (counts == counts.max(1, keepdims=True))).any(1)
    strings[row[tied], place[tied]] = answers[tied]
    return answered(strings, n, answers)


def majority_count(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask how often the most frequent of 63 symbols occurs, at most 63."""
    strings, n = random_strings(rng, batch, length, 63)
    return answered(strings, n, np.minimum(_counts(strings).max(1), 63))


def _counts(strings: Array) -> Array:
    """Return how often each symbol of each string occurs in it, (B, T), and 0 at the padding."""
    table = np.zeros((len(strings), strings.max() + 1), int)
    row = np.arange(len(strings))[:, None]
    np.add.at(table, (row, strings), 1)
    return np.where(strings == PAD, 0, table[row, strings])


def bucket_sort(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the symbols of the string, of ten kinds, in ascending order."""
    strings, n = random_strings(rng, batch, length, 10)
    return answered(strings, n, np.sort(np.where(strings == PAD, 11, strings), 1), n)


def missing_duplicate(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the symbol that a mark (10) replaces in the repetition of a string of 1…9."""
    strings, n = random_strings(rng, batch, length, 9)
    steps, row = np.arange(2 * strings.shape[1]), np.arange(batch)
    twice = np.where(steps < 2 * n[:, None], gather(strings, steps % n[:, None]), PAD)
    missing = n + rng.integers(0, n)
    answers = twice[row, missing]
    twice[row, missing] = 10
    return answered(twice, 2 * n, answers)


def repetition(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the string again, after a mark (11)."""
    strings, n = random_strings(rng, batch, length, 10)
    return answered(*ended(strings, n, 11), strings, n)


def reverse_string(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the string from its end to its start, after a mark (11)."""
    strings, n = random_strings(rng, batch, length, 10)
    back = n[:, None] - 1 - np.arange(strings.shape[1])
    return answered(*ended(strings, n, 11), gather(strings, back), n)


def odds_first(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the first, third, … symbol and then the second, fourth, …, after a mark (11)."""
    strings, n = random_strings(rng, batch, length, 10)
    steps, odds = np.arange(strings.shape[1]), (n[:, None] + 1) // 2
    order = np.where(steps < odds, 2 * steps, 2 * (steps - odds) + 1)
    return answered(*ended(strings, n, 11), gather(strings, order), n)


def ordered_set(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for the different symbols 1…126 in the order in which they first occur (mark 127)."""
    strings, n = random_strings(rng, batch, length, 126)
    steps, row = np.arange(strings.shape[1]), np.arange(batch)[:, None]
    first = np.full((batch, 127), len(steps))
    np.minimum.at(first, (row, strings), steps)
    new = (first[row, strings] == steps) & (strings != PAD)
    order = np.argsort(~new, axis=1, stable=True)
    return answered(*ended(strings, n, 127), gather(strings, order), new.sum(1))


def stack_manipulation(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask for a stack after some operations, from bottom to top, or one padding if it is empty.

    The stack of 1…4 comes first, then 5…8, which push 1…4, and 9, which pops; then a mark (10).
    """
    strings, n = random_strings(rng, batch, length, 4)
    steps = np.arange(strings.shape[1])
    held = rng.integers(1, np.maximum(n, 2))[:, None]
    operations = np.where(strings == PAD, PAD, rng.integers(5, 10, strings.shape))
    strings = np.where(steps < held, strings, operations)
    stack, depth = np.zeros_like(strings), np.zeros_like(n)
    for symbol in strings.T:
        push = (symbol != PAD) & (symbol != 9)
        stack[push, depth[push]] = 1 + (symbol[push] - 1) % 4
        depth = np.maximum(depth + push - (symbol == 9), 0)
    stack = np.where(steps < depth[:, None], stack, PAD)
    return answered(*ended(strings, n, 10), stack, np.maximum(depth, 1))
