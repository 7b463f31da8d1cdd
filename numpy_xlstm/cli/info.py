"""``numpy-xlstm info``: what is in a checkpoint."""

import argparse

from numpy_xlstm.checkpoints import load_checkpoint

DESCRIPTION = """\
Show the parameters of a checkpoint as a tree, with their shapes and how many numbers they hold, and
where its training stands."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a file that training has saved")


def run(args: argparse.Namespace) -> int:
    """Print the tree, and what is known of the model and its training beside that."""
    checkpoint = load_checkpoint(args.checkpoint)
    model, training, tokenizer = checkpoint.model, checkpoint.training, checkpoint.tokenizer
    found = {"dtype": model.dtype.name, "parameters": f"{model.num_parameters:,}"}
    for name in ("step", "tokens"):
        if name in training:
            found[name] = f"{training[name]:,}"
    if validations := training.get("validations"):
        step, bits = validations[-1]
        found["validation"] = f"{bits:.3f} bits/char after step {step:,}"
    if tokenizer is not None:
        found["tokenizer"] = f"{type(tokenizer).__name__}, {tokenizer.size:,} ids"
    print(model)
    for name, value in found.items():
        print(f"{name:10} {value}")
    return 0
