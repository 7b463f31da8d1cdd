"""The three forms of mLSTM behind one pair, without checks: which to take, and how to run it."""

from numpy_xlstm.cells.mlstm.chunkwise import cut
from numpy_xlstm.cells.mlstm.gates import Options
from numpy_xlstm.cells.mlstm.inputs import Gradients, Inputs
from numpy_xlstm.cells.mlstm.parallel import uncut
from numpy_xlstm.cells.mlstm.pieces import PiecesCache, run, run_backward
from numpy_xlstm.cells.mlstm.recurrent import RecurrentCache, run_steps, run_steps_backward
from numpy_xlstm.cells.states import mLSTMState
from numpy_xlstm.numerics import Array

FORMS = ("auto", "recurrent", "parallel", "chunkwise")
"""The forms that a layer can take."""

NARROW = 2**14
"""Up to this DK·DV, two steps are faster in the recurrent form than in a chunk."""

FormCache = RecurrentCache | PiecesCache


def run_form(
    form: str, inputs: Inputs, state: mLSTMState, options: Options, chunk_size: int
) -> tuple[Array, mLSTMState, FormCache]:
    """Run mLSTM in a form; ``state`` is kept in the cache."""
    if form == "auto":
        form = automatic(inputs)
    if form == "recurrent":
        return run_steps(inputs, state, options)
    pieces = uncut(inputs) if form == "parallel" else cut(inputs, chunk_size)
    return run(inputs, state, options, pieces)


def run_form_backward(dh: Array, cache: FormCache, dstate: mLSTMState) -> Gradients:
    """Go back in the form that the forward took."""
    if isinstance(cache, RecurrentCache):
        return run_steps_backward(dh, cache, dstate)
    return run_backward(dh, cache, dstate)


def automatic(inputs: Inputs) -> str:
    """The recurrent form for a single step, with narrow heads also for two; else chunkwise."""
    *_, T, DK = inputs.q.shape
    if T == 2:
        return "recurrent" if DK * inputs.v.shape[-1] <= NARROW else "chunkwise"
    return "recurrent" if T < 2 else "chunkwise"
