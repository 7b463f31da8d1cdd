"""The tables of the page of the experiments are those of the committed results."""

import re
from typing import Any

import numpy as np
import pytest

from docs.figures import experiments, hard_rows
from numpy_xlstm.experiments.blind import blind
from numpy_xlstm.experiments.catalogue import EXPERIMENTS
from numpy_xlstm.experiments.small_models import build_model
from numpy_xlstm.experiments.tasks.layout import random_strings
from numpy_xlstm.experiments.trials import score


def test_the_tables_are_those_of_the_results() -> None:
    page = experiments.PAGE.read_text("utf-8")
    assert experiments.with_tables(page) == page


def test_the_results_are_of_these_experiments() -> None:
    for (name, model), trials in experiments.results().items():
        experiment = EXPERIMENTS[name]
        assert model in experiment.models
        assert len({trial["seed"] for trial in trials}) == len(trials)
        for trial in trials:
            size = build_model(model, experiment.vocabulary).num_parameters
            assert trial["parameters"] == size
            same = ("train", "test", "first", "grow", "below", "batch", "lr", "vocabulary")
            found = {key: trial["settings"][key] for key in same}
            assert found == {
                key: list(value) if isinstance(value := getattr(experiment, key), tuple) else value
                for key in same
            }


def test_the_page_names_every_command() -> None:
    page = experiments.PAGE.read_text("utf-8")
    for name, _ in experiments.results():
        assert f"`{name}`" in page


def test_three_seeds_of_the_ablation_differ_by_little() -> None:
    assert "Three seeds differ by at most 0.03" in experiments.PAGE.read_text("utf-8")
    for model in experiments.PUBLISHED:
        bits = [trial["errors"]["test"] for trial in experiments.results()["ablation", model]]
        assert max(bits) - min(bits) < 0.03


def test_the_page_of_which_cell_has_the_means_of_the_results() -> None:
    page = (experiments.PAGE.parent / "which-cell.md").read_text("utf-8")
    results = experiments.results()
    stated = re.findall(
        r"\[`([\w-]+)`\]\([^)]*\): ((?:`[\w-]+` [\d.]+(?: \(\d+\))?(?:, )?)+)(?: \((\d+) each)?",
        page,
    )
    assert len(stated) == 4
    for name, numbers, each in stated:
        for model, number, seeds in re.findall(r"`([\w-]+)` ([\d.]+)(?: \((\d+)\))?", numbers):
            digits, metric = len(number.partition(".")[2]), EXPERIMENTS[name].metric
            errors = [trial["errors"]["test"] for trial in results[name, model]]
            mean = np.mean([score(metric, error) for error in errors])
            assert f"{mean:z.{digits}f}" == number, (name, model)
            assert len(errors) == int(seeds or each), (name, model)


def test_the_page_of_which_cell_says_who_tracks_a_state() -> None:
    page = (experiments.PAGE.parent / "which-cell.md").read_text("utf-8")
    names = "parity", "cycle-navigation", "modular-arithmetic", "missing-duplicate"
    tracked: dict[str, list[bool]] = {"lstm": [], "slstm": [], "mlstm": []}
    for model, most in tracked.items():
        for name in names:
            trials = experiments.results().get((name, model), [])
            solved = [1 - trial["errors"]["test"] >= experiments.SOLVED for trial in trials]
            most += [np.mean(solved) > 0.5] if solved else []
    assert (
        "LSTM learns each with most seeds, the sLSTM only parity, the mLSTM none of three" in page
    )
    assert tracked["lstm"] == [True] * 4
    assert tracked["slstm"] == [True, False, False, False]
    assert tracked["mlstm"] == [False] * 3


def test_the_page_of_state_tracking_says_who_solved_what() -> None:
    page = (experiments.PAGE.parent / "state-tracking.md").read_text("utf-8")
    solved = {
        (name, model): [1 - trial["errors"]["test"] >= experiments.SOLVED for trial in trials]
        for (name, model), trials in experiments.results().items()
    }
    assert "with none of ten seeds does an mLSTM track parity" in page
    assert solved["parity", "mlstm"] == [False] * 10
    longest = [trial["longest"] for trial in experiments.results()["parity", "mlstm"]]
    assert f"sequences grew to {min(longest)} to {max(longest)} bits" in page
    assert "LSTM and sLSTM track parity with every seed" in page
    assert all(solved["parity", "lstm"] + solved["parity", "slstm"])
    assert "the sLSTM fails with all three seeds" in page
    assert solved["modular-arithmetic", "slstm"] == [False] * 3


def test_the_share_of_ties_and_what_they_are_worth() -> None:
    """42 %, and 0.74 for a counter that breaks ties at random, on the page of the tasks."""
    strings, n = random_strings(np.random.default_rng(0), 4000, (40, 256), 63)
    counts = [np.bincount(row[:m], minlength=64) for row, m in zip(strings, n, strict=True)]
    ties = np.array([np.count_nonzero(count == count.max()) for count in counts])
    page = (experiments.DOCS / "experiments-tasks.md").read_text("utf-8")
    share, right = (
        float(x) for x in re.findall(r"(\d+) % have several .*at random has (0.\d+)", page)[0]
    )
    assert abs(np.mean(ties > 1) - share / 100) < 0.02
    assert abs(np.mean(1 / ties) - right) < 0.02
    first = [row[0] == row[c[row].argmax()] for row, c in zip(strings, counts, strict=True)]
    assert (np.mean(first) - 1 / 63) / (62 / 63) == pytest.approx(0.07, abs=0.015)


@pytest.mark.parametrize("name", experiments.BLIND)
def test_the_blind_scores_are_computed(name: str) -> None:
    experiment = EXPERIMENTS[name]
    computed = score(experiment.metric, blind(experiment, experiment.test, 4096))
    assert computed == pytest.approx(experiments.BLIND[name], abs=0.05, rel=0.03)


def test_the_page_says_how_long_a_parity_is_kept() -> None:
    after = {zeros: place for place, zeros in enumerate(hard_rows.ZEROS)}
    kept: dict[tuple[str, str], list[dict[int, float]]] = {}
    for trial in hard_rows.measured():
        if "zeros" in trial:
            accuracies = {zeros: trial["zeros"][place] for zeros, place in after.items()}
            kept.setdefault((trial["name"], trial["model"]), []).append(accuracies)
    for accuracies in kept["parity", "slstm"]:
        assert accuracies[10] == 1
        assert accuracies[30] < 0.25
    own = kept["parity-own-shares", "slstm"] + kept["parity-own-shares", "lstm"]
    for accuracies in kept["parity", "lstm"] + own:
        assert accuracies[50] > 0.98
    assert [a[200] > 0.98 for a in kept["parity-own-shares", "slstm"]].count(True) == 1
    assert {key: len(group) for key, group in kept.items()} == {
        ("parity", "slstm"): 4,
        ("parity", "lstm"): 2,
        ("parity-own-shares", "slstm"): 4,
        ("parity-own-shares", "lstm"): 2,
    }


def test_the_page_says_what_hard_rows_do_to_other_languages() -> None:
    trials: dict[str, list[Any]] = {}
    for trial in hard_rows.measured():
        trials.setdefault(trial["name"], []).append(trial)
    for trial in trials["cycle-navigation"] + trials["modular-arithmetic"]:
        assert min(trial["random"]) > 0.98
        assert max(trial["still"][1:]) < 0.9
        assert (trial["still"][0] == 1) == (
            trial["name"] != "cycle-navigation" or trial["model"] == "gru"
        )
    for trial in trials["bucket-sort"]:
        assert trial["skewed"][-1] < hard_rows.BLIND["bucket-sort"]["skewed"]
        stated = (
            f"from {trial['random'][-1]:.2f} to {trial['two symbols'][-1]:.2f} if there are two"
        )
        assert stated in experiments.PAGE.read_text("utf-8")
    assert min(min(trial["skewed"]) for trial in trials["even-pairs"]) == 1


def test_the_page_says_what_majority_and_cycle_navigation_reached() -> None:
    page, found = experiments.PAGE.read_text("utf-8"), experiments.results()

    def scores(trials: list[Any], part: str) -> list[str]:
        return sorted(f"{1 - trial['errors'][part]:.2f}" for trial in trials)

    low, middle, high = scores(found["majority", "mlstm"], "train")
    assert f"the mLSTM has {low}, {middle} and {high}, but on longer ones" in page
    low, middle, high = scores(found["majority", "mlstm"], "test")
    assert f"on longer ones {low}, {middle} and {high}" in page
    [moves] = found["cycle-navigation", "slstm"]
    assert f"ran for {moves['trained_steps']:,} steps only" in page
    earlier = [
        1 - dict(map(tuple, trial["curve"]))[moves["trained_steps"]]
        for trial in found["cycle-navigation", "lstm"]
    ]
    assert f"the LSTMs ({min(earlier):.2f} to {max(earlier):.2f})" in page
    assert min(earlier) < 1 - moves["errors"]["test"] < max(earlier)


def test_bucket_sort_ends_in_a_spike() -> None:
    trials = [
        t
        for (name, _), group in experiments.results().items()
        for t in group
        if name == "bucket-sort"
    ]
    medians = [1 - np.median([error for _, error in trial["curve"]]) for trial in trials]
    assert (f"{min(medians):.2f}", f"{max(medians):.2f}") == ("0.86", "0.90")
    assert "the median of a run's validations is 0.86 to 0.90" in experiments.PAGE.read_text(
        "utf-8"
    )


def test_the_page_of_training_says_how_long_a_plateau_lasts() -> None:
    page = (experiments.DOCS / "training.md").read_text("utf-8")
    found = experiments.results()

    def ends(name: str, model: str) -> list[list[int]]:
        """Return, for each trial that arrives, its last step below 0.2 and its first at 0.95."""
        curves = [[(step, 1 - error) for step, error in t["curve"]] for t in found[name, model]]
        steps = [[min([s for s, a in c if a >= x], default=0) for x in (0.2, 0.95)] for c in curves]
        return sorted([low - 100, high] for low, high in steps if high)

    ended = ends("parity", "slstm")
    assert len(ended) == 15
    low, high = zip(*ended, strict=True)
    span = f"{min(low)} to {max(low):,} | {min(high)} to {max(high):,} |"
    assert f"| parity, sLSTM, 15 seeds | {span}" in page
    assert max(high) // min(high) == 8
    [(last, first)] = ends("parity-official", "slstm")
    assert f"| parity of full length, sLSTM, one seed | {last:,} | {first:,} |" in page
    for task, name, model in (
        ("cycle navigation, GRU", "cycle-navigation", "gru"),
        ("modular arithmetic, LSTM", "modular-arithmetic", "lstm"),
    ):
        (a, b), (c, d) = ends(name, model)
        assert f"| {task}, two seeds of three | {a:,} and {c:,} | {b:,} and {d:,} |" in page
    for name, model, row in (
        ("modular-arithmetic", "slstm", "modular arithmetic, sLSTM, three seeds | 12,000"),
        ("parity", "mlstm", "parity, mLSTM, ten seeds | 3,000"),
    ):
        assert f"| {row}, the end | never |" in page
        assert max(1 - e for t in found[name, model] for _, e in t["curve"]) < 0.2


def test_skewed_rows_have_nine_of_ten_equal_symbols() -> None:
    batch = hard_rows.hard("parity", "skewed")(np.random.default_rng(0), 400, (80, 80))
    same = np.mean(batch.inputs == batch.inputs[:, :1])
    assert same == pytest.approx(0.95, abs=0.01)  # half of the others are equal by chance
    zeros = hard_rows.then_zeros(7)(np.random.default_rng(0), 50, (40, 40))
    assert ((zeros.inputs[:, 39:] == 1) == [False] + 7 * [True]).all()
    assert (zeros.targets[zeros.mask] == 1 + (zeros.inputs == 2).sum(1) % 2).all()


def test_still_rows_have_the_answer_of_their_first_symbols() -> None:
    rng = np.random.default_rng(0)
    moves = hard_rows.hard("cycle-navigation", "still")(rng, 50, (90, 90))
    places = 4 + np.array([0, 0, 1, -1])[moves.inputs[:, :20]].sum(1) % 5
    assert (moves.targets.max(1) == places).all()
    sums = hard_rows.hard("modular-arithmetic", "still")(rng, 50, (91, 91))
    for row, target in zip(sums.inputs, sums.targets, strict=True):
        first = "".join("0+-*=01234"[symbol] for symbol in row[:20])
        assert target.max() == 5 + eval(first + "0") % 5
    assert (moves.inputs[:, 20:] == 1).all()
    assert (sums.inputs[:, 20:-1] == np.tile([5, 1], 36)[:-1]).all()


def test_rows_of_two_symbols_have_large_counts() -> None:
    batch = hard_rows.hard("bucket-sort", "two symbols")(np.random.default_rng(0), 400, (80, 80))
    strings, sorted_ = batch.inputs[:, :80], batch.targets[batch.mask].reshape(400, 80)
    assert (np.sort(strings) == sorted_).all()
    assert max(len(set(row)) for row in strings.tolist()) == 2
    assert np.mean(strings == strings[:, :1]) == pytest.approx(0.55, abs=0.02)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in hard_rows.BLIND.items() for kind in kinds]
)
def test_the_blind_scores_of_hard_rows_are_computed(name: str, kind: str) -> None:
    experiment = EXPERIMENTS[name]._replace(sample=hard_rows.hard(name, kind))
    computed = 1 - blind(experiment, experiment.test, 2048)
    assert computed == pytest.approx(hard_rows.BLIND[name][kind], abs=0.03)
