"""Cutting a sequence of ids into batches: at random or in order."""

from collections.abc import Iterator
from itertools import count

import numpy as np

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.layers.indices import IndexArray, check_sequence
from numpy_xlstm.numerics import check_generator, check_positive, check_whole
from numpy_xlstm.training.step import Batch

NOTHING = -1
"""The target where there is nothing to predict."""


def random_windows(
    ids: IndexArray, batch_size: int, window: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Yield batches of windows, every start equally likely, without end.

    Parameters
    ----------
    ids : np.ndarray
        The sequence, shape (N,), with N > ``window``.
    batch_size, window : int
        Number B of windows in a batch, and T of ids in each; the targets are one further on.
    rng : np.random.Generator
        Draws the starts, at each batch; nothing else decides what comes next.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        If the sequence is shorter than a window and one, or an argument is not as described.

    Examples
    --------
    >>> batch = next(random_windows(np.arange(100), 2, 5, np.random.default_rng(0)))
    >>> batch.inputs.shape, (batch.targets == batch.inputs + 1).all()
    ((2, 5), np.True_)
    """
    _check(ids, batch_size, window)
    check_generator("rng", rng, required=True)
    if len(ids) < window + 1:
        raise ShapeError(f"ids: expected at least {window + 1}, a window and one; got {len(ids)}")

    def batches() -> Iterator[Batch]:
        while True:
            starts = rng.integers(0, len(ids) - window, size=(batch_size, 1))
            windows = ids[starts + np.arange(window + 1)]
            yield Batch(windows[:, :-1], windows[:, 1:])

    return batches()


def consecutive_windows(
    ids: IndexArray, batch_size: int, window: int, start: int = 0
) -> Iterator[Batch]:
    """Yield batches of windows each of which goes on where the one before ended, without end.

    The sequence is laid out in B contiguous rows, and the windows go along all of them at once.
    The first of them is ``fresh``, and so is the one after the last, when the rows begin anew.

    Parameters
    ----------
    ids : np.ndarray
        The sequence, shape (N,); up to B − 1 of its last ids are left out, for rows of one length.
    batch_size, window : int
        Number B of rows, and T of ids in a window, or a little less, so that they fill a row.
    start : int
        How many windows to leave out at the beginning.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        If a row would have nothing to predict, or an argument is not as described.

    Examples
    --------
    >>> windows = consecutive_windows(np.arange(11), 2, 3)
    >>> for _ in range(3):
    ...     inputs, targets, _, fresh = next(windows)
    ...     print(inputs.tolist(), targets.tolist(), fresh)
    [[0, 1], [5, 6]] [[1, 2], [6, 7]] True
    [[2, 3, 4], [7, 8, 9]] [[3, 4, 5], [8, 9, 10]] False
    [[0, 1], [5, 6]] [[1, 2], [6, 7]] True
    """
    _check(ids, batch_size, window)
    check_whole("start", start)
    length = (len(ids) - 1) // batch_size
    if length < 1:
        raise ShapeError(
            f"ids: expected at least {batch_size + 1}, one for each row and one; got {len(ids)}"
        )
    windows = -(-length // window)
    starts = length * np.arange(batch_size)[:, None]

    def batches() -> Iterator[Batch]:
        for index in count(start):
            part = index % windows
            first, last = length * part // windows, length * (part + 1) // windows
            laid = ids[starts + np.arange(first, last + 1)]
            yield Batch(laid[:, :-1], laid[:, 1:], fresh=part == 0)

    return batches()


def _check(ids: IndexArray, batch_size: int, window: int) -> None:
    check_sequence("ids", ids)
    check_positive("batch_size", batch_size)
    check_positive("window", window)


def parallel_rows(ids: IndexArray, rows: int) -> tuple[IndexArray, IndexArray]:
    """Lay a sequence out in rows of contiguous text, to be read side by side.

    Every id but the first of each row is a target exactly once. Rows differ in length by one at
    most; the shorter ones end with the target −1, for nothing.

    Parameters
    ----------
    ids : np.ndarray
        The sequence, shape (N,), with N ≥ 2.
    rows : int
        Number B of rows; fewer if a row would have no target.

    Returns
    -------
    inputs, targets : np.ndarray
        Shape (B, T).

    Raises
    ------
    ShapeError, DTypeError, OptionError
        If there is nothing to predict, or an argument is not as described.

    Examples
    --------
    >>> inputs, targets = parallel_rows(np.arange(7), 2)
    >>> inputs.tolist(), targets.tolist()
    ([[0, 1, 2], [4, 5, 6]], [[1, 2, 3], [5, 6, -1]])
    """
    check_sequence("ids", ids)
    check_positive("rows", rows)
    if len(ids) < 2:
        raise ShapeError(f"ids: expected at least 2, one to predict the other; got {len(ids)}")
    rows = min(rows, len(ids) // 2)
    length, longer = divmod(len(ids), rows)
    lengths = length + (np.arange(rows) < longer)
    starts = np.cumsum(lengths) - lengths
    columns = np.arange(lengths.max())
    laid = ids[np.minimum(starts[:, None] + columns, len(ids) - 1)].astype(np.int64)
    exists = columns < lengths[:, None]
    return laid[:, :-1], np.where(exists, laid, NOTHING)[:, 1:]
