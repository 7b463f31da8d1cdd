"""``numpy-xlstm train``: train a language model on a text, and evaluate it."""

import argparse
import shlex
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from numpy_xlstm import generation, training
from numpy_xlstm.checkpoints import Pretrained
from numpy_xlstm.cli import display
from numpy_xlstm.cli import options as command
from numpy_xlstm.cli.arguments import flags
from numpy_xlstm.cli.language_models import build, open_language_model
from numpy_xlstm.cli.signals import deferred_interrupt
from numpy_xlstm.config import Config
from numpy_xlstm.errors import CheckpointError, DivergenceError, OptionError, TextError
from numpy_xlstm.generation.tokenizers import REPLACEMENT
from numpy_xlstm.models import BlockStack
from numpy_xlstm.training import Run, TextSplit, TrainingState, ranks
from numpy_xlstm.training.run import PICTURE

DESCRIPTION = """\
Train a language model on a text: one recurrent cell between embedding and linear layer, the
architecture of the xLSTM paper, or that of xLSTM 7B. With --from, a trained model of this package,
of transformers or of xlstm is fine-tuned, with its tokenizer. Several texts are joined in order.
Without --validation, the last tenth of the text, at most 100,000 characters, is held out. At the
end, the bits per character of the held-out text are shown together with its unigram and bigram
entropy, and a sample is drawn. Ctrl-C ends the training early, with results and sample.

With --out, the complete state of the training is saved every minute and at the end. After any
interruption, --resume continues from there with the same options; without a time limit, the result
is bit for bit that of an uninterrupted training. When resuming, the budget can be increased with
--steps or --minutes, --lr and --patience changed, and a new location of the texts given as TEXT and
--validation. The model of the best validation is in best.safetensors."""

EPILOG = """\
With the extra mpi, "mpiexec -n 2 numpy-xlstm train ..." splits each batch between two
processes; there may be as many processes as a batch has rows. |g| is the norm of the gradient
before clipping."""

MAX_TOKENS = 2**20
"""Largest number of tokens that are processed at a time."""


@dataclass(frozen=True)
class Notes(Config):
    """Values that a run stores: the command that began it, and the fingerprint of its text."""

    command: list[str]
    text: str


Stored = TypeVar("Stored", bound=Config)
Session = tuple[argparse.Namespace, TextSplit, TrainingState, Run | None]
"""A training that is about to begin or to be resumed, and its directory if it has one."""


def _texts(options: argparse.Namespace) -> tuple[str, str | None, dict[str, int]]:
    """Read the texts: return them joined, the one for validation, and the sizes of all."""
    texts: dict[Any, str] = training.read_texts(options.texts)
    texts = texts or {"the text of Python's help()": training.default_text()}
    sizes, validation = {str(path): len(text) for path, text in texts.items()}, None
    if options.validation is not None:
        validation = "".join(training.read_texts([options.validation]).values())
        sizes[f"{options.validation}, for validation"] = len(validation)
    return "".join(texts.values()), validation, sizes


def fingerprint(text: str, validation: str | None = None) -> str:
    """Return facts about the texts of a training, by which they are recognised."""
    facts = f"{len(text):,} characters, SHA-256 {sha256(text.encode()).hexdigest()}"
    return facts if validation is None else f"{facts}; for validation {fingerprint(validation)}"


add_arguments = command.add_arguments


def run(args: argparse.Namespace) -> int:
    """Train; return 0, or 130 after Ctrl-C."""
    given = {name: value for name, value in vars(args).items() if name in command.NAMES}
    comm = ranks.world()
    with nullcontext() if ranks.writes(comm) else display.silence():
        return _run(given, comm)


def _run(given: dict[str, Any], comm: ranks.Comm | None) -> int:
    ranks.check_same(comm, options=given)
    session, prompt, sizes = _resume(given, comm) if "resume" in given else _begin(given, comm)
    options, split, state, run = session
    description = (
        options.cell or options.model or f"{type(state.model).__name__} of {options.from_}"
    )
    display.show_setup(description, state.model, split, sizes)
    interrupted = _train(session, comm)
    _report(session, comm)
    if options.sample_length and ranks.writes(comm):
        drawn = {"max_new_tokens": options.sample_length, "temperature": options.temperature}
        known: Any = {"do_sample": True, "rng": state.rng}
        drawing = generation.stream(state.model, split.tokenizer, prompt, **drawn, **known)
        pieces: Iterable[str] = chain(["\nsample:\n", prompt], drawing, ["\n"])
        for piece in pieces if comm is None else ["".join(pieces)]:  # mpiexec tears short writes
            print(display.shown(piece), end="", flush=True)
    if run is None:
        display.say("the model is not saved; --out DIR would save it")
    return 130 if interrupted else 0


def _begin(given: dict[str, Any], comm: ranks.Comm | None) -> tuple[Session, str, dict[str, int]]:
    options = command.begin(given)
    if options.save_every is not None and options.out is None:
        raise OptionError("--save-every: expected --out DIR too; got none")
    if options.out is not None and Path(options.out).is_file():
        raise OptionError(f"--out: expected a folder; {options.out} is a file")
    pretrained = None if options.from_ is None else open_language_model(Path(options.from_))
    text, validation, sizes = _texts(options)
    tokenizer = _tokenizer(options.tokenizer, pretrained)
    split = training.split_text(text, options.window, tokenizer, validation=validation)
    own = pretrained.load_tokenizer() if pretrained and options.tokenizer else None
    if own not in (None, split.tokenizer):
        expected = "the tokenizer that the model of --from was trained with; omit --tokenizer"
        raise OptionError(f"tokenizer: expected {expected}; got {options.tokenizer}, another one")
    prompt = _checked_prompt(options, split, comm)
    rng = np.random.default_rng(options.seed)
    model = build(options, split.tokenizer.size, rng, pretrained)
    recipe: Any = {"lr": options.lr, "weight_decay": options.weight_decay}
    if isinstance(model.body, BlockStack):
        recipe |= {"betas": (0.9, 0.95), "eps": 1e-5}  # as in the official training of xLSTM
    optimizer = training.AdamW(model.params, decays=training.decay_rule(model), **recipe)
    state, run = TrainingState(model, optimizer, rng), None
    if options.out is not None:
        notes = Notes(command.stored(options), fingerprint(text, validation)).to_dict()
        kept: Any = {"tokenizer": split.tokenizer, "notes": notes, "save_every": options.save_every}
        run = Run.begin(options.out, state, comm=comm, **kept)
    return (options, split, state, run), prompt, sizes


def _resume(given: dict[str, Any], comm: ranks.Comm | None) -> tuple[Session, str, dict[str, int]]:
    if foreign := given.keys() - command.AT_RESUME - {"texts", "resume"}:
        raise OptionError(
            f"--resume: expected no other options than TEXT, {flags(command.AT_RESUME)}, because "
            f"the run has the others; got {flags(foreign)}"
        )
    run = Run.resume(given["resume"], comm=comm)
    notes = read_notes(Notes, run)
    options = command.resumed(notes.command, given)
    text, validation, sizes = _texts(options)
    if (got := fingerprint(text, validation)) != notes.text:
        another = f"got another, {got}; to train the model on another text, use --from"
        raise TextError(f"text: expected the text of the run, {notes.text}; {another}")
    split = training.split_text(text, options.window, run.tokenizer, validation=validation)
    prompt = _checked_prompt(options, split, comm)
    run.save_every = options.save_every
    if "lr" in given:
        run.state.optimizer.lr = options.lr
    if given.keys() & {"steps", "minutes", "patience", "lr", "texts", "validation"}:
        run.notes["command"] = command.stored(options)
        run.save()
    return (options, split, run.state, run), prompt, sizes


def read_notes(kind: type[Stored], run: Run) -> Stored:
    """Return the notes of a run, or raise :class:`CheckpointError` if they are of another kind."""
    try:
        return kind.from_dict(run.notes)
    except OptionError as error:
        raise CheckpointError(
            f"{run.directory}: expected a run of this command; got another ({error})"
        ) from error


def _tokenizer(name: str | None, pretrained: Pretrained | None) -> Any:
    """Return the tokenizer of the checkpoint or with this name, for :func:`split_text`."""
    expected = "expected characters, bytes, bpe:N with N from 257 to 100,000, or a tokenizer.json"
    if name is None:
        tokenizer = None if pretrained is None else pretrained.load_tokenizer()
        if tokenizer is None:
            raise OptionError(f"tokenizer: {expected}, because the model of --from has none")
        return tokenizer
    if name in ("characters", "bytes"):
        return None if name == "characters" else generation.ByteTokenizer()
    kind, _, size = name.partition(":")
    if kind == "bpe" and size in map(str, range(257, 100_001)):
        return partial(generation.HuggingFaceTokenizer.learn, size=int(size))
    if not Path(name).is_file():
        raise OptionError(f"tokenizer: {expected}; {name} is none of these")
    return generation.HuggingFaceTokenizer.from_file(name)


def _checked_prompt(options: argparse.Namespace, split: TextSplit, comm: ranks.Comm | None) -> str:
    """Return the prompt of the sample, or raise an error for options that do not fit the text."""
    ranks.check_ranks(options.batch_size, options.accumulate, comm)
    if options.batch_size * options.window > MAX_TOKENS * options.accumulate:
        raise OptionError(
            f"batch_size: expected at most {MAX_TOKENS:,} tokens in a part of a batch; got "
            f"{options.batch_size:,} windows of {options.window:,} in {options.accumulate:,} parts"
        )
    if options.tbptt and len(split.train_ids) <= options.batch_size:
        raise TextError(
            f"text: expected more training tokens than the {options.batch_size} rows of "
            f"--tbptt; got {len(split.train_ids)}"
        )
    if options.prompt is not None:
        prompt = str(options.prompt)
    else:
        decoder = generation.StreamDecoder(split.tokenizer)
        pieces = (decoder.push(int(token)) for token in split.validation_ids)
        prompt = next((piece for piece in pieces if piece.strip(REPLACEMENT)), "")
    generation.checked_prompt(prompt, split.tokenizer)
    return prompt


def _train(session: Session, comm: ranks.Comm | None) -> bool:
    """Train, show progress and save; return whether Ctrl-C was pressed."""
    options, split, state, run = session
    seconds = None if options.minutes is None else 60 * options.minutes
    budget = training.Budget(options.steps, seconds)
    if budget.fraction(state.step, state.elapsed) >= 1 or state.is_stale(options.patience):
        longer = "--steps, --minutes or --patience can continue it"
        display.say(f"the run had ended after step {state.step}; {longer}")
        return False
    display.show_plan(budget, None if run is None else run.directory)
    model: Any = state.model
    if options.recompute:
        model.body.recompute = True
    final = 0.1 if options.schedule == "cosine" else 1.0
    records = training.learn(
        state,
        split,
        budget,
        batch_size=options.batch_size,
        window=options.window,
        carry=options.tbptt,
        max_norm=options.clip or float("inf"),
        schedule=training.warmup_cosine(options.warmup, final),
        accumulate=options.accumulate,
        validate_every=options.validate_every,
        patience=options.patience,
        comm=comm,
    )
    logged = state.step
    with deferred_interrupt() as interrupted, display.progress_display() as show:
        try:
            for record in records:
                if run is not None:
                    run.add(record)
                show(record)
                logged = record.step
                if ranks.total(interrupted(), comm):
                    break
        except DivergenceError:
            if run is not None and logged == state.step:  # not during a validation
                _save(run, f" --lr {state.optimizer.lr / 10:g}")
            raise
        if stopped := ranks.total(interrupted(), comm) > 0:
            display.say(f"interrupted after step {state.step}; Ctrl-C again leaves at once")
        if run is not None:
            _save(run, "" if stopped else None)
    return stopped


def _save(run: Run, changed: str | None) -> None:
    """Save a run, and print how to resume it with changed options; print nothing for None."""
    run.save()
    if changed is not None:
        again = f"numpy-xlstm train --resume {shlex.quote(str(run.directory))}{changed}"
        display.say(f"saved after step {run.state.step}; resume with {again}")


def _report(session: Session, comm: ranks.Comm | None) -> None:
    options, split, state, run = session
    kept = run if ranks.writes(comm) else None
    levels = {
        "unigram entropy": training.unigram_entropy(split.validation),
        "bigram entropy": training.bigram_entropy(split.validation),
    }
    step, bits = state.validations[-1] if state.validations else (-1, 0.0)
    if step != state.step:
        ids, characters = split.validation_ids, len(split.validation)
        bits = training.validation_bits(state.model, ids, characters=characters, comm=comm)
    model = f"{options.cell or options.model or 'fine-tuned'} model"
    results = {model: bits}
    step, best = min(state.validations, key=itemgetter(1), default=(0, bits))
    if best < bits:
        results[f"{model}, step {step:,}"] = best
    display.show_results(levels | results, state)
    if state.is_stale(options.patience):
        since = f"no better validation since step {step:,}, {options.patience} in a row"
        display.say(f"stopped after step {state.step:,}: {since}")
    if kept is not None:
        if not kept.best.exists():  # interrupted before the first validation
            kept.save_best()
        picture = kept.directory / PICTURE
        display.save_picture(picture, training.read_log(kept.log), "bits", "bits/char", levels)
        files = [kept.best, kept.checkpoint, kept.log, picture]
        names = ", ".join(file.name for file in files if file.exists())
        if state.validations:
            display.say(f"best model: step {step:,}, {best:.3f} bits/char, in {kept.best}")
        display.say(f"written to {kept.directory}: {names}")
        folder = shlex.quote(str(kept.directory))
        display.say(f"try: numpy-xlstm generate {folder} --prompt TEXT")
