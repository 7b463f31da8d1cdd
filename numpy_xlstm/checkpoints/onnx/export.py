"""Export of a model with its graph to an ONNX file."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm._version import __version__
from numpy_xlstm.checkpoints.description import Format, Saving
from numpy_xlstm.checkpoints.files import as_library_json
from numpy_xlstm.checkpoints.safetensors import FLOATS, narrowed, numpy_dtype
from numpy_xlstm.checkpoints.tensors import TOKENIZER
from numpy_xlstm.disk import replacing
from numpy_xlstm.errors import MissingExtraError, OptionError
from numpy_xlstm.numerics import Array, check_has, check_parameter, checked_choice

NUMBERS = {"float32": 1, "float16": 10, "float64": 11, "bfloat16": 16}
"""ONNX's numbers of the dtypes of parameters."""

LARGEST = 2**31 - 2**20
"""Largest size in bytes of parameters in the file of the graph; ONNX allows 2 GiB in all."""


def to_onnx(model: Any, *, dtype: str | None = None, step: bool = False) -> Any:
    """Return a model, stack or layer as an ``onnx.ModelProto`` with its parameters.

    The options are those of :func:`~numpy_xlstm.save_pretrained`. Parameters in float16 and
    bfloat16 are computed in float32.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("onnx")
    >>> from numpy_xlstm import sLSTM
    >>> [tensor.name for tensor in to_onnx(sLSTM(3, 4)).graph.input]
    ['x', 'state.h', 'state.c', 'state.n', 'state.m']
    """
    proto, arrays = _graph_and_arrays(model, dtype, step)
    for tensor, array in zip(proto.graph.initializer, arrays, strict=False):  # constants follow
        tensor.raw_data = array.tobytes()
    return proto


def _write(model: Any, path: Path, options: Saving) -> None:
    """Write the graph of :func:`to_onnx`; parameters of a large model go to ``NAME.data``."""
    proto, arrays = _graph_and_arrays(model, options.dtype, options.step)
    if options.tokenizer is not None:
        proto.metadata_props.add(key=TOKENIZER, value=as_library_json(options.tokenizer))
    data_file = path.with_name(f"{path.name}.data")
    external = sum(array.nbytes for array in arrays) > LARGEST
    if external and path.exists():  # it would have other parameters before it is replaced
        expected = "a new path, because a model of more than 2 GB is two files"
        raise OptionError(f"path: expected {expected}; {path} exists")
    with ExitStack() as files:  # the last is put in its place first: the graph, when all is there
        graph = files.enter_context(replacing(path))
        data = files.enter_context(replacing(data_file)) if external else None
        for tensor, array in zip(proto.graph.initializer, arrays, strict=False):
            if data is None:
                tensor.raw_data = array.tobytes()
                continue
            place = {"location": data_file.name, "offset": data.tell(), "length": array.nbytes}
            tensor.data_location = tensor.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            data.write(array.tobytes())
        graph.write(proto.SerializeToString())
        graph.flush()  # if the disk is full, neither file is put in its place


def _graph_and_arrays(model: Any, dtype: str | None, step: bool) -> tuple[Any, list[Array]]:
    try:
        from onnx import TensorProto

        from numpy_xlstm.checkpoints.onnx.layers import graph_of
    except ImportError as error:
        raise MissingExtraError(
            "a file for ONNX needs the cli extra: pip install 'numpy-xlstm[cli]'"
        ) from error
    check_has("model", model, "init_state", "compute")
    own = checked_choice("dtype", model.dtype.name, FLOATS)
    stored = checked_choice("dtype", dtype or own, FLOATS)
    computed = np.dtype("float64" if stored == "float64" else "float32")
    tensors, arrays = [], []
    for name, array in model.params.items():
        check_parameter(name, array, array)
        arrays.append(np.ascontiguousarray(narrowed(name, array, numpy_dtype(stored))))
        tensors.append(TensorProto(name=name, data_type=NUMBERS[stored], dims=array.shape))
    proto = graph_of(model, computed, tensors, step=step)
    proto.producer_name, proto.producer_version = "numpy_xlstm", __version__
    kind, first = type(model).__name__, proto.graph.input[0].name
    steps = "exactly one step" if step else "any number of steps"
    proto.doc_string = f"""\
{kind} with {model.num_parameters:,} parameters, written by numpy_xlstm {__version__}.
Inputs are {first} and the state before it; a state of zeros is the empty state. Outputs are the
results and the state after it: next_NAME is to be passed as NAME to the next run.
Each run takes {steps}. The parameters have the licence of the model from which they come."""
    return proto, arrays


ONNX = Format(
    "onnx", (object,), lambda content: None, _write, ".onnx", options=("tokenizer", "step")
)
"""A graph for ONNX runtimes, which is only written."""
