"""State dicts of ``torch.nn.LSTM``, ``GRU`` and ``RNN``: what they are, their shapes say."""

from collections.abc import Mapping
from typing import Any

from numpy_xlstm.checkpoints.loading import Source
from numpy_xlstm.checkpoints.tensors import Stored
from numpy_xlstm.errors import CheckpointError

FIRST = "weight_ih_l0"
"""The name that each of them has."""


def is_torch_layer(arrays: Mapping[str, Stored]) -> bool:
    """Whether these are the arrays of such a layer, perhaps with one prefix before all names."""
    return any(name.rpartition(".")[2] == FIRST for name in arrays)


def open_torch_layer(arrays: Mapping[str, Stored]) -> tuple[Any, dict[str, Source]]:
    """Return the layer without numbers, and where each parameter comes from."""
    raise CheckpointError("checkpoint: expected an xLSTM; got a layer of PyTorch")
