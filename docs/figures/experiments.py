"""Draw the figures and the tables of the experiments: ``python -m docs.figures.experiments RUNS``.

RUNS has a folder for each trial, such as ``parity-slstm-0``, that ``numpy-xlstm experiment parity
--model slstm --seed 0 --out RUNS/parity-slstm-0`` has written. Results go to ``docs/experiments``,
from which the tables of the page are made; without RUNS, only the tables. Needs the extra ``cli``.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm import load_checkpoint
from numpy_xlstm.experiments.catalogue import EXPERIMENTS, LANGUAGES
from numpy_xlstm.experiments.trials import score
from numpy_xlstm.numerics import Array, log_sigmoid

DOCS = Path(__file__).parents[1]
RESULTS, PAGE = DOCS / "experiments", DOCS / "experiments.md"

PUBLISHED: dict[str, dict[str, float]] = {
    "parity": {"slstm": 1.0, "mlstm": 0.04},
    "ablation": {
        "layers": 2417.86,
        "residual": 35.46,
        "up-projection": 26.01,
        "exponential-gating": 17.70,
        "matrix-memory": 13.48,
        "fixed-gates": 13.95,
        "fixed-input-gate": 13.58,
        "fixed-forget-gate": 13.69,
    },
}
"""Rescaled accuracies of the xLSTM paper (Figure 4), and its perplexities (Table 2)."""

Results = dict[tuple[str, str], list[dict[str, Any]]]


def results() -> Results:
    """Return the committed results of all seeds, by experiment and model."""
    found = defaultdict(list)
    for file in sorted(RESULTS.glob("*.json")):
        result = json.loads(file.read_text("utf-8"))
        found[result["name"], result["model"]].append(result)
    return found


def rows(found: Results, names: Collection[str]) -> str:
    """Return a table with a row for each experiment and model, and the spread over the seeds."""
    lines = [
        "| experiment | model | seeds | mean | least to most | published | steps | minutes |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in names:
        for model in EXPERIMENTS[name].models:
            if not (trials := found.get((name, model))):
                continue
            scores = [score(trial["metric"], trial["errors"]["test"]) for trial in trials]
            published = PUBLISHED.get(name, {}).get(model)
            cells = (
                f"`{name}`",
                f"`{model}`",
                f"{len(trials)}",
                f"{np.mean(scores):.3f}",
                f"{min(scores):.3f} to {max(scores):.3f}",
                "" if published is None else f"{published:.2f}",
                f"{np.mean([trial['trained_steps'] for trial in trials]):,.0f}",
                f"{np.mean([trial['seconds'] for trial in trials]) / 60:.1f}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def languages(found: Results) -> str:
    """Return a table with a row for each formal language, and a column for each model."""
    names = [name for name in LANGUAGES if any(task == name for task, _ in found)]
    models = [m for m in EXPERIMENTS["parity"].models if any((n, m) in found for n in names)]
    lines = ["| task | " + " | ".join(f"`{model}`" for model in models) + " |"]
    lines.append("|---|" + "--:|" * len(models))
    for name in names:
        cells = [f"`{name}`"]
        for model in models:
            scores = [1 - trial["errors"]["test"] for trial in found.get((name, model), [])]
            cells.append(f"{np.mean(scores):.2f}" if scores else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """Return the text of the page with the tables of the committed results."""
    found = results()
    tables = {
        "results": rows(found, [n for n in EXPERIMENTS if n not in (*LANGUAGES, "ablation")]),
        "ablation": rows(found, ["ablation"]),
        "languages": languages(found),
    }
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n\n", "\n\n<!-- end -->"
        head, _, rest = page.partition(start)
        page = head + start + table + end + rest.partition(end)[2]
    return page


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
        b = np.cumsum(log_f)
        D = np.where(np.tri(len(b), dtype=bool), b[:, None] - b + i, -np.inf)
        m = D.max(axis=1, keepdims=True)
        S = q @ k.T / np.sqrt(k.shape[-1]) * np.exp(D - m)
        found.append((S / np.maximum(np.abs(S.sum(axis=1, keepdims=True)), np.exp(-m)), i, log_f))
        x, _ = block(x)
    return found


def draw(runs: Path) -> None:
    """Draw the figures from the models of some trials."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from docs.figures.plots import BLUE, BROWN, FIRST, INK, SECOND, STYLE, WHITE, save, shades

    def model_of(trial: str) -> Any:
        return load_checkpoint(runs / trial / "checkpoint.npz").model.astype(np.float64)

    def parity() -> None:
        model, rng = model_of("parity-slstm-0"), np.random.default_rng(1)
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

    def recall() -> None:
        sample = EXPERIMENTS["recall-64-4"].sample
        batch, model = sample(np.random.default_rng(3), 1, (4, 4)), model_of("recall-64-4-mlstm-0")
        asked = np.flatnonzero(batch.mask[0])
        keys = np.array(
            [np.flatnonzero(batch.inputs[0, :8:2] == batch.inputs[0, t])[0] for t in asked]
        )
        blocks = reads(model, batch.inputs)
        weights, i, log_f = max(
            blocks, key=lambda found: np.abs(found[0][asked, 2 * keys + 1]).sum()
        )
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

    def nearest() -> None:
        sample = EXPERIMENTS["nearest-neighbour"].sample
        batch = sample(np.random.default_rng(4), 1, (63, 63))
        target, figure = batch.targets[0, 1:], Figure(figsize=(10, 4.5), layout="constrained")
        for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("lstm", "slstm"), strict=True):
            model = model_of(f"nearest-neighbour-{kind}-0")
            y = model(batch.inputs)[0][0, 1:, 0]
            axes.step(np.arange(1, 64), target, where="mid", color=INK, label="value to be stored")
            axes.plot(np.arange(1, 64), y, color=FIRST, label="value that is read")
            axes.set(xlabel="point", title=kind.replace("lstm", "LSTM"))
        axes.legend()
        save(figure, "nearest-neighbour.svg")

    with rc_context(STYLE):
        for figure in (parity, recall, nearest):
            figure()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        RESULTS.mkdir(exist_ok=True)
        for file in sorted(folder.glob("*-[0-9]/result.json")):
            text = json.dumps(json.loads(file.read_text("utf-8")))
            (RESULTS / f"{file.parent.name}.json").write_text(text + "\n", "utf-8")
        draw(folder)
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
