"""``numpy-xlstm experiment``: train a small model on a task of the xLSTM paper, and test it."""

import argparse
import json
import shlex
import sys
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
    whole,
)
from numpy_xlstm.cli.signals import deferred_interrupt
from numpy_xlstm.cli.train import read_notes
from numpy_xlstm.config import Config
from numpy_xlstm.disk import write_text
from numpy_xlstm.errors import OptionError
from numpy_xlstm.experiments import catalogue, trials
from numpy_xlstm.experiments.catalogue import EXPERIMENTS, Experiment
from numpy_xlstm.experiments.small_models import ABLATION, HEADS, TASK_MODELS
from numpy_xlstm.experiments.trials import Curriculum
from numpy_xlstm.training import Progress, Run, TrainingState, read_log
from numpy_xlstm.training.run import CURVE, RESULT

DESCRIPTION = """\
Train a small model on a task, with sequences that grow while it learns, and test it on other
sequences, of the trained lengths and of longer ones. The training ends when the task is solved, or
after the steps of the experiment. The result is an accuracy (rescaled so that guessing gives 0), a
squared error, or the bits per byte.

With --out, DIR gets result.json, curve.svg and log.jsonl, and the complete state every minute.
After any interruption, --resume continues from there, and the result is the same."""

OPTIONS: dict[str, Option] = {
    "model": (
        "NAME",
        None,
        f"{', '.join(TASK_MODELS)}; for the experiment ablation: {', '.join(ABLATION)}; "
        f"for capacity: {', '.join(HEADS)} (default: the first)",
    ),
    "steps": (natural, None, "number of steps (default: those of the experiment)"),
    "seed": (whole(0), 0, "seed of model and training"),
    "out": ("DIR", None, "write the results to DIR, a new folder"),
    "resume": ("DIR", None, "resume the trial in DIR"),
}


@dataclass(frozen=True)
class Notes(Config):
    """Values that a run stores: the command that began it, and how far the sequences have grown."""

    command: list[str]
    curriculum: Curriculum = field(default_factory=Curriculum)


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
    chosen, state, curriculum, kept = _resume(given) if "resume" in given else _begin(given)
    experiment = catalogue.find(chosen["name"])
    number = state.model.num_parameters
    print(
        f"{chosen['name']}: {chosen['model']}, {number:,} parameters, {chosen['steps']:,} steps",
        file=sys.stderr,
    )
    with deferred_interrupt() as interrupted:
        for progress in trials.trial(experiment, state, curriculum, chosen["steps"]):
            if kept is not None:
                kept.notes["curriculum"] = curriculum.to_dict()
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
    _report(trials.result(experiment, chosen, state, curriculum), kept)
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
    print(f"{metric} of the test for answers that do not read the row: {guess:.4f}")
    if kept is not None:
        write_text(kept.directory / RESULT, json.dumps(outcome, indent=1) + "\n")
        display.save_picture(
            kept.directory / CURVE, read_log(kept.log), "loss", "loss, validation error", {}
        )


def _complete(given: dict[str, Any]) -> dict[str, Any]:
    """Return name, model, seed and steps of a trial, with defaults where not given."""
    if given.get("name") is None:
        raise OptionError(f"NAME: expected one of {', '.join(EXPERIMENTS)}, or --list; got none")
    experiment = catalogue.find(given["name"])
    chosen: dict[str, Any] = {"name": given["name"], "model": next(iter(experiment.models))}
    chosen |= {"seed": 0, "steps": experiment.steps}
    chosen |= {name: value for name, value in given.items() if name in chosen}
    catalogue.known("--model", chosen["model"], experiment.models)
    return chosen


def _begin(given: dict[str, Any]) -> tuple[dict[str, Any], TrainingState, Curriculum, Run | None]:
    """Begin a trial; return all its options, and its directory if there is one."""
    chosen = _complete(given)
    if "out" in given and Path(given["out"]).is_file():
        raise OptionError(f"--out: expected a folder; {given['out']} is a file")
    state = trials.begin(catalogue.find(chosen["name"]), chosen["model"], chosen["seed"])
    if "out" not in given:
        return chosen, state, Curriculum(), None
    options = {name: value for name, value in chosen.items() if name != "name"}
    notes = Notes([chosen["name"], *as_words(options)])
    run = Run.begin(given["out"], state, notes=notes.to_dict())
    return chosen, state, notes.curriculum, run


def _resume(given: dict[str, Any]) -> tuple[dict[str, Any], TrainingState, Curriculum, Run]:
    """Resume the trial in a directory with its options."""
    if foreign := given.keys() - {"resume", "name"}:
        raise OptionError(
            f"--resume: expected no other options, because the trial has them; got {flags(foreign)}"
        )
    kept = Run.resume(given["resume"])
    notes = read_notes(Notes, kept)
    chosen = parse_stored(notes.command, add_arguments, _complete)
    if given.get("name", chosen["name"]) != chosen["name"]:
        raise OptionError(
            f"--resume: expected a trial of {given['name']}; got one of {chosen['name']} in "
            f"{kept.directory}"
        )
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
