"""Cutting a sequence of ids into batches: at random to learn from, in order to validate on."""

from collections.abc import Iterator

import numpy as np

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.training import Batch

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
    batch_size : int
        Number B of windows in a batch.
    window : int
        Number T of ids in a window; the targets are the T ids one further on.
    rng : np.random.Generator
        Draws the starts.

    Raises
    ------
    ShapeError
        If the sequence is shorter than one window and its targets.

    Examples
    --------
    >>> batch = next(random_windows(np.arange(100), 2, 5, np.random.default_rng(0)))
    >>> batch.inputs.shape, (batch.targets == batch.inputs + 1).all()
    ((2, 5), np.True_)
    """
    if len(ids) < window + 1:
        raise ShapeError(f"ids: expected at least {window + 1}, a window and one; got {len(ids)}")
    offsets = np.arange(window + 1)
    while True:
        starts = rng.integers(0, len(ids) - window, size=(batch_size, 1))
        windows = ids[starts + offsets]
        yield Batch(windows[:, :-1], windows[:, 1:])


def parallel_rows(ids: IndexArray, rows: int) -> Batch:
    """Lay a sequence out in rows of contiguous text, to be read side by side.

    Every id but the first of each row is a target exactly once. Rows differ in length by one at
    most; the shorter ones end with the target −1, for nothing.

    Parameters
    ----------
    ids : np.ndarray
        The sequence, shape (N,), with N ≥ 2.
    rows : int
        Number B of rows; fewer if a row would have no target.

    Raises
    ------
    ShapeError
        If there is nothing to predict.

    Examples
    --------
    >>> parallel_rows(np.arange(7), 2)
    Batch(inputs=array([[0, 1, 2],
           [4, 5, 6]]), targets=array([[ 1,  2,  3],
           [ 5,  6, -1]]))
    """
    if len(ids) < 2:
        raise ShapeError(f"ids: expected at least 2, one to predict the other; got {len(ids)}")
    rows = min(rows, len(ids) // 2)
    length, longer = divmod(len(ids), rows)
    lengths = length + (np.arange(rows) < longer)
    starts = np.cumsum(lengths) - lengths
    columns = np.arange(lengths.max())
    laid = ids[np.minimum(starts[:, None] + columns, len(ids) - 1)]
    exists = columns < lengths[:, None]
    return Batch(laid[:, :-1], np.where(exists, laid, NOTHING)[:, 1:])
