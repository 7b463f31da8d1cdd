"""What one worker process does, see ``workers.py``."""

import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from numpy_xlstm.checkpoints import load_checkpoint
from numpy_xlstm.numerics import Array
from numpy_xlstm.training.messages import RAISED, receive, send
from numpy_xlstm.training.shared import GRADIENTS, MODEL, PARAMETERS, shared
from numpy_xlstm.training.step import Batch, gradient
from numpy_xlstm.trees import leaves, rebuild


def main(folder: str, number: str) -> None:
    """Answer every batch with its loss and state, until nothing more comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this too
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever is printed by mistake is no answer
    with suppress(BrokenPipeError):  # the parent has gone
        _work(Path(folder), number, answers)
    shutil.rmtree(folder, ignore_errors=True)  # if the parent has not come to it


def _work(folder: Path, number: str, answers: BinaryIO) -> None:
    model = load_checkpoint(folder / MODEL).model
    params = shared(folder / PARAMETERS, model.params, "r")
    grads = shared(folder / f"{GRADIENTS}{number}", model.params, "r+")
    model = model.with_params(params)
    send(answers, {"ready": True}, {})
    while (message := receive(sys.stdin.buffer)) is not None:
        try:
            facts, arrays = _answer(model, *message, grads)
        except Exception as error:  # the parent shall know what happened, whatever it was
            facts, arrays = {"kind": type(error).__name__, "error": _said(error)}, {}
        send(answers, facts, arrays)


def _said(error: Exception) -> str:
    return str(error) if type(error).__name__ in RAISED else repr(error)


def _answer(
    model: Any, facts: dict[str, Any], arrays: dict[str, Array], grads: dict[str, Array]
) -> tuple[dict[str, Any], dict[str, Array]]:
    batch = Batch(arrays.pop("inputs"), arrays.pop("targets"), arrays.pop("mask", None))
    state = _state(model, len(batch.inputs), arrays)
    rng = None if facts["seed"] is None else np.random.default_rng(facts["seed"])
    with np.errstate(over="ignore", invalid="ignore"):  # they end in a NonFiniteError of the parent
        loss, found, after = gradient(
            model, batch, state, facts["total"], facts["accumulate"], facts["recompute"], rng
        )
    for name, array in grads.items():
        array[...] = found[name] if found else 0
    return {"loss": loss}, dict(leaves("", after))


def _state(model: Any, rows: int, arrays: dict[str, Array]) -> Any:
    """The state that has been sent, in the structure that the model gives to a state."""
    if not arrays:
        return None
    _, like = model(np.zeros((rows, 0), np.int64))
    return rebuild(like, (arrays[name] for name, _ in leaves("", like)))
