"""Write the tables and figures of the experiments: ``python -m docs.figures.experiments RUNS``.

RUNS has a folder for each trial, such as ``parity-slstm-0``, that ``numpy-xlstm experiment parity
--model slstm --seed 0 --out RUNS/parity-slstm-0`` has written. Their results are added to
``docs/experiments.jsonl``, which has a line for each trial. The tables of the page and the learning
curves are made from it; without RUNS, only those. Needs the extra ``cli``.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from docs.figures import hard_rows
from numpy_xlstm.experiments.catalogue import EXPERIMENTS, LANGUAGES
from numpy_xlstm.experiments.trials import score

DOCS = Path(__file__).parents[1]
TABLE, PAGE = DOCS / "experiments.jsonl", DOCS / "experiments.md"
COLUMNS = (
    "name model seed set metric errors settings parameters trained_steps longest cpu_seconds curve"
)
"""What the table keeps of a result."""

GOAL, SOLVED = 0.99, 0.95
"""Rescaled accuracy from which a trial counts as a success, and one of a language as solved."""

PUBLISHED = {
    "layers": 2417.86,
    "residual": 35.46,
    "up-projection": 26.01,
    "exponential-gating": 17.70,
    "matrix-memory": 13.48,
    "fixed-gates": 13.95,
    "fixed-input-gate": 13.58,
    "fixed-forget-gate": 13.69,
}
"""Perplexities of the ablation in the xLSTM paper (Table 2)."""

BLIND = {
    **dict.fromkeys(("parity", "parity-official", "even-pairs", "cycle-navigation"), 0.0),
    "recall-64-4": 0.23,
    "recall-64-4-vocabulary-256": 0.24,
    "recall-64-4-vocabulary-1024": 0.25,
    "recall-128-8": 0.10,
    "recall-256-16": 0.03,
    "nearest-neighbour": 0.083,
    "ablation": 4.53,
    "modular-arithmetic": 0.0,
    "bucket-sort": 0.73,
    "missing-duplicate": 0.01,
    "majority": 0.03,
}
"""Scores of the best blind answers, see ``numpy_xlstm.experiments.blind``."""

Results = dict[tuple[str, str], list[dict[str, Any]]]


def results(searched: bool = False) -> Results:
    """Return the committed results by experiment and model, or those of trials with --set."""
    trials = defaultdict(list)
    for line in TABLE.read_text("utf-8").splitlines():
        trial = json.loads(line)
        if bool(trial.get("set")) == searched:
            trials[trial["name"], trial["model"]].append(trial)
    return trials


def add(runs: Path) -> None:
    """Add the results in a folder to the table. They take the place of earlier ones."""
    trials = [json.loads(line) for line in TABLE.read_text("utf-8").splitlines()]
    for file in runs.glob("*/result.json"):
        result = json.loads(file.read_text("utf-8"))
        result["curve"] = [[step, round(error, 5)] for step, error in result["curve"]]
        trials.append({name: result[name] for name in COLUMNS.split()})
    table = {(t["name"], t["model"], t["seed"], str(t.get("set", []))): t for t in trials}
    TABLE.write_text("".join(f"{json.dumps(table[key])}\n" for key in sorted(table)), "utf-8")


def rows(found: Results, names: Collection[str]) -> str:
    """Return a table with a row for each experiment and model of three seeds or more."""
    lines = [
        "| experiment | model | seeds | ≥ 0.99 | mean | least to most | blind |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name in names:
        for model in EXPERIMENTS[name].models:
            trials = found.get((name, model), [])
            if len(trials) < 3:
                continue
            scores = [score(trial["metric"], trial["errors"]["test"]) for trial in trials]
            is_accuracy = EXPERIMENTS[name].metric == "accuracy"
            cells = (
                f"`{name}`",
                f"`{model}`",
                f"{len(trials)}",
                f"{sum(score >= GOAL for score in scores)}" if is_accuracy else "",
                f"{np.mean(scores):z.3f}",
                " to ".join(dict.fromkeys(f"{end:.3f}" for end in (min(scores), max(scores)))),
                f"{BLIND[name]:.2f}" if is_accuracy else f"{BLIND[name]:.3g}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def ablation(found: Results) -> str:
    """Return a table with a row for each published model."""
    lines = ["| model | mean of three seeds | published |", "|---|--:|--:|"]
    for model, perplexity in PUBLISHED.items():
        bits = [trial["errors"]["test"] for trial in found["ablation", model]]
        assert len(bits) == 3
        lines.append(f"| `{model}` | {np.mean(bits):.3f} | {perplexity:.2f} |")
    return "\n".join(lines)


def languages(trials: Results) -> str:
    """Return a table with a row for each formal language, and the seeds that solve it."""
    models = "slstm", "lstm", "gru", "mlstm"
    lines = [
        f"| task | blind | {' | '.join(f'`{m}`' for m in models)} |",
        f"|---|--:|{'--:|' * len(models)}",
    ]
    for name in ("parity", *LANGUAGES):
        cells = [f"`{name}`", f"{BLIND.get(name, 0):.2f}"]
        for model in models:
            scores = [1 - trial["errors"]["test"] for trial in trials.get((name, model), [])]
            solved = sum(score >= SOLVED for score in scores)
            cells.append(f"{np.mean(scores):z.2f}, {solved} of {len(scores)}" if scores else "")
        if any((name, model) in trials for model in models):
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """Return the text of the page with the tables of the committed results."""
    found = results()
    tables = {
        "results": rows(
            found, [n for n in EXPERIMENTS if n not in (*LANGUAGES, "ablation", "capacity")]
        ),
        "ablation": ablation(found),
        "languages": languages(found),
        "hard rows": hard_rows.table(),
    }
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n\n", "\n\n<!-- end -->"
        head, _, rest = page.partition(start)
        page = head + start + table + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    from docs.figures import trained

    if len(sys.argv) > 1:
        add(Path(sys.argv[1]))
        trained.draw(Path(sys.argv[1]))
    papers = "parity", "recall-64-4", "nearest-neighbour"
    trained.draw_curves(results(), papers, "learning-curves.svg")
    waiting = "cycle-navigation", "modular-arithmetic", "bucket-sort"
    trained.draw_curves(results(), waiting, "language-curves.svg")
    trained.draw_capacity(results())
    hard_rows.draw()
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
