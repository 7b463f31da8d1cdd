"""Functions for child processes: saving and loading of models."""

import hashlib
import io
import resource
import signal
import traceback
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm import LSTM, AdamW, LanguageModel, errors, from_pretrained, save_pretrained
from numpy_xlstm.cli import main
from numpy_xlstm.generation import HuggingFaceTokenizer, StreamDecoder
from numpy_xlstm.training import TrainingState
from tests.checkpoints import build
from tests.checkpoints.measure import now, peak
from tests.models.build import fill
from tests.reliability.system_calls import at_call, die

KINDS = {
    kind: build.KINDS[kind]
    for kind in ("safetensors", "torch", "transformers", "xlstm", "xlstm-large")
}

WRITERS = "safetensors", "torch", "transformers"
"""A kind for each writer: a file of this package, another file, and a folder."""

FILES = "safetensors", "torch"
"""Kinds with a single file, which is replaced by another."""


def model_of(kind: str, number: int) -> Any:
    """Make the model of a kind, with parameters that depend on a number."""
    return fill(KINDS[kind][0](), np.random.default_rng(number))


def place(kind: str, folder: Path) -> Path:
    return folder / KINDS[kind][1]


def save(kind: str, folder: Path, number: int) -> None:
    save_pretrained(model_of(kind, number), place(kind, folder), **KINDS[kind][2])
    if kind == "xlstm-large":
        build.split(place(kind, folder), 2, indexed=False)


@cache
def digest_of(kind: str, number: int) -> str:
    return digest(model_of(kind, number))


def digest(model: Any) -> str:
    found = hashlib.sha256()
    for name, array in sorted(model.params.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def stored(kind: str, folder: Path) -> str:
    return digest(from_pretrained(place(kind, folder), mapped=False))


def killed_save(kind: str, folder: Path, number: int, call: int) -> list[str]:
    """Save, but die at a system call; return the names of all calls."""
    model = model_of(kind, number)
    with at_call(call, die) as seen:
        save_pretrained(model, place(kind, folder), **KINDS[kind][2])
    return seen


def cut_save(kind: str, folder: Path, number: int, size: int) -> None:
    """Save, but end the process in the write that makes a file longer than this."""
    model = model_of(kind, number)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    save_pretrained(model, place(kind, folder), **KINDS[kind][2])


PACKAGE: tuple[type[Exception], ...] = tuple(
    kind for kind in vars(errors).values() if isinstance(kind, type)
)
"""Errors of the package."""


class Found(NamedTuple):
    """Outcome of loading a file."""

    result: str
    """A digest of the numbers, an error with its message, or a traceback."""
    error: bool
    ok: bool
    """Whether the outcome is numbers or an error of the package."""
    memory: int
    """Peak memory in bytes."""
    said: str
    """Output of the command line."""


def look(path: Path, *commands: list[str]) -> Found:
    """Load a model, and also run the command line on it."""
    before, error, ok, out = now(), False, True, io.StringIO()
    try:
        result = digest(from_pretrained(path))
    except PACKAGE as raised:
        result, error = f"{type(raised).__name__}: {raised}", True
    except Exception as raised:
        result, error, ok = traceback.format_exc(), True, False
        if isinstance(raised, OSError):
            result = "OSError"
    with redirect_stdout(out), redirect_stderr(out):
        for command in commands:
            try:
                ok &= main(command) in (0, 2)
            except Exception:
                result, ok = traceback.format_exc(), False
    return Found(result, error, ok, peak() - before, out.getvalue())


TEXT = "the cat né 日本 <s>a " * 20


def use_tokenizer(text: str) -> Found:
    """Load a ``tokenizer.json``, and use it in every way; the result is the error, if any."""
    before, error = now(), ""
    try:
        tokenizer = HuggingFaceTokenizer(text)
        ids = [int(k) for k in tokenizer.encode(TEXT)]
        assert len(ids) <= 20 * len(TEXT)
        tokenizer.decode(np.array(ids, np.int64))
        decoder = StreamDecoder(tokenizer)
        for k in [*ids, *range(min(tokenizer.size, 300))]:
            decoder.push(k)
        decoder.flush()
    except (errors.OptionError, errors.TextError) as raised:
        error = str(raised)
    return Found(error, bool(error), True, peak() - before, "")


def begun() -> TrainingState:
    """Return a small training that has not begun."""
    rng = np.random.default_rng(0)
    model = LanguageModel(5, 3, LSTM(3, 4, rng=rng), rng=rng)
    return TrainingState(model, AdamW(model.params), rng)
