"""The error of answers that do not depend on the symbols of a row."""

import numpy as np

from numpy_xlstm.experiments.catalogue import Experiment
from numpy_xlstm.experiments.tasks.layout import Length

SEED = 1_000_000_003
"""Seed of the rows on which the rules are chosen and measured."""


def blind(experiment: Experiment, length: Length, rows: int = 8192) -> float:
    """Return the error of the best blind answer, in the unit of ``measure``.

    A blind answer knows the length of the row and the place in it: it is the most frequent id, or
    the mean of the values. For bits per byte, it is the frequencies of the bytes. If the input of
    one place, the same in all rows, is right more often than the most frequent id, it is that one.
    The rules are chosen on some rows and measured on as many others.
    """
    task, rng = experiment.held_out or experiment.sample, np.random.default_rng(SEED)
    batches = task(rng, rows, length), task(rng, rows, length)
    masks = [np.ones(b.targets.shape, bool) if b.mask is None else b.mask for b in batches]
    answers, targets = (b.targets[mask] for b, mask in zip(batches, masks, strict=True))
    keys = [(m.argmax(1)[:, None] * 2**20 + np.arange(m.shape[1]))[m] for m in masks]
    number = np.unique(np.concatenate(keys), return_inverse=True)[1]
    known, asked = np.split(number, [len(answers)])
    if experiment.metric == "squared error":
        count, total = (np.bincount(known, w, number.max() + 1) for w in (None, answers))
        return float(np.mean(((total / np.maximum(count, 1))[asked] - targets) ** 2))
    classes = experiment.vocabulary or 0
    if experiment.metric == "bits per byte":
        count = 1 + np.bincount(answers, minlength=classes)
        return float(-np.mean(np.log2(count / count.sum())[targets]))
    count = np.bincount(known * classes + answers, minlength=(number.max() + 1) * classes)
    right = np.mean(count.reshape(-1, classes).argmax(1)[asked] == targets)

    def named(half: int, place: int) -> float:
        batch, mask = batches[half], masks[half]
        return float(np.mean((batch.inputs[:, [place]] == batch.targets)[mask]))

    string = range(1 + min(mask.argmax(1).min() for mask in masks))
    right = max(right, named(1, max(string, key=lambda place: named(0, place))))
    return float((1 - right) / (1 - experiment.chance))
