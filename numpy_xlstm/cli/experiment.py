"""``numpy-xlstm experiment``: train a small model on a task of the xLSTM paper, and test it."""

import argparse
import json
import math
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy_xlstm.cli import display
from numpy_xlstm.cli.arguments import (
    Option,
    add_options,
    as_words,
    flags,
    natural,
    parse_stored,
    real,
    whole,
)
from numpy_xlstm.cli.gradcheck import evaluated
from numpy_xlstm.cli.signals import deferred_interrupt
from numpy_xlstm.cli.train import read_notes
from numpy_xlstm.config import Config, Count, Real
from numpy_xlstm.disk import files_in, write_text
from numpy_xlstm.documents import read_values
from numpy_xlstm.errors import CheckpointError, OptionError, printable
from numpy_xlstm.experiments import catalogue, trials
from numpy_xlstm.experiments.catalogue import EXPERIMENTS, Experiment
from numpy_xlstm.experiments.small_models import ABLATION, HEADS, TASK_MODELS
from numpy_xlstm.experiments.trials import Curriculum
from numpy_xlstm.numerics import check_kind
from numpy_xlstm.training import Progress, Run, TrainingState, read_log
from numpy_xlstm.training.run import CURVE, RESULT

DESCRIPTION = """\
Train a small model on a task, with sequences that grow while it learns, and test it on other
sequences, of the trained lengths and of longer ones. The training ends when the task is solved, or
after the steps of the experiment. The result is an accuracy (rescaled so that guessing gives 0), a
squared error, or the bits per byte.

With --out, DIR gets result.json, curve.svg and log.jsonl, and the complete state every minute.
After any interruption, --resume continues from there, and the result is the same. With --steps it
continues for more steps. NAME may be my.py:TASK, an Experiment in a Python file of yours, and the
model my.py:body, a function that makes its layers: these files are run, and --resume needs both
names again."""

SETTABLE: dict[str, Any] = dict.fromkeys(("first", "grow", "batch"), natural)
SETTABLE |= dict.fromkeys(("below", "lr", "warmup", "final", "solved", "weight_decay"), real(0))


def setting(text: str) -> tuple[str, Any]:
    """Parse a setting: ``"lr=0.004"`` is ("lr", 0.004)."""
    name, _, value = text.partition("=")
    if name not in SETTABLE:
        raise argparse.ArgumentTypeError(f"expected a name ({', '.join(SETTABLE)}); got {text!r}")
    return name, SETTABLE[name](value)


OPTIONS: dict[str, Option] = {
    "model": (
        "NAME",
        None,
        f"{', '.join(TASK_MODELS)}; for the experiment ablation: {', '.join(ABLATION)}; "
        f"for capacity: {', '.join(HEADS)}; or my.py:body (default: the first)",
    ),
    "steps": (natural, None, "number of steps (default: those of the experiment)"),
    "seed": (whole(0), 0, "seed of model and training"),
    "seeds": (natural, 1, "number of trials, each in a folder in DIR; --seed is the first"),
    "set": ([setting], None, f"change a setting, as in lr=0.004: {', '.join(SETTABLE)}"),
    "out": ("DIR", None, "write the results to DIR, a new folder"),
    "table": ("DIR", None, "show the results in the folders in DIR, one a line"),
    "resume": ("DIR", None, "resume the trial in DIR"),
}


@dataclass(frozen=True)
class Notes(Config):
    """Values that a run stores: its command, how far the sequences have grown, and its CPU time."""

    command: list[str]
    curriculum: Curriculum = field(default_factory=Curriculum)
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Errors(Config):
    """Errors in a ``result.json``, of which a table shows that of the test."""

    test: Real


@dataclass(frozen=True)
class Result(Config):
    """Values in a ``result.json`` that a table shows."""

    name: str
    model: str
    seed: Count
    trained_steps: Count
    metric: str
    errors: Errors
    blind: float = math.nan  # this and the next are not in old files
    set: list[tuple[str, float]] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="experiment, see --list")
    parser.add_argument("--list", action="store_true", help="show all experiments")
    add_options(parser, OPTIONS, defaults=False)


def run(args: argparse.Namespace) -> int:
    """Train and test; return 0, or 130 after Ctrl-C."""
    if args.list:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:32}{experiment.minutes:4g} min  {experiment.shows}")
        return 0
    given = {name: value for name, value in vars(args).items() if name in {"name", *OPTIONS}}
    given = {name: value for name, value in given.items() if value is not None}
    if "table" in given:
        _show_table(Path(given["table"]))
        return 0
    if ":" in (name := given.get("name", "")):
        EXPERIMENTS[name] = evaluated(name, {})
        check_kind(name, EXPERIMENTS[name], Experiment)
    if ":" in (body := given.get("model", "")):
        if not callable(layers := evaluated(body, {})):
            got = type(layers).__name__
            raise OptionError(
                f"--model: expected a function in {body} that makes layers; got {got}"
            )
        TASK_MODELS[body] = layers
    if "resume" in given:
        return _train(*_resume(given))
    seeds = given.pop("seeds", 1)
    for seed in range(first := given.get("seed", 0), first + seeds):
        folder = {"out": Path(given["out"], f"seed-{seed}")} if seeds > 1 and "out" in given else {}
        if code := _train(*_begin(given | {"seed": seed} | folder)):
            return code
    return 0


def _show_table(folder: Path) -> None:
    """Print the results in a folder and the folders in it."""
    files = [file for file in files_in(folder) if file.name == RESULT]
    if not files:
        raise OptionError(f"--table: expected a folder with results; no {RESULT} in {folder}")
    results = [*map(_read_result, files)]
    print(f"{'NAME':24} {'MODEL':16} {'SEED':>8} {'STEPS':>7} {'TEST':>7} {'BLIND':>7}  SET")
    for r in results:
        test, guess = (trials.score(r.metric, error) for error in (r.errors.test, r.blind))
        row = f"{r.name:24} {r.model:16} {r.seed:8} {r.trained_steps:7} {test:7.4f} {guess:7.4f}  "
        print(printable(row + " ".join(f"{name}={value:g}" for name, value in r.set)))


def _read_result(file: Path) -> Result:
    try:
        return Result.read(RESULT, read_values(file, RESULT), others=True)
    except CheckpointError as error:
        raise CheckpointError(f"{file.parent}: {error}") from None


def _train(
    chosen: dict[str, Any], state: TrainingState, curriculum: Curriculum, kept: Run | None
) -> int:
    """Train and test one model; return 0, or 130 after Ctrl-C."""
    spent = 0.0 if kept is None else kept.notes.get("cpu_seconds", 0.0)  # before it was resumed
    since = time.process_time() - spent
    experiment = _experiment(chosen)._replace(steps=chosen["steps"])
    number = state.model.num_parameters
    print(
        f"{chosen['name']}: {chosen['model']}, {number:,} parameters, {chosen['steps']:,} steps",
        file=sys.stderr,
    )
    with deferred_interrupt() as interrupted:
        for progress in trials.trial(experiment, state, curriculum, chosen["steps"]):
            if kept is not None:
                kept.notes["curriculum"] = curriculum.to_dict()
                kept.notes["cpu_seconds"] = time.process_time() - since
                kept.add(progress)
            if progress.validation is not None:
                print(_line(experiment, curriculum, progress), file=sys.stderr)
            if interrupted():
                break
        if kept is not None:
            kept.save()
        if interrupted():
            again = "not saved; --out DIR would save it"
            if kept is not None:
                folder = shlex.quote(str(kept.directory))
                again = f"resume with numpy-xlstm experiment --resume {folder}"
            display.say(f"interrupted after step {state.step}; {again}")
            return 130
    outcome = trials.result(experiment, chosen, state, curriculum)
    _report(outcome | {"cpu_seconds": round(time.process_time() - since, 3)}, kept)
    print(f"{state.step} steps, {state.elapsed:.0f} seconds")
    return 0


def _report(outcome: dict[str, Any], kept: Run | None) -> None:
    """Print the result of a trial; with a directory, write it there, and the picture."""
    metric = "rescaled accuracy" if outcome["metric"] == "accuracy" else outcome["metric"]
    for name, error in outcome["errors"].items():
        low, high = outcome["settings"][name]
        shown = trials.score(outcome["metric"], error)
        print(f"{metric} on lengths {low} to {high}: {shown:.4f}")
    guess = trials.score(outcome["metric"], outcome["blind"])
    print(f"{metric} of the best blind answer: {guess:.4f}")
    if kept is not None:
        write_text(kept.directory / RESULT, json.dumps(outcome, indent=1) + "\n")
        display.save_picture(
            kept.directory / CURVE, read_log(kept.log), "loss", "loss, validation error", {}
        )


def _complete(given: dict[str, Any]) -> dict[str, Any]:
    """Return name, model, seed and steps of a trial, with defaults where not given."""
    if given.get("name") is None:
        raise OptionError(f"NAME: expected one of {', '.join(EXPERIMENTS)}, or --list; got none")
    experiment = _experiment(given)
    chosen: dict[str, Any] = {"name": given["name"], "model": next(iter(experiment.models))}
    chosen |= {"seed": 0, "steps": experiment.steps, "set": []}
    chosen |= {name: value for name, value in given.items() if name in chosen}
    catalogue.known("--model", chosen["model"], experiment.models)
    return chosen


def _experiment(given: dict[str, Any]) -> Experiment:
    """Return an experiment with the settings of ``--set``."""
    name = catalogue.known("NAME", given["name"], EXPERIMENTS)
    return EXPERIMENTS[name]._replace(**dict(given.get("set", ())))


def _begin(given: dict[str, Any]) -> tuple[dict[str, Any], TrainingState, Curriculum, Run | None]:
    """Begin a trial; return all its options, and its directory if there is one."""
    chosen = _complete(given)
    if "out" in given and Path(given["out"]).is_file():
        raise OptionError(f"--out: expected a folder; {given['out']} is a file")
    state = trials.begin(_experiment(chosen), chosen["model"], chosen["seed"])
    if "out" not in given:
        return chosen, state, Curriculum(), None
    notes = Notes(_words(chosen))
    run = Run.begin(given["out"], state, notes=notes.to_dict())
    return chosen, state, notes.curriculum, run


def _words(chosen: dict[str, Any]) -> list[str]:
    options = {name: value for name, value in chosen.items() if name not in ("name", "set")}
    return [chosen["name"], *as_words(options), *(f"--set={k}={v}" for k, v in chosen["set"])]


def _resume(given: dict[str, Any]) -> tuple[dict[str, Any], TrainingState, Curriculum, Run]:
    """Resume the trial in a directory with its options."""
    if foreign := given.keys() - {"resume", "name", "model", "steps"}:
        raise OptionError(f"--resume: expected only --steps and --model; got {flags(foreign)}")
    kept = Run.resume(given["resume"])
    notes = read_notes(Notes, kept)
    chosen = parse_stored(notes.command, add_arguments, _complete)
    for name in ("name", "model"):
        if (asked := given.get(name, chosen[name])) != (got := chosen[name]):
            raise OptionError(f"--resume: expected a trial of {asked}; got one of {got}")
    if "steps" in given:
        chosen["steps"] = given["steps"]
        kept.notes["command"] = _words(chosen)
        kept.save()
    return chosen, kept.state, notes.curriculum, kept


def _line(experiment: Experiment, curriculum: Curriculum, progress: Progress) -> str:
    """Return the line that is printed after each validation."""
    low, high = experiment.test
    assert progress.validation is not None
    error = trials.score(experiment.metric, progress.validation)
    return (
        f"step {progress.step}  {progress.elapsed:.0f} s  lengths {experiment.train[0]} to "
        f"{curriculum.longest(experiment)}  loss {progress.loss:.3f}  {experiment.metric} on "
        f"{low} to {high}: {error:.4f}"
    )
