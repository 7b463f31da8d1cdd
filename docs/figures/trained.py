"""Draw the figures of the experiments from results and from trained models."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from docs.figures.experiments import Results
from docs.figures.plots import (
    BLUE,
    BROWN,
    FIRST,
    FOURTH,
    INK,
    SECOND,
    STYLE,
    THIRD,
    WHITE,
    capacity,
    log_weights,
    save,
    shades,
)
from numpy_xlstm import from_pretrained
from numpy_xlstm.experiments.catalogue import EXPERIMENTS
from numpy_xlstm.experiments.trials import score
from numpy_xlstm.numerics import Array, log_sigmoid

CURVES = {"sLSTM": FIRST, "LSTM": SECOND, "mLSTM": THIRD, "GRU": FOURTH}
"""Models whose learning curves are drawn, and their colours."""


def model_of(trial: Path) -> Any:
    """Return the model of a trial in float64."""
    return from_pretrained(trial / "checkpoint.safetensors").astype(np.float64)


def states(model: Any, inputs: Array) -> list[Any]:
    """Return the state of a model after each step of one sequence."""
    found, state = [], None
    for t in range(inputs.shape[1]):
        _, state = model(inputs[:, t : t + 1], state)
        found.append(state)
    return found


def following(memory: Array, target: Array, count: int) -> Array:
    """Return the units of a memory (T, H) that correlate most with a target (T,), best first."""
    moved = memory - memory.mean(axis=0)
    shared = np.abs(moved.T @ (target - target.mean())) / (moved.std(axis=0) + 1e-9)
    return np.argsort(-shared)[:count]


def reads(model: Any, tokens: Array) -> list[tuple[Array, Array, Array]]:
    """Return, for each mLSTM block, how much of the value of step j is read at step t, and gates.

    The weights are those of the parallel form, (T, T); the gates are ĩ and log f, (T,).
    """
    x, found = model.embedding(tokens), []
    for block in model.body.blocks:
        layer, state = block.layer, block.init_state(1)
        (inner, _), _ = layer.up.compute(block.norm(x))
        a = layer.conv1d.forward(inner, state.conv)[0]
        a = a / (1 + np.exp(-a))
        q, k, v = layer.q_proj(a)[0], layer.k_proj(a)[0], layer.v_proj(inner)[0]
        (i, f), _ = layer.gates.compute(np.concatenate((q, k, v), axis=-1)[None])
        i, log_f = i[0, :, 0], log_sigmoid(f[0, :, 0])
        D = log_weights(i, log_f)
        m = D.max(axis=1, keepdims=True)
        P = q @ k.T / np.sqrt(k.shape[-1]) * np.exp(D - m)
        found.append((P / np.maximum(np.abs(P.sum(axis=1, keepdims=True)), np.exp(-m)), i, log_f))
        x, _ = block(x)
    return found


def parity(runs: Path) -> None:
    """The parity of the bits so far in the state of an sLSTM."""
    model, rng = model_of(runs / "parity-slstm-0"), np.random.default_rng(1)
    bits = rng.integers(1, 3, (1, 1000))
    answer = np.cumsum(bits[0] == 2) % 2
    h = np.array([np.concatenate([b.slstm.h[0] for b in s]) for s in states(model, bits)])
    window, later = slice(16, 64), slice(64, None)
    inputs = np.column_stack((h, np.ones(len(h))))
    direction = np.linalg.lstsq(inputs[later], answer[later], rcond=None)[0]
    units = following(h[later], answer[later], 10)
    moved = h[:, units] - h[later, units].mean(axis=0)
    shown = moved * np.sign(moved[later].T @ (answer[later] - 0.5))
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    steps = np.arange(48) + 0.5
    above.step(steps, answer[window], where="mid", color=INK, label="parity of the bits so far")
    above.plot(steps, (inputs @ direction)[window], "o", color=FIRST, label="fitted to h")
    above.set(yticks=[0, 1], yticklabels=["even", "odd"], ylim=(-0.5, 1.5))
    above.legend(loc="upper center", bbox_to_anchor=(0.5, 1.4), ncols=2)
    largest = np.abs(shown[window]).max(axis=0)
    colours = shades(BLUE, WHITE, BROWN)
    mesh = below.pcolormesh((shown[window] / largest).T, cmap=colours, vmin=-1, vmax=1)
    below.set(ylabel="unit of h", yticks=[], xlabel="bit")
    below.set_xticks(steps, [str(bit - 1) for bit in bits[0, window]])
    below.tick_params(axis="x", length=0, labelcolor=INK)
    for axes in (above, below):
        axes.grid(visible=False)
    figure.colorbar(mesh, ax=below, pad=0.01)
    save(figure, "parity-state.svg")


def recall(runs: Path) -> None:
    """The weights with which an mLSTM reads the step that it is asked for, and its gates."""
    sample = EXPERIMENTS["recall-64-4"].sample
    batch = sample(np.random.default_rng(3), 1, (4, 4))
    assert batch.mask is not None
    asked = np.flatnonzero(batch.mask[0])
    keys = np.array([np.flatnonzero(batch.inputs[0, :8:2] == batch.inputs[0, t])[0] for t in asked])
    blocks = reads(model_of(runs / "recall-64-4-mlstm-0"), batch.inputs)
    weights, i, log_f = max(blocks, key=lambda found: np.abs(found[0][asked, 2 * keys + 1]).sum())
    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    shown = weights[asked]
    most = np.abs(shown).max()
    mesh = above.pcolormesh(shown, cmap=shades(BLUE, WHITE, BROWN), vmin=-most, vmax=most)
    above.set_yticks(np.arange(4) + 0.5, [f"key {key + 1}" for key in keys])
    above.grid(visible=False)
    above.set(ylabel="query for", title="weight with which each step is read")
    for step in range(1, 8, 2):
        above.text(step + 0.5, -0.25, f"{step // 2 + 1}", ha="center", color=INK)
    figure.colorbar(mesh, ax=above, pad=0.01)
    steps = np.arange(len(i)) + 0.5
    below.plot(steps, i, color=SECOND, label="input gate, ĩ")
    below.plot(steps, log_f, color=FIRST, label="forget gate, log f")
    below.set(xlabel="step")
    below.legend()
    save(figure, "recall-reads.svg")


def nearest(runs: Path) -> None:
    """The values that an LSTM and an sLSTM store and read."""
    sample = EXPERIMENTS["nearest-neighbour"].sample
    batch = sample(np.random.default_rng(4), 1, (63, 63))
    target, figure = batch.targets[0, 1:], Figure(figsize=(10, 4.5), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("lstm", "slstm"), strict=True):
        model = model_of(runs / f"nearest-neighbour-{kind}-0")
        y = model(batch.inputs)[0][0, 1:, 0]
        axes.step(np.arange(1, 64), target, where="mid", color=INK, label="value to be stored")
        axes.plot(np.arange(1, 64), y, color=FIRST, label="value that is read")
        axes.set(xlabel="point", title=kind.replace("lstm", "LSTM"))
    axes.legend()
    save(figure, "nearest-neighbour.svg")


def draw(runs: Path) -> None:
    """Draw the figures of trained models from the folder of all trials."""
    with rc_context(STYLE):
        for figure in (parity, recall, nearest):
            figure(runs)


def draw_curves(results: Results, names: tuple[str, ...], file: str) -> None:
    """The validations of all trials of three experiments."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        for axes, name in zip(figure.subplots(1, 3), names, strict=True):
            metric = EXPERIMENTS[name].metric
            for model, colour in CURVES.items():
                if any((name, model.lower()) in results for name in names):
                    axes.plot([], color=colour, label=model)
                for trial in results.get((name, model.lower()), []):
                    steps, errors = zip(*trial["curve"], strict=True)
                    scores = [score(metric, error) for error in errors]
                    axes.plot(steps, scores, color=colour, linewidth=0.8)
                    axes.plot(steps[-1:], scores[-1:], "o", color=colour, markersize=3)
            axes.set(title=name, xlabel="step")
            axes.set_ylabel("rescaled accuracy" if metric == "accuracy" else metric)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
        save(figure, file)


def draw_capacity(results: Results) -> None:
    """The pairs that a trained head recalls, and those it could tell apart with random keys."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes, experiment = figure.subplots(), EXPERIMENTS["capacity"]
        colours, counts = (SECOND, FIRST, THIRD, FOURTH), list(experiment.counts)
        for model, colour in zip(experiment.models, colours, strict=True):
            width = int(model.removeprefix("keys-"))
            random = [capacity(pairs, width, 64)[2] for pairs in counts]
            axes.plot(counts, random, "--", color=colour, linewidth=1)
            axes.plot([], color=colour, label=f"d = {width}")
            for trial in results.get(("capacity", model), []):
                scores = [1 - trial["errors"][str(pairs)] for pairs in counts]
                axes.plot(counts, scores, color=colour)
        axes.plot([], "--", color=INK, linewidth=1, label="random keys")
        axes.set(xlabel="pairs", ylabel="rescaled accuracy")
        axes.legend()
        save(figure, "capacity-trained.svg")
