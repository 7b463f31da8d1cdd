"""The error of answers that do not depend on the symbols of a row."""

import numpy as np

from numpy_xlstm.experiments.catalogue import Experiment
from numpy_xlstm.experiments.tasks.layout import Length
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Batch


def blind(experiment: Experiment, length: Length, rows: int = 8192) -> float:
    """Return the error of the best blind answer, in the unit of ``measure``.

    It is chosen on some rows and measured on as many others.
    """
    task = experiment.held_out or experiment.sample
    rng = np.random.default_rng(1_000_000_003)  # a seed that no training can have
    chosen, measured = task(rng, rows, length), task(rng, rows, length)
    if experiment.metric == "bits per byte":
        return bits_of_frequencies(chosen, measured, experiment.vocabulary or 0)
    if experiment.metric == "squared error":
        return error_of_means(chosen, measured)
    right = accuracy_of_answers(chosen, measured, experiment.vocabulary or 0)
    return float((1 - right) / (1 - experiment.chance))


def bits_of_frequencies(chosen: Batch, measured: Batch, classes: int) -> float:
    """Return the bits per byte of the frequencies of the bytes."""
    count = 1 + np.bincount(chosen.targets.ravel(), minlength=classes)
    return float(-np.mean(np.log2(count / count.sum())[measured.targets]))


def error_of_means(chosen: Batch, measured: Batch) -> float:
    """Return the squared error of the mean value for each length and place."""
    known, asked, number = _places(chosen, measured)
    values, targets = chosen.targets[chosen.mask], measured.targets[measured.mask]
    total, count = np.bincount(known, values, number), np.bincount(known, minlength=number)
    return float(np.mean(((total / np.maximum(count, 1))[asked] - targets) ** 2))


def accuracy_of_answers(chosen: Batch, measured: Batch, classes: int) -> float:
    """Return the accuracy of the better of two blind answers.

    They are the most frequent id for a length and a place, and the input of one place of the row.
    """
    known, asked, number = _places(chosen, measured)
    ids, targets = chosen.targets[chosen.mask], measured.targets[measured.mask]
    count = np.bincount(known * classes + ids, minlength=number * classes).reshape(-1, classes)
    frequent = np.mean(count.argmax(axis=1)[asked] == targets)
    masks = [np.asarray(batch.mask) for batch in (chosen, measured)]
    places = range(1 + min(mask.argmax(axis=1).min() for mask in masks))
    copied, measured_copied = (
        [np.mean((batch.inputs[:, [place]] == batch.targets)[mask]) for place in places]
        for batch, mask in zip((chosen, measured), masks, strict=True)
    )
    return float(max(frequent, measured_copied[int(np.argmax(copied))]))


def _places(chosen: Batch, measured: Batch) -> tuple[Array, Array, int]:
    """Number the pairs of a row's first supervised step and a supervised step.

    Return the number of the pair of each target in both batches, and how many there are.
    """
    first, second = (
        (mask.argmax(axis=1)[:, None] * 2**20 + np.arange(mask.shape[1]))[mask]
        for mask in (np.asarray(batch.mask) for batch in (chosen, measured))
    )
    pairs, numbers = np.unique(np.concatenate([first, second]), return_inverse=True)
    return numbers[: len(first)], numbers[len(first) :], len(pairs)
