"""The error of answers that do not depend on the symbols of a row."""

import numpy as np

from numpy_xlstm.experiments.catalogue import Experiment
from numpy_xlstm.experiments.tasks.layout import Length


def blind(experiment: Experiment, length: Length, rows: int = 8192) -> float:
    """Return the error of the best blind answer, in the unit of ``measure``.

    For ids, the better of the most frequent answer for a length and a place, and the input of one
    place, the same in all rows; for values, their mean; for bits per byte, the frequencies. It is
    chosen on some rows and measured on as many others.
    """
    task = experiment.held_out or experiment.sample
    rng = np.random.default_rng(1_000_000_003)  # a seed that no training can have
    batches, classes = [task(rng, rows, length) for _ in range(2)], experiment.vocabulary or 0
    if experiment.metric == "bits per byte":
        count = 1 + np.bincount(batches[0].targets.ravel(), minlength=classes)
        return float(-np.mean(np.log2(count / count.sum())[batches[1].targets]))
    masks = [np.asarray(batch.mask) for batch in batches]
    answers, targets = (b.targets[mask] for b, mask in zip(batches, masks, strict=True))
    keys = [(m.argmax(1)[:, None] * 2**20 + np.arange(m.shape[1]))[m] for m in masks]
    number = np.unique(np.concatenate(keys), return_inverse=True)[1]
    known, asked = np.split(number, [len(answers)])
    if experiment.metric == "squared error":
        count, total = (np.bincount(known, w, number.max() + 1) for w in (None, answers))
        return float(np.mean(((total / np.maximum(count, 1))[asked] - targets) ** 2))
    count = np.bincount(known * classes + answers, minlength=(number.max() + 1) * classes)
    right = np.mean(count.reshape(-1, classes).argmax(1)[asked] == targets)
    string = range(1 + min(mask.argmax(1).min() for mask in masks))
    chosen, measured = (
        [np.mean((b.inputs[:, [place]] == b.targets)[mask]) for place in string]
        for b, mask in zip(batches, masks, strict=True)
    )
    right = max(right, measured[int(np.argmax(chosen))])
    return float((1 - right) / (1 - experiment.chance))
