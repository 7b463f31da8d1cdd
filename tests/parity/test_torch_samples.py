"""``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``: PyTorch's samples, weights and their initial values.

The samples are in ``torch.testing._internal.common_modules``; PyTorch's tests compare a module with
itself. Here, outputs, states and all gradients of both packages are compared, with the same weights
and random cotangents of the outputs and of the final state.
"""

import re
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import GRU, LSTM, RNN
from numpy_xlstm.errors import DTypeError, OptionError
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves
from tests.parity.autograd import apart, of_recurrent

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
pytest.importorskip("expecttest", reason="expecttest (the extra 'peers') is not installed")
samples = pytest.importorskip(
    "torch.testing._internal.common_modules", reason="this PyTorch has no samples there"
)
rnn = torch.nn.utils.rnn

BOUND = 1e-12
OURS: dict[str, Any] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


def draw(kind: str) -> list[Any]:
    """The samples of a kind, the same each time."""
    torch.manual_seed(0)
    options = {"device": "cpu", "dtype": torch.float64, "requires_grad": True, "training": True}
    if kind == "LSTM":
        return list(samples.module_inputs_torch_nn_LSTM(None, **options))
    packed = {"is_rnn": kind == "RNN", "with_packed_sequence": True}
    return list(samples.module_inputs_torch_nn_RNN_GRU(None, **options, **packed))


@pytest.mark.parametrize("kind", OURS)
def test_samples(kind: str) -> None:
    drawn = draw(kind)
    assert len(drawn) >= 32
    for sample in drawn:
        options = sample.constructor_input.kwargs
        theirs, ours = getattr(torch.nn, kind)(**options).double(), OURS[kind](**options)
        x, *state = sample.forward_input.args
        lengths = None
        if isinstance(x, rnn.PackedSequence):
            x, lengths = rnn.pad_packed_sequence(x, batch_first=ours.batch_first)
            lengths = lengths.numpy()
        if state and isinstance(state[0], tuple | list):
            state = [*state[0]]
        if x.ndim == 2:  # a sample without a batch is a batch of one here
            x, state = x.unsqueeze(0 if ours.batch_first else 1), [h.unsqueeze(1) for h in state]
        arrays = [tensor.detach().numpy() for tensor in (x, *state)]
        assert compare(ours, theirs, arrays[0], arrays[1:], lengths) <= BOUND, options


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", OURS)
def test_packed_sequences_with_states(kind: str, seed: int) -> None:
    """``lengths`` corresponds to ``pack_padded_sequence`` with ``enforce_sorted=False``."""
    rng = np.random.default_rng(seed)
    B, T, D, H, layers, both = 4, 6, 3, 4, 1 + seed % 3, seed % 2 == 0
    options: dict[str, Any] = {
        "bidirectional": both,
        "bias": seed % 4 != 1,
        "batch_first": seed % 3 != 1,
    }
    if kind == "LSTM" and seed % 4 > 1:
        options["proj_size"] = 2
    theirs = getattr(torch.nn, kind)(D, H, layers, **options).double()
    ours = OURS[kind](D, H, layers, **options, rng=rng)
    x = rng.standard_normal((B, T, D) if ours.batch_first else (T, B, D))
    state = [rng.standard_normal(a.shape) for _, a in leaves("", ours.init_state(B))]
    assert compare(ours, theirs, x, state, rng.integers(1, T + 1, B)) <= BOUND


@pytest.mark.parametrize("kind", OURS)
def test_what_pytorch_refuses(kind: str) -> None:
    """For PyTorch's samples of errors, our layers also raise errors, with a description."""
    found = samples.module_error_inputs_torch_nn_RNN_GRU(
        None, device="cpu", dtype=torch.float64, requires_grad=True, training=True
    )
    assert len(found) >= 14
    for error in found:
        given, forward = (
            error.module_error_input.constructor_input,
            "FORWARD" in str(error.error_on),
        )
        options = {name: v for name, v in given.kwargs.items() if name not in ("dtype", "device")}
        if forward:
            layer, x = OURS[kind](*given.args, **options), error.module_error_input.forward_input
            with pytest.raises(DTypeError, match=r"x: expected float64, .*; got float32"):
                layer(x.args[0].detach().numpy())
        else:
            name = re.match(r"\w+", error.error_regex)
            assert name is not None
            with pytest.raises(OptionError, match=rf"{name[0]}: expected .*; got"):
                OURS[kind](*given.args, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"bidirectional": True, "proj_size": 2}),
        ("LSTM", {"bias": False}),
        ("GRU", {"bidirectional": True}),
        ("RNN", {"nonlinearity": "relu"}),
    ],
)
def test_weights_go_there_and_back_bit_for_bit(kind: str, options: Any, dtype: Any) -> None:
    """Also the two biases, of which this package only needs the sum."""
    rng = np.random.default_rng(1)
    ours, other = (OURS[kind](3, 4, 3, dtype=dtype, rng=rng, **options) for _ in range(2))
    theirs = getattr(torch.nn, kind)(3, 4, 3, **options).to(getattr(torch, dtype.__name__))
    assert list(ours.params) == list(theirs.state_dict())
    theirs.load_state_dict({name: torch.tensor(w) for name, w in ours.state_dict().items()})
    other.load_state_dict(theirs.state_dict())
    for name, array in ours.params.items():
        assert array.tobytes() == theirs.state_dict()[name].numpy().tobytes(), name
        assert array.tobytes() == other.params[name].tobytes(), name


def compare(ours: Any, theirs: Any, x: Array, state: list[Array], lengths: Array | None) -> float:
    """Run both with the same weights; return the largest relative error."""
    ours.load_state_dict(theirs.state_dict())

    def run(x: Any, *tensors: Any) -> list[Any]:
        theirs._flat_weights = list(tensors[: len(ours.params)])  # those that it reads
        start, given = tensors[len(ours.params) :], x
        if lengths is not None:
            given = rnn.pack_padded_sequence(
                x, torch.tensor(lengths), ours.batch_first, enforce_sorted=False
            )
        y, last = theirs(given, *((start if len(start) > 1 else start[0],) if start else ()))
        if lengths is not None:
            total = x.shape[1 if ours.batch_first else 0]
            y, _ = rnn.pad_packed_sequence(y, ours.batch_first, total_length=total)
        return [y, *(last if isinstance(last, tuple) else (last,))]

    assert list(ours.params) == [name for name, _ in theirs.named_parameters()]
    options = {} if lengths is None else {"lengths": lengths}
    inputs = (x, *ours.params.values(), *state)
    return apart(of_recurrent(ours, **options), run, inputs)
