"""Measure trained models on rows that random strings hardly ever are.

``python -m docs.figures.hard_rows RUNS``: RUNS has a folder for each trial, such as
``parity-slstm-951327``. The accuracies are added to ``docs/hard-rows.jsonl``, which has a line for
each trial; the figure and the table of the page are made from it. Needs the extra ``cli``.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from docs.figures.plots import FIRST, SECOND, STYLE, save
from numpy_xlstm import from_pretrained
from numpy_xlstm.experiments.catalogue import EXPERIMENTS
from numpy_xlstm.experiments.small_models import TASK_MODELS
from numpy_xlstm.experiments.tasks.layout import answered
from numpy_xlstm.experiments.trials import measure
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import Batch

TABLE = Path(__file__).parents[1] / "hard-rows.jsonl"
ZEROS = 0, 5, 10, 15, 20, 30, 50, 70, 100, 150, 200
LENGTHS = 40, 80, 160, 256
ROWS = 256


class Changed:
    """A generator whose matrices of random integers are changed by a function."""

    def __init__(self, rng: np.random.Generator, change: Callable[..., Array]) -> None:
        self.rng, self.change = rng, change

    def integers(self, low: Any, *others: Any) -> Array:
        """Return random integers from ``low`` on; a matrix is changed, a vector is not."""
        drawn = np.asarray(self.rng.integers(low, *others))
        return drawn if drawn.ndim < 2 else self.change(self.rng, drawn, low)


def skewed(rng: np.random.Generator, drawn: Array, low: int) -> Array:
    """Return strings in which nine of ten symbols are the first one."""
    return np.where(rng.random(drawn.shape) < 0.9, drawn[:, :1], drawn)


def still(rng: np.random.Generator, drawn: Array, low: int) -> Array:
    """Return strings that end with symbols that change nothing: after 20 random ones, the least."""
    return np.where(np.arange(drawn.shape[1]) < 20, drawn, low)


def two_symbols(rng: np.random.Generator, drawn: Array, low: int) -> Array:
    """Return strings of two symbols, each at half of the places."""
    return np.where(rng.random(drawn.shape) < 0.5, drawn[:, :1], drawn[:, 1:2])


KINDS = {"skewed": skewed, "still": still, "two symbols": two_symbols}
BLIND = {
    "parity": {"skewed": 0.02},
    "even-pairs": {"skewed": 0.90},
    "cycle-navigation": {"skewed": 0.00, "still": 0.00},
    "modular-arithmetic": {"skewed": 0.09, "still": 0.00},
    "bucket-sort": {"skewed": 0.90, "two symbols": 0.50},
    "missing-duplicate": {"skewed": 0.90},
}
"""Kinds of hard rows for each task, and the scores of the best blind answers there."""


def hard(name: str, kind: str) -> Callable[..., Batch]:
    """Return a task with hard rows of a kind."""
    sample, change = EXPERIMENTS[name].sample, KINDS[kind]
    return lambda rng, batch, length: sample(Changed(rng, change), batch, length)


def then_zeros(zeros: int) -> Callable[..., Batch]:
    """Return the parity of 40 random bits, of which the last is a one, asked after some zeros."""

    def sample(rng: np.random.Generator, batch: int, length: tuple[int, int]) -> Batch:
        bits = rng.integers(1, 3, (batch, length[0]))
        bits[:, -1] = 2
        strings = np.pad(bits, ((0, 0), (0, zeros)), constant_values=1)
        return answered(strings, np.full(batch, length[0] + zeros), 1 + (bits == 2).sum(1) % 2)

    return sample


def accuracies(name: str, model: Any) -> dict[str, Any]:
    """Return the rescaled accuracies of a model on random and hard rows, and after zeros."""
    task = name.removesuffix("-own-shares")
    experiment = EXPERIMENTS[task]
    state: Any = SimpleNamespace(model=model)

    def accuracy(sample: Callable[..., Batch], length: int) -> float:
        changed = experiment._replace(sample=sample)
        return round(1 - measure(changed, state, (length, length), 1_000_000_004, ROWS), 4)

    kinds = {"random": experiment.sample} | {kind: hard(task, kind) for kind in BLIND[task]}
    results: dict[str, Any] = {
        kind: [accuracy(sample, length) for length in LENGTHS] for kind, sample in kinds.items()
    }
    if experiment is EXPERIMENTS["parity"]:
        results["zeros"] = [accuracy(then_zeros(zeros), 40) for zeros in ZEROS]
    return results


def measured() -> list[dict[str, Any]]:
    """Return the committed results."""
    return [json.loads(line) for line in TABLE.read_text("utf-8").splitlines()]


def add(runs: Path) -> None:
    """Measure the models in a folder. They take the place of earlier ones."""
    table = {(trial["name"], trial["model"], trial["seed"]): trial for trial in measured()}
    for folder in runs.iterdir():
        name, kind, seed = folder.name.rsplit("-", 2)
        model = from_pretrained(folder / "checkpoint.safetensors")
        facts = {"name": name, "model": kind, "seed": int(seed)}
        table[name, kind, int(seed)] = facts | accuracies(name, model)
    names, models = list(EXPERIMENTS), list(TASK_MODELS)
    order = sorted(table, key=lambda key: (names.index(key[0]), models.index(key[1]), key[2]))
    TABLE.write_text("".join(f"{json.dumps(table[key])}\n" for key in order), "utf-8")


def table() -> str:
    """Return a table of the accuracies on the longest rows, least to most of all seeds."""
    trials: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for trial in measured():
        trials.setdefault((trial["name"], trial["model"]), []).append(trial)

    def spread(group: list[dict[str, Any]], kind: str) -> str:
        scores = [trial[kind][-1] for trial in group]
        return " to ".join(dict.fromkeys(f"{x:z.2f}" for x in (min(scores), max(scores))))

    kinds = "random", *KINDS
    lines = [f"| trained on | model | {' | '.join(kinds)} |", "|---|---|--:|--:|--:|--:|"]
    for (name, model), group in trials.items():
        cells = [spread(group, kind) if kind in group[0] else "" for kind in kinds]
        lines.append(f"| `{name}` | `{model}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw() -> None:
    """The accuracy of parity against the zeros after the last one."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        panes = figure.subplots(1, 2, sharey=True)
        for axes, name in zip(panes, ("parity", "parity-own-shares"), strict=True):
            for model, colour in (("slstm", FIRST), ("lstm", SECOND)):
                axes.plot([], color=colour, label=model.replace("lstm", "LSTM"))
                for result in measured():
                    if (result["name"], result["model"]) == (name, model):
                        axes.plot(ZEROS, result["zeros"], "o-", color=colour, markersize=3)
            axes.set(title=f"trained on {name}", xlabel="zeros after the last one")
        panes[0].set_ylabel("rescaled accuracy")
        panes[0].legend()
        save(figure, "parity-zeros.svg")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        add(Path(sys.argv[1]))
    draw()
