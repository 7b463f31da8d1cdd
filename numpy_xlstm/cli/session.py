"""A training of ``numpy-xlstm train``, as it begins or goes on."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy_xlstm.cli import building
from numpy_xlstm.cli.recipes import OPTIMIZER, complete, flag
from numpy_xlstm.cli.train_options import DEFAULT_MINUTES
from numpy_xlstm.errors import CheckpointError, OptionError, TextError

if TYPE_CHECKING:
    from numpy_xlstm.experiments import Run, TextSplit
    from numpy_xlstm.generation import Tokenizer
    from numpy_xlstm.training import TrainingState

BUDGET = ("steps", "minutes")
SAMPLE = ("sample_length", "temperature", "prompt")
NOT_STORED = {"given", "out", "resume", "run"}
"""What of the options is no part of the training, nor of its end."""


class Session(NamedTuple):
    """A training that is about to begin or to go on."""

    args: argparse.Namespace
    split: "TextSplit"
    state: "TrainingState"
    run: "Run | None"
    """Its directory, if it has one."""


def begin(args: argparse.Namespace) -> Session:
    """Build all that the options ask for, and the directory if there is to be one."""
    import numpy as np

    from numpy_xlstm.experiments import Run, read_text, split_text
    from numpy_xlstm.training import AdamW, TrainingState, decay_rule

    complete(args)
    if args.minutes is None and args.steps is None:
        args.minutes = DEFAULT_MINUTES
    text = read_text(args.file)
    split = split_text(text, args.window, _tokenizer(args.tokenizer))
    _check(args, split)
    rng = np.random.default_rng(args.seed)
    model = building.build(args, split.tokenizer.size, rng)
    options = {"lr": args.lr, "weight_decay": args.weight_decay, **OPTIMIZER[args.model]}
    optimizer = AdamW(model.params, decays=decay_rule(model), **options)
    state = TrainingState(model, optimizer, rng)
    if args.out is None:
        return Session(args, split, state, None)
    notes = {"options": _stored(args), "text": _fingerprint(text)}
    run = Run.begin(
        args.out, state, tokenizer=split.tokenizer, notes=notes, save_every=args.save_every
    )
    return Session(args, split, state, run)


def resume(args: argparse.Namespace) -> Session:
    """Take up what is in a directory, with the options that it began with."""
    from numpy_xlstm.experiments import Run, read_text, split_text

    allowed = {flag(name) for name in ("resume", *BUDGET, *SAMPLE)}
    if foreign := sorted(args.given - allowed):
        raise OptionError(
            f"--resume: expected no other options than {', '.join(sorted(allowed))}, the rest are "
            f"those of the run; got {', '.join(foreign)}"
        )
    run = Run.resume(args.resume)
    if not {"options", "text"} <= run.notes.keys():
        raise CheckpointError(f"{args.resume}: expected a run of the train command; got another")
    stored = run.notes["options"]
    changed = _raised(args, stored) | ({"file": _absolute(args.file)} if args.file else {})
    sample = {name: getattr(args, name) for name in SAMPLE if flag(name) in args.given}
    args = argparse.Namespace(**vars(args) | stored | changed | sample)
    text = read_text(args.file)
    _check_fingerprint(_fingerprint(text), run.notes["text"])
    run.save_every = args.save_every
    if changed:
        run.notes["options"] = _stored(args)
        run.save()
    return Session(args, split_text(text, args.window, run.tokenizer), run.state, run)


def prompt_of(args: argparse.Namespace, split: "TextSplit") -> str:
    """Return what the sample continues: the prompt, or how the held-out part begins.

    Raises
    ------
    OptionError
        If it cannot be continued.
    """
    from numpy_xlstm.generation import check_prompt

    prompt = _first(split) if args.prompt is None else str(args.prompt)
    check_prompt(prompt, split.tokenizer)
    return prompt


def _first(split: "TextSplit") -> str:
    """The first character of the held-out part that is known, or the text of its first token."""
    from numpy_xlstm.generation import CharacterTokenizer, StreamDecoder

    if isinstance(split.tokenizer, CharacterTokenizer):
        known = set(split.tokenizer.symbols)
        return next(character for character in split.validation + split.train if character in known)
    decoder = StreamDecoder(split.tokenizer)
    pieces = (decoder.push(int(token)) for token in split.validation_ids)
    return next((piece for piece in pieces if piece), "")


def _tokenizer(name: str) -> "Tokenizer | None":
    """Return the tokenizer of that name; None stands for that of the text's characters."""
    from numpy_xlstm.generation import ByteTokenizer, HuggingFaceTokenizer

    if name == "characters":
        return None
    if name == "bytes":
        return ByteTokenizer()
    if not Path(name).is_file():
        raise OptionError(
            f"--tokenizer: expected characters, bytes or a tokenizer.json; {name} is no file"
        )
    return HuggingFaceTokenizer.from_file(name)


def _check(args: argparse.Namespace, split: "TextSplit") -> None:
    """Raise an error for options that do not fit each other or the text, before anything begins."""
    if args.save_every is not None and args.out is None:
        raise OptionError("--save-every: expected --out too, where to save; got none")
    if args.processes * args.accumulate > args.batch_size:
        raise OptionError(
            f"--accumulate, --processes: expected at most as many parts as the batch size "
            f"{args.batch_size}; got {args.processes * args.accumulate}"
        )
    if args.tbptt and len(split.train_ids) <= args.batch_size:
        raise TextError(
            f"text: expected more tokens to learn from than the {args.batch_size} rows of "
            f"--tbptt; got {len(split.train_ids)}"
        )
    prompt_of(args, split)


def _stored(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that the training depends on, as a checkpoint holds them."""
    options = {name: value for name, value in vars(args).items() if name not in NOT_STORED}
    return options | {"file": _absolute(args.file)}


def _absolute(file: str | None) -> str | None:
    return None if file is None else str(Path(file).absolute())


def _raised(args: argparse.Namespace, stored: dict[str, Any]) -> dict[str, Any]:
    """The budget that is given, if one is: it takes the place of the run's."""
    given = {name: getattr(args, name) for name in BUDGET}
    for name, value in given.items():
        if value is not None and stored[name] is not None and value < stored[name]:
            raise OptionError(
                f"--{name}: expected at least the {stored[name]} of the run; got {value}"
            )
    return given if any(value is not None for value in given.values()) else {}


def _fingerprint(text: str) -> dict[str, Any]:
    from hashlib import sha256

    return {"sha256": sha256(text.encode("utf-8")).hexdigest(), "characters": len(text)}


def _check_fingerprint(got: dict[str, Any], expected: dict[str, Any]) -> None:
    if got != expected:
        described = (
            f"{d['characters']:,} characters, SHA-256 {d['sha256']}" for d in (expected, got)
        )
        raise TextError(
            "text: expected the text of the run, {}; got another, {}".format(*described)
        )
