"""The command for experiments: results, resuming, ranks, and bad input."""

import gc
import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import from_pretrained, save_pretrained
from numpy_xlstm.cli import main
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.experiments import trials
from numpy_xlstm.experiments.catalogue import EXPERIMENTS
from numpy_xlstm.experiments.small_models import ABLATION, TASK_MODELS, build_model
from numpy_xlstm.layers import GRU
from numpy_xlstm.training import Run, read_log, warmup_cosine

SMALL: dict[str, dict[str, Any]] = {
    "parity": {"below": 10.0, "batch": 8, "test": (5, 9), "train": (3, 9)},
    "nearest-neighbour": {"batch": 8, "first": 5, "train": (1, 5), "test": (5, 5)},
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("rich")
    monkeypatch.setattr(trials, "VALIDATE_EVERY", 10)
    for name, changes in SMALL.items():
        monkeypatch.setitem(EXPERIMENTS, name, EXPERIMENTS[name]._replace(**changes))


def outcome(folder: Path) -> dict[str, Any]:
    """Return the result in a folder, without its times."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    assert result.pop("seconds") >= 0
    assert result.pop("cpu_seconds") > 0
    return result


def test_the_list_has_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)


def test_a_result_has_settings_curve_and_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "lstm"
    options = ["--model", "lstm", "--seed", "3", "--steps", "45", "--out", str(folder)]
    assert main(["experiment", "parity", *options]) == 0
    found = outcome(folder)
    assert (found["name"], found["model"], found["seed"]) == ("parity", "lstm", 3)
    assert found["parameters"] == build_model("lstm", 3).num_parameters
    assert [step for step, _ in found["curve"]] == [10, 20, 30, 40, 45]
    assert found["trained_steps"] == 45
    assert found["grown"] == [20, 40]
    assert found["longest"] == 8
    assert (found["settings"]["train"], found["settings"]["steps"]) == ([3, 9], 45)
    assert found["errors"].keys() == {"train", "test"}
    printed = capsys.readouterr().out
    assert f"rescaled accuracy on lengths 5 to 9: {1 - found['errors']['test']:.4f}" in printed
    assert abs(1 - found["blind"]) < 0.1
    assert f"of the best blind answer: {1 - found['blind']:.4f}" in printed
    ET.parse(folder / "curve.svg")


@pytest.mark.parametrize("name", SMALL)
def test_a_killed_and_resumed_trial_has_the_result_of_one_without_a_break(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["--model", "lstm", "--steps", "45"]
    assert main(["experiment", name, *options, "--out", str(whole)]) == 0
    experiment = EXPERIMENTS[name]
    state, curriculum = trials.begin(experiment, "lstm", 0), trials.Curriculum()
    command = [name, "--model=lstm", "--seed=0", "--steps=45"]
    notes = {"command": command, "curriculum": curriculum.to_dict(), "cpu_seconds": 1000.0}
    run = Run.begin(parts, state, notes=notes, save_every=17)
    for progress in trials.trial(experiment, state, curriculum, 45):
        run.notes["curriculum"] = curriculum.to_dict()
        run.add(progress)
        if progress.step == 30:  # killed after the checkpoint of step 17
            break
    del run
    assert len([*read_log(parts / "log.jsonl")]) == 30
    assert main(["experiment", "--resume", str(parts)]) == 0
    assert outcome(parts) == outcome(whole)
    assert json.loads((parts / "result.json").read_text("utf-8"))["cpu_seconds"] > 1000
    assert len([*read_log(parts / "log.jsonl")]) == 45
    assert main(["experiment", name, "--resume", str(parts)]) == 0  # ended: nothing to do
    assert outcome(parts) == outcome(whole)
    capsys.readouterr()
    assert main(["experiment", "set", "--resume", str(parts)]) == 2
    assert f"--resume: expected a trial of set; got one of {name}" in capsys.readouterr().err


def test_a_result_has_all_settings() -> None:
    experiment = EXPERIMENTS["recall-64-4"]._replace(batch=2)
    state = trials.begin(experiment, "lstm", 0)
    settings = trials.result(experiment, {}, state, trials.Curriculum())["settings"]
    functions = {"sample", "held_out"}
    described = {"shows", "models", "minutes"}
    assert settings.keys() == {*experiment._fields} - functions - described | {"train", "test"}
    again = {name: settings[name] for name in settings.keys() & {*experiment._fields}}
    assert experiment._replace(**again) == experiment
    json.dumps(settings)


@pytest.mark.parametrize("grown", [0, 1])
def test_the_sequences_have_the_lengths_of_the_training(grown: int) -> None:
    """Even if the first length is shorter than all of them."""
    experiment = EXPERIMENTS["parity"]._replace(first=4, grow=3, train=(8, 40))
    state, curriculum = trials.begin(experiment, "lstm", 0), trials.Curriculum([], grown * [1])
    next(trials.trial(experiment, state, curriculum, 1))
    assert curriculum.longest(experiment) == 8


def test_a_rate_that_settles_is_constant_if_the_sequences_never_grow() -> None:
    experiment = EXPERIMENTS["recall-64-4"]._replace(first=4, batch=2)
    state = trials.begin(experiment, "lstm", 0)
    rates = [p.lr for p in trials.trial(experiment, state, trials.Curriculum(), 3)]
    assert rates[1:] == [experiment.lr] * 2


@pytest.mark.parametrize("sequences", [1, 32, 100])
def test_a_measure_counts_every_sequence(sequences: int, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, rows = EXPERIMENTS["parity"], 0

    def sample(rng: np.random.Generator, batch: int, length: tuple[int, int]) -> Any:
        nonlocal rows
        rows += batch
        return experiment.sample(rng, batch, length)

    state = trials.begin(experiment, "lstm", 0)
    error = trials.measure(experiment._replace(sample=sample), state, (3, 9), 1, sequences)
    assert rows == sequences
    assert 0 <= error / 2 * sequences == pytest.approx(round(error / 2 * sequences))


def test_the_sequences_grow_after_enough_small_losses() -> None:
    experiment = EXPERIMENTS["parity"]._replace(first=4, grow=2, train=(3, 7), below=0.5)
    curriculum = trials.Curriculum()
    losses = [1.0] * 5 + [0.4] * 60
    for step, loss in enumerate(losses, 1):
        curriculum.add(experiment, step, loss)
    # The mean of 20 losses is below 0.5 from the 22nd step on, with 3 of the large ones.
    assert curriculum.grown == [22, 42]
    assert curriculum.longest(experiment) == 7


def test_a_solved_task_ends_the_training() -> None:
    experiment = EXPERIMENTS["parity"]._replace(solved=2.0)
    state, curriculum = trials.begin(experiment, "lstm", 0), trials.Curriculum()
    reports = list(trials.trial(experiment, state, curriculum, 100))
    assert len(reports) == 10
    assert reports[-1].validation == state.validations[-1][1]
    assert list(trials.trial(experiment, state, curriculum, 100)) == []


def test_the_rescaled_accuracy_of_a_guess_is_near_0() -> None:
    experiment = EXPERIMENTS["parity"]
    state = trials.begin(experiment, "lstm", 0)
    assert abs(1 - trials.measure(experiment, state, (40, 60), 1, 1024)) < 0.15


def test_models_have_equal_sizes_where_the_page_says_so() -> None:
    sizes = [build_model(name, 256).num_parameters for name in ABLATION]
    assert max(sizes) < 1.02 * min(sizes)
    layers = [build_model(name, 3).num_parameters for name in ("slstm", "lstm", "gru", "rnn")]
    assert max(layers) < 1.02 * min(layers)


@pytest.mark.parametrize("name", [*TASK_MODELS, *ABLATION])
def test_a_model_is_loaded_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    vocabulary = 5 if name in ABLATION else None
    model = build_model(name, vocabulary, rng=np.random.default_rng(0))
    save_pretrained(model, tmp_path / "model.safetensors")
    loaded = from_pretrained(tmp_path / "model.safetensors")
    x = np.array([[1, 4]]) if vocabulary else np.ones((1, 2, 3), np.float32)
    assert np.array_equal(loaded(x)[0], model(x)[0])


@pytest.mark.parametrize(
    ("model", "parts"),
    [("fixed-input-gate", ["igate"]), ("gate-biases", ["igate.weight", "fgate.weight"])],
)
def test_fixed_gates_do_not_learn(model: str, parts: list[str]) -> None:
    """The gates of the mLSTM blocks alone: the sLSTM block has all its gradients."""
    experiment = EXPERIMENTS["ablation"]._replace(batch=2, train=(9, 9), test=(9, 9))
    state, curriculum = trials.begin(experiment, model, 0), trials.Curriculum()
    fixed = {n for n in state.model.params if any(f"mlstm_cell.{part}" in n for part in parts)}
    before = {name: array.copy() for name, array in state.model.params.items()}
    next(trials.trial(experiment, state, curriculum, 3))
    same = {n for n, array in state.model.params.items() if np.array_equal(array, before[n])}
    y, cache = state.model.forward(np.arange(18).reshape(2, 9))[::2]
    dy = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
    _, _, grads = state.model.backward(dy, cache)
    unused = {n for n, grad in grads.items() if not grad.any()}
    assert same == unused == fixed


def test_a_model_of_ones_own_is_trained_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASK_MODELS, "mine", lambda **known: GRU(8, 12, **known))
    experiment = EXPERIMENTS["parity"]
    assert "mine" in experiment.models
    state = trials.begin(experiment, "mine", 0)
    next(trials.trial(experiment, state, trials.Curriculum(), 1))
    save_pretrained(state.model, tmp_path / "model.safetensors")
    x = np.array([[1, 2, 2]])
    assert np.array_equal(from_pretrained(tmp_path / "model.safetensors")(x)[0], state.model(x)[0])
    monkeypatch.delitem(TASK_MODELS, "mine")
    with pytest.raises(CheckpointError, match=r"or in TASK_MODELS: expected one of .* got 'mine'"):
        from_pretrained(tmp_path / "model.safetensors")


MINE = """
from numpy_xlstm.experiments.catalogue import EXPERIMENTS
from numpy_xlstm.layers import GRU
TASK = EXPERIMENTS["parity"]._replace(test=(9, 12), below=10.0, batch=4, steps=30)
def body(dtype, rng):
    return GRU(8, 12, dtype=dtype, rng=rng)
"""


def test_a_task_and_a_body_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained with two seeds and another setting, shown, resumed for more steps, and refused."""
    (tmp_path / "my_task.py").write_text(MINE, "utf-8")
    monkeypatch.chdir(tmp_path)
    for registry in (EXPERIMENTS, TASK_MODELS):  # the command adds to them, as in a new process
        for name in ("my_task.py:TASK", "my_task.py:body"):
            monkeypatch.setitem(registry, name, None)
            registry.pop(name)
    own = ["experiment", "my_task.py:TASK", "--model", "my_task.py:body"]
    several = ["--seed", "5", "--seeds", "2", "--set", "lr=0.03", "--set", "first=6"]
    assert main([*own, *several, "--out", "runs"]) == 0
    results = [outcome(Path("runs", f"seed-{seed}")) for seed in (5, 6)]
    assert [result["seed"] for result in results] == [5, 6]
    assert results[0]["curve"] != results[1]["curve"]
    for result in results:
        settings = result["settings"]
        assert (settings["lr"], settings["first"], settings["test"]) == (0.03, 6, [9, 12])
        assert result["set"] == [["lr", 0.03], ["first", 6]]
        assert (result["parameters"], result["trained_steps"]) == (855, 30)
    assert main([*own, *several[4:], "--seed", "6", "--out", "alone"]) == 0
    assert outcome(Path("alone")) == results[1]
    capsys.readouterr()
    assert main([*own, "--resume", "runs/seed-6", "--steps", "45"]) == 0
    longer = outcome(Path("runs", "seed-6"))
    assert (longer["trained_steps"], longer["set"]) == (45, results[1]["set"])
    assert longer["curve"][:3] == results[1]["curve"]
    assert main(["experiment", "--table", "runs"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    shown = [f"{1 - r['errors']['test']:.4f}" for r in (results[0], longer)]
    assert [(row[0], row[2], row[3], row[4], row[6:]) for row in rows] == [
        ("my_task.py:TASK", "5", "30", shown[0], ["lr=0.03", "first=6"]),
        ("my_task.py:TASK", "6", "45", shown[1], ["lr=0.03", "first=6"]),
    ]
    assert main([*own[:3], "gru", "--resume", "runs/seed-5"]) == 2
    assert "--resume: expected a trial of gru; got" in capsys.readouterr().err
    for registry, words in ((TASK_MODELS, []), (EXPERIMENTS, own[2:])):  # no code runs unasked
        name = own[1 if words else 3]
        registry.pop(name)
        gc.collect()  # a process holds a lock until the objects of its run are gone
        assert main(["experiment", *words, "--resume", "runs/seed-5"]) == 2
        assert f"got '{name}'" in capsys.readouterr().err


def test_the_page_about_a_task_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file is used by its commands, in order and with fewer steps."""
    page = (Path(__file__).parents[2] / "docs/add-a-task.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(page.split("```python\n")[1].split("```")[0], "utf-8")
    commands = [shlex.split(line)[1:] for line in page.splitlines() if line[:12] == "numpy-xlstm "]
    assert len(commands) == 5
    for words in commands:
        if "--table" not in words:
            words += ["--steps", "5" if "--resume" in words else "3"]
        assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()[-6:]
    assert [line.split()[2:4] for line in lines] == [
        ["SEED", "STEPS"],
        ["0", "3"],
        ["1", "5"],
        ["2", "3"],
        ["0", "3"],
        ["0", "3"],
    ]
    del EXPERIMENTS["my.py:TASK"], TASK_MODELS["my.py:body"]


def test_the_table_has_results_of_older_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {"name": "parity", "model": "lstm", "seed": 1, "trained_steps": 400}
    old |= {"metric": "accuracy", "errors": {"test": 0.25}}
    (tmp_path / "result.json").write_text(json.dumps(old), "utf-8")
    assert main(["experiment", "--table", str(tmp_path)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split() == ["parity", "lstm", "1", "400", "0.7500", "nan"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "lr=fast"], "argument --set: expected a number at least 0; got 'fast'"),
        (["--set", "rate=1"], r"argument --set: expected a name \(first, .*; got 'rate=1'"),
        (["--set", "lr"], "argument --set: expected a number at least 0; got ''"),
        (
            ["--table", "nowhere"],
            "the system refuses to read or write nowhere: no such file or directory",
        ),
        (["--model", "missing.py:body"], "expected a module in this folder, or installed"),
        (["--model", "json:loads("], "json:loads(: expected module:name, file.py:name or"),
    ],
)
def test_bad_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "parity", *words]) == 2
    assert re.search(message if "\\" in message else re.escape(message), capsys.readouterr().err)


def test_a_task_is_an_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "json:dumps"]) == 2
    assert "json:dumps: expected an Experiment" in capsys.readouterr().err
    EXPERIMENTS.pop("json:dumps")


def test_the_folder_of_a_trial_names_the_import_that_loads_it(tmp_path: Path) -> None:
    """In a Python that has not imported the experiments."""
    Run.begin(tmp_path / "run", trials.begin(EXPERIMENTS["parity"], "lstm", 0))
    code = "import numpy_xlstm as n, sys; {}; print(type(n.from_pretrained(sys.argv[1])).__name__)"
    words = [sys.executable, "-c", code.format("pass"), str(tmp_path / "run")]
    failed = subprocess.run(words, capture_output=True, text=True, check=False)
    (line,) = re.findall(r"got 'SmallModel'; (import numpy_xlstm\.\w+) first", failed.stderr)
    words[2] = code.format(line)
    loaded = subprocess.run(words, capture_output=True, text=True, check=True)
    assert loaded.stdout == "SmallModel\n"


WORDS = ["parity", "--model=lstm", "--seed=0", "--steps=3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "expected a run of this command; got another"),
        ({"command": ["juggling"]}, r"notes\.command: NAME: expected one of"),
        ({"command": [*WORDS, "--model=gpt"]}, r"notes\.command: --model: expected one of"),
        ({"command": [*WORDS, "--seed=-1"]}, "argument --seed: expected a whole number"),
        ({"command": [*WORDS, "--steps=many"]}, "argument --steps: expected a whole number"),
        ({"command": [3]}, r"command\[0\]: expected str"),
        ({"curriculum": {"longest": 10**6}}, "expected the names of its fields; got 'longest'"),
        ({"curriculum": {"losses": ["1"]}}, r"losses\[0\]: expected float"),
        ({"curriculum": {"grown": [1.5]}}, r"grown\[0\]: expected int"),
    ],
)
def test_damaged_notes(
    change: dict[str, Any] | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = trials.begin(EXPERIMENTS["parity"], "lstm", 0)
    notes = {"command": WORDS, "curriculum": {"losses": [], "grown": []}}
    Run.begin(tmp_path / "run", state, notes={} if change is None else notes | change)
    assert main(["experiment", "--resume", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


def test_no_stored_curriculum_makes_sequences_longer_than_the_experiment() -> None:
    for count in (0, 1, 10**4):
        curriculum = trials.Curriculum.from_dict({"losses": [], "grown": [2**62] * count})
        for experiment in EXPERIMENTS.values():
            assert 1 <= curriculum.longest(experiment) <= experiment.train[1]


@pytest.mark.parametrize(("grown", "falls"), [([1, 1], False), ([1, 1, 1], True)])
def test_the_rate_of_recall_falls_once_all_pairs_are_reached(grown: list[int], falls: bool) -> None:
    recall = EXPERIMENTS["recall-64-4"]
    state = trials.begin(recall, "lstm", 0)
    for progress in trials.trial(recall, state, trials.Curriculum(grown=grown), 5):
        rate = recall.lr * warmup_cosine(recall.warmup, recall.final)(progress.step / 5)
        assert progress.lr == pytest.approx(rate / (progress.step if falls else 1), rel=1e-12)
    assert state.step == 5
