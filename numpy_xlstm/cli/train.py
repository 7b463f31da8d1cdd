"""``numpy-xlstm train``: learn to continue a text, and tell how well."""

import argparse
import math
from typing import TYPE_CHECKING, Any

from numpy_xlstm.cli.options import real, whole

if TYPE_CHECKING:
    import numpy as np

    from numpy_xlstm.experiments import TextSplit
    from numpy_xlstm.models import LanguageModel
    from numpy_xlstm.training import Budget, Progress

DESCRIPTION = """\
Train a character-level language model on a text: embedding, one recurrent cell, linear layer.
The last tenth of the text is held out. At the end its bits per character are shown beside the
unigram and bigram entropy of that same part, and a sample is drawn. Ctrl-C ends the training
early and still shows both."""

EPILOG = """\
While training, |g| is the norm of the gradient before it is clipped. The arithmetic is NumPy's:
beside other busy programs its own threads can get in each other's way, and then
OPENBLAS_NUM_THREADS=1 in the environment makes training many times faster."""

DEFAULT_HEADS = {"slstm": 4, "mlstm": 16}
DEFAULT_MINUTES = 3.0
size = whole(1, 10**6)


class _Defaults(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows defaults, but for options that have none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "train",
        help="train a character-level language model on a text",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_Defaults,
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="a UTF-8 text (default: the language reference that CPython ships, 0.5 MB)",
    )
    _add_model_options(parser.add_argument_group("model"))
    _add_training_options(parser.add_argument_group("training"))
    _add_sample_options(parser.add_argument_group("sample"))
    parser.set_defaults(run=run)


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--cell", choices=("lstm", "slstm", "mlstm"), default="slstm", help="recurrent cell")
    add(
        "--hidden-size",
        type=size,
        default=256,
        metavar="N",
        help="width of the cell",
    )
    add(
        "--embedding-size",
        type=size,
        default=64,
        metavar="N",
        help="width of a character",
    )
    add(
        "--heads",
        type=whole(1),
        metavar="N",
        help="a divisor of the hidden size (default: 4 for sLSTM, 16 for mLSTM, if it divides)",
    )
    add(
        "--forget-gate",
        choices=("sigmoid", "exp"),
        help="forget gate of sLSTM and mLSTM (default: sigmoid)",
    )
    add(
        "--input-gate",
        choices=("exp", "sigmoid"),
        help="input gate of mLSTM (default: exp)",
    )
    add("--dtype", choices=("float32", "float64"), default="float32", help="precision")


def _add_training_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--batch-size",
        type=size,
        default=16,
        metavar="N",
        help="windows per step",
    )
    add(
        "--window",
        type=size,
        default=128,
        metavar="N",
        help="characters per window",
    )
    add("--lr", type=real(0, exclusive=True), default=1e-2, metavar="X", help="peak learning rate")
    add("--weight-decay", type=real(0), default=0.01, metavar="X", help="AdamW's decay")
    add("--clip", type=real(0), default=1.0, metavar="X", help="largest gradient norm; 0: no limit")
    add(
        "--steps",
        type=whole(1),
        metavar="N",
        help="stop after N steps (default: no limit); alone, it makes a run repeatable bit for bit",
    )
    add(
        "--minutes",
        type=real(0, exclusive=True),
        metavar="X",
        help=f"stop after X minutes (default: {DEFAULT_MINUTES:g}, or no limit with --steps)",
    )
    add("--seed", type=whole(0), default=0, metavar="N", help="seed of all that is random")


def _add_sample_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--sample-length", type=whole(0), default=500, metavar="N", help="characters to generate")
    add(
        "--temperature",
        type=real(0),
        default=0.8,
        metavar="X",
        help="1 samples what the model believes, less is bolder, 0 takes the likeliest",
    )
    add(
        "--prompt",
        metavar="TEXT",
        help="what the sample continues (default: the first character of the held-out part)",
    )


def run(args: argparse.Namespace) -> int:
    """Train as told; returns 0, or 130 if Ctrl-C ended the training."""
    import numpy as np

    from numpy_xlstm.cli.display import show_setup
    from numpy_xlstm.experiments import read_text, split_text

    split = split_text(read_text(args.file), args.window)
    prompt = _prompt(args, split)
    rng = np.random.default_rng(args.seed)
    model = _build(args, split, rng)
    show_setup(args.cell, model, split)
    progress, interrupted = _train(args, model, split, rng)
    _report(args, model, split, progress)
    _sample(args, model, split, prompt, rng)
    return 130 if interrupted else 0


def _prompt(args: argparse.Namespace, split: "TextSplit") -> str:
    from numpy_xlstm.experiments.generation import check_prompt

    if args.prompt is not None:
        check_prompt(args.prompt, split.vocabulary)
        return str(args.prompt)
    known = set(split.vocabulary.symbols)
    return next(character for character in split.validation + split.train if character in known)


def _build(
    args: argparse.Namespace, split: "TextSplit", rng: "np.random.Generator"
) -> "LanguageModel":
    from numpy_xlstm.experiments import build_model

    heads = args.heads
    if heads is None and args.cell in DEFAULT_HEADS:
        heads = math.gcd(DEFAULT_HEADS[args.cell], args.hidden_size)
    return build_model(
        args.cell,
        split.vocabulary.size,
        embedding_size=args.embedding_size,
        hidden_size=args.hidden_size,
        dtype=args.dtype,
        rng=rng,
        num_heads=heads,
        forget_gate=args.forget_gate,
        input_gate=args.input_gate,
    )


def _budget(args: argparse.Namespace) -> "Budget":
    from numpy_xlstm.training import Budget

    minutes = args.minutes
    if minutes is None and args.steps is None:
        minutes = DEFAULT_MINUTES
    return Budget(args.steps, None if minutes is None else 60 * minutes)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    from numpy_xlstm.training import warmup_cosine

    return {
        "batch_size": args.batch_size,
        "window": args.window,
        "lr": args.lr,
        "weight_decay": args.weight_decay,
        "max_norm": args.clip or float("inf"),
        "schedule": warmup_cosine(),
    }


def _train(
    args: argparse.Namespace,
    model: "LanguageModel",
    split: "TextSplit",
    rng: "np.random.Generator",
) -> tuple["Progress | None", bool]:
    """Train and show it; returns the last progress and whether Ctrl-C came."""
    from numpy_xlstm.cli.display import progress_display
    from numpy_xlstm.cli.interrupt import deferred_interrupt
    from numpy_xlstm.experiments import learn

    records = learn(model, split, _budget(args), rng=rng, **_options(args))
    progress = None
    with deferred_interrupt() as interrupted, progress_display() as show:
        for record in records:
            progress = record.progress
            show(record)
            if interrupted():
                break
        return progress, interrupted()


def _report(
    args: argparse.Namespace,
    model: "LanguageModel",
    split: "TextSplit",
    progress: "Progress | None",
) -> None:
    from numpy_xlstm.cli.display import show_results
    from numpy_xlstm.experiments import bigram_entropy, unigram_entropy, validation_bits

    bits = {
        "unigram entropy": unigram_entropy(split.validation),
        "bigram entropy": bigram_entropy(split.validation),
        f"{args.cell} model": validation_bits(model, split.validation_ids),
    }
    show_results(bits, progress)


def _sample(
    args: argparse.Namespace,
    model: "LanguageModel",
    split: "TextSplit",
    prompt: str,
    rng: "np.random.Generator",
) -> None:
    from numpy_xlstm.cli.display import show_sample
    from numpy_xlstm.experiments import generate

    if args.sample_length:
        vocabulary, length = split.vocabulary, args.sample_length
        options = {"temperature": args.temperature, "rng": rng}
        show_sample(prompt, generate(model, vocabulary, prompt, length, **options))
