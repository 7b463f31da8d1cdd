"""Tasks that need memory: associative recall and nearest-neighbour search."""

import numpy as np

from numpy_xlstm.experiments.tasks.layout import Length, gather, random_lengths
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Batch

POWER = 0.01
"""Number a in the distribution of gaps, p(g) ∝ g^(a − 1)."""


def recall(
    rng: np.random.Generator,
    batch: int,
    length: Length,
    *,
    context: int | None = None,
    vocabulary: int = 64,
) -> Batch:
    """Ask for the values of keys: multi-query associative recall.

    K key-value pairs take the first 2K steps; the length is K, at most ``context / 4``. After them,
    each key occurs once more, and its value is the target of the same step. The other inputs are
    random values. There are ``context`` steps, by default 16 times the largest K. Of V =
    ``vocabulary`` ids, the keys are those from 1 to V/2 − 1, and the values from V/2 to V − 1.
    """
    context = 16 * length[1] if context is None else context
    pairs = random_lengths(rng, batch, length)
    most = pairs.max()
    keys = 1 + _distinct(rng, batch, most, vocabulary // 2 - 1)
    values = vocabulary // 2 + _distinct(rng, batch, most, vocabulary - vocabulary // 2)
    inputs = rng.integers(vocabulary // 2, vocabulary, (batch, context))
    steps, row = np.arange(context), np.arange(batch)[:, None]
    pair = np.stack((keys, values), 2).reshape(batch, -1)
    inputs = np.where(steps < 2 * pairs[:, None], gather(pair, steps[None]), inputs)

    # Each key gets a different gap. The K gaps with the largest log p + Gumbel noise are K draws
    # without replacement.
    gaps = 1 + np.arange((context - 2 * pairs.min()) // 2)
    score = (POWER - 1) * np.log(gaps) + rng.gumbel(size=(batch, len(gaps)))
    score[gaps > ((context - 2 * pairs) // 2)[:, None]] = -np.inf
    gap = np.argsort(-score, 1)[:, :most]
    asked = np.arange(most) < pairs[:, None]
    at = (row.repeat(most, 1)[asked], (2 * pairs[:, None] + 2 * gap)[asked])
    inputs[at] = keys[asked]
    targets, mask = np.zeros_like(inputs), np.zeros(inputs.shape, bool)
    targets[at] = values[asked]
    mask[at] = True
    return Batch(inputs, targets, mask)


def _distinct(rng: np.random.Generator, batch: int, count: int, below: int) -> Array:
    """Return ``count`` different random integers from 0 to ``below − 1`` in each row."""
    return np.argsort(rng.random((batch, below)), 1)[:, :count]


def nearest_neighbour(rng: np.random.Generator, batch: int, length: Length) -> Batch:
    """Ask at each step for the value of the point that is most similar to the first one.

    Inputs (B, T, 3) are a point on the unit circle and its value, uniform in [0, 1); the first
    point has the value 0. Targets (B, T) are the values of the nearest points so far, from the
    second step on. The length is the number of points after the first one.
    """
    n = random_lengths(rng, batch, length)
    steps = np.arange(1 + n.max())
    angle = rng.uniform(0, 2 * np.pi, (batch, len(steps)))
    value = rng.random(angle.shape) * (steps > 0)
    distance = np.where(steps > 0, np.abs(np.sin((angle - angle[:, :1]) / 2)), np.inf)
    nearer = distance == np.minimum.accumulate(distance, 1)
    nearest = np.maximum.accumulate(np.where(nearer, steps, 0), 1)
    live = steps <= n[:, None]
    inputs = np.stack((np.cos(angle), np.sin(angle), value), 2) * live[:, :, None]
    mask = live & (steps > 0)
    return Batch(inputs, np.where(mask, gather(value, nearest), 0.0), mask)
