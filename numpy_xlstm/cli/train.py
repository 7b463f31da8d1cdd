"""``numpy-xlstm train``: learn to continue a text, and tell how well."""

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from numpy_xlstm.cli import building
from numpy_xlstm.cli.recipes import FINAL
from numpy_xlstm.cli.session import Session, begin, prompt_of, resume
from numpy_xlstm.cli.train_options import DEFAULT_VALIDATE_EVERY, Defaults, add_options
from numpy_xlstm.errors import MissingExtraError

if TYPE_CHECKING:
    from numpy_xlstm.experiments import Run
    from numpy_xlstm.training import Budget, TrainingState, Workers

DESCRIPTION = """\
Train a language model on a text: one recurrent cell between embedding and linear layer, the xLSTM
of the first paper, or the architecture of xLSTM 7B. The last tenth of the text is held out. At the
end its bits per character are shown beside the unigram and bigram entropy of that same part, and a
sample is drawn. Ctrl-C ends the training early and still shows both.

With --out, all that the training depends on is saved now and then and at the end. Whatever ends it,
--resume goes on from there; with --steps alone, bit for bit as if nothing had happened. The model
of the best validation is in best.npz."""

EPILOG = """\
While training, |g| is the norm of the gradient before it is clipped. The arithmetic is NumPy's:
beside other busy programs its own threads can get in each other's way, and then
OPENBLAS_NUM_THREADS=1 in the environment makes training many times faster."""

PICTURE = "loss.svg"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "train",
        help="train a language model on a text",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=Defaults,
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train as told; returns 0, or 130 if Ctrl-C ended the training."""
    from numpy_xlstm.cli.display import show_setup

    session = begin(args) if args.resume is None else resume(args)
    prompt = prompt_of(session.args, session.split)
    model = session.state.model
    show_setup(building.describe(session.args, model), model, session.split)
    interrupted = _train(session)
    _report(session)
    _sample(session, prompt)
    return 130 if interrupted else 0


def _budget(args: argparse.Namespace) -> "Budget":
    from numpy_xlstm.training import Budget

    return Budget(args.steps, None if args.minutes is None else 60 * args.minutes)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    from numpy_xlstm.training import warmup_cosine

    validate_every = args.validate_every
    if validate_every is None and args.minutes is None:
        validate_every = DEFAULT_VALIDATE_EVERY
    return {
        "batch_size": args.batch_size,
        "window": args.window,
        "carry": args.tbptt,
        "max_norm": args.clip or float("inf"),
        "schedule": warmup_cosine(args.warmup, FINAL if args.schedule == "cosine" else 1.0),
        "accumulate": args.accumulate,
        "recompute": args.recompute,
        "validate_every": validate_every,
    }


def _train(session: Session) -> bool:
    """Train, show it and save it; returns whether Ctrl-C came."""
    from numpy_xlstm.cli.display import progress_display
    from numpy_xlstm.cli.interrupt import deferred_interrupt
    from numpy_xlstm.experiments import learn

    args, split, state, run = session
    with (
        _workers(session) as workers,
        deferred_interrupt() as interrupted,
    ):
        records = learn(state, split, _budget(args), workers=workers, **_options(args))
        with progress_display() as show:
            for record in records:
                if run is not None:
                    run.add(record)
                show(record)
                if interrupted():
                    break
        if run is not None:
            run.save()
            if interrupted():
                again = f"numpy-xlstm train --resume {run.directory}"
                print(f"saved after step {state.step}; {again} goes on", file=sys.stderr)
        return interrupted()


def _workers(session: Session) -> "AbstractContextManager[Workers | None]":
    from numpy_xlstm.training import Workers

    count = session.args.processes
    return nullcontext() if count == 1 else Workers(session.state.model, count)


def _report(session: Session) -> None:
    from numpy_xlstm.cli.display import show_results
    from numpy_xlstm.experiments import bigram_entropy, unigram_entropy, validation_bits

    args, split, state, run = session
    levels = {
        "unigram entropy": unigram_entropy(split.validation),
        "bigram entropy": bigram_entropy(split.validation),
    }
    step, bits = state.validations[-1] if state.validations else (-1, 0.0)
    if step != state.step:
        ids, characters = split.validation_ids, len(split.validation)
        bits = validation_bits(state.model, ids, characters=characters)
    name = f"{building.name(args)} model"
    show_results(levels | {name: bits} | _best(name, bits, state), state)
    if run is not None:
        _draw(run, levels)


def _best(name: str, bits: float, state: "TrainingState") -> dict[str, float]:
    """The best validation, if it is not the last one."""
    step, best = min(state.validations, key=itemgetter(1), default=(0, bits))
    return {f"{name}, step {step:,}": best} if best < bits else {}


def _draw(run: "Run", levels: dict[str, float]) -> None:
    from numpy_xlstm.cli.picture import save_loss_picture
    from numpy_xlstm.experiments.run import read_log

    try:
        save_loss_picture(run.directory / PICTURE, read_log(run.log), levels)
    except MissingExtraError as error:
        print(f"no {PICTURE}: {error}", file=sys.stderr)


def _sample(session: Session, prompt: str) -> None:
    from numpy_xlstm.cli.display import show_sample
    from numpy_xlstm.generation import Sampling, generate

    args, split, state, _ = session
    if args.sample_length:
        sampling, length = Sampling(args.temperature), args.sample_length
        options: dict[str, Any] = {"length": length, "sampling": sampling, "rng": state.rng}
        show_sample(prompt, generate(state.model, split.tokenizer, prompt, **options))
