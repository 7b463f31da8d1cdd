"""State dicts of ``torch.nn.LSTM``, ``GRU`` and ``RNN``.

They are recognised by the name of an array. Shapes determine the class and most of its options.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.description import Content, Format, Pretrained, Saving
from numpy_xlstm.checkpoints.files import FOR_PYTORCH, stored_dtypes, write_file
from numpy_xlstm.checkpoints.loading import building, matched, meta_initialisation
from numpy_xlstm.checkpoints.tensors import Stored
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.layers import GRU, LSTM, RNN

FIRST = "weight_ih_l0"
"""Name of an array that each of them contains."""

BY_GATES = {4: LSTM, 3: GRU, 1: RNN}
"""Layers by the number of rows of their matrices, as multiples of H."""


def _read(content: Content) -> Pretrained | None:
    tensors, metadata = content.tensors, content.metadata
    first = next((name for name in tensors if name.rpartition(".")[2] == FIRST), None)
    if first is None:
        return None
    prefix = first.removesuffix(FIRST)
    if other := next((name for name in tensors if not name.startswith(prefix)), None):
        stored = tensors[other]
        raise CheckpointError(
            f"{stored.path.name}: expected one layer {prefix + '…'!r}; got {other!r} too"
        )
    arrays = {name.removeprefix(prefix): stored for name, stored in tensors.items()}
    kind, options = _kind_and_options(arrays)
    rng = meta_initialisation(f"{arrays[FIRST].path.name}: ", options, arrays)
    options["batch_first"] = metadata.get("batch_first", "true") == "true"
    options["dropout"] = metadata.get("dropout", "0")
    with suppress(ValueError):  # the layer refuses a text
        options["dropout"] = float(options["dropout"])
    if kind is RNN:
        options["nonlinearity"] = metadata.get("nonlinearity", "tanh")
    with building(str(arrays[FIRST])):
        layer = kind(**options, rng=rng)
    sources = matched(content.path.name, layer.params, arrays)
    return Pretrained(content.path, TORCH.name, layer, sources)


def _kind_and_options(arrays: Mapping[str, Stored]) -> tuple[Any, dict[str, Any]]:
    rows = arrays[FIRST].shape
    recurrent, projection = arrays.get("weight_hh_l0"), arrays.get("weight_hr_l0")
    shapes = [rows] if recurrent is None else [rows, recurrent.shape]
    if any(len(shape) != 2 or 0 in shape for shape in shapes):
        raise CheckpointError(f"{arrays[FIRST]}: expected a matrix; got shape {rows}")
    if recurrent is None:
        raise CheckpointError(f"{arrays[FIRST].path.name}: expected 'weight_hh_l0' too; got none")
    H, P = recurrent.shape[1], 0
    if projection is not None:
        H, P = (rows[0] // 4, projection.shape[0] if projection.shape else 0)
    kind = BY_GATES.get(rows[0] // H if rows[0] % H == 0 else 0)
    if kind is None or (P and kind is not LSTM):
        raise CheckpointError(
            f"{arrays[FIRST]}: expected 4, 3 or 1 times {H} rows, for an LSTM, a GRU or an RNN; "
            f"got shape {rows}"
        )
    numbers = {int(m[1]) for name in arrays if (m := re.match(r"weight_ih_l(\d{1,6})\b", name))}
    options = {
        "input_size": rows[1],
        "hidden_size": H,
        "num_layers": len(numbers),
        "bias": "bias_ih_l0" in arrays,
        "bidirectional": f"{FIRST}_reverse" in arrays,
    }
    return kind, options | ({"proj_size": P} if P else {})


def _write(layer: Any, path: Path, options: Saving) -> None:
    dtypes = stored_dtypes(layer.params, options.dtype)
    described = "nonlinearity", "batch_first", "dropout"  # shapes do not determine these options
    values = {name: getattr(layer, name) for name in described if hasattr(layer, name)}
    metadata = {name: str(value).lower() for name, value in values.items()}
    write_file(path, layer.params, dtypes, FOR_PYTORCH | metadata)


TORCH = Format(
    "torch",
    (LSTM, GRU, RNN),
    _read,
    _write,
    ".safetensors",
    options=(),
    is_default=False,
)
"""State dict of a ``torch.nn.LSTM``, ``GRU`` or ``RNN``, for ``safetensors.torch.load_file``."""
