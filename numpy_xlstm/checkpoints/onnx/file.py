"""ONNX files: writing of a model with its graph, and reading of its parameters.

The metadata is that of a checkpoint of this package. Reading needs no other package: it follows the
lengths in the file to the parameters and to the metadata, and skips the graph.
"""

import itertools
import mmap
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm._version import __version__
from numpy_xlstm.checkpoints.description import Format, Saving
from numpy_xlstm.checkpoints.files import as_json
from numpy_xlstm.checkpoints.kinds import kind_of
from numpy_xlstm.checkpoints.model import COMPUTED_IN, NPZ, PREFIX, metadata_of
from numpy_xlstm.checkpoints.safetensors import (
    CHECKSUM,
    FLOATS,
    MAX_ARRAYS,
    MAX_AXES,
    MAX_HEADER,
    numpy_dtype,
)
from numpy_xlstm.checkpoints.tensors import HEADER_KEY, Opened, Stored, Tensors
from numpy_xlstm.disk import replacing
from numpy_xlstm.errors import CheckpointError, MissingExtraError
from numpy_xlstm.generation import Tokenizer
from numpy_xlstm.numerics import Array, check_array, check_choice, check_has

NUMBERS = {"float32": 1, "float16": 10, "float64": 11, "bfloat16": 16}
"""ONNX's numbers of the dtypes of parameters."""

LARGEST = 2**31 - 2**20
"""Largest size in bytes of parameters in the file of the graph; ONNX allows 2 GiB in all."""

MAX_FIELDS = 1_000_000
"""Largest number of fields that are read in a file."""

CARD = """\
{kind} with {count:,} parameters, written by numpy_xlstm {version}.
Inputs are {first} and the state before it; a state of zeros is the empty state. Outputs are the
results and the state after it: next_NAME is to be passed as NAME to the next run, with any number
of further steps. The metadata 'numpy_xlstm' has the configuration, the special tokens and the
tokenizer. The parameters have the licence of the model from which they come."""
"""Text of the model in the file."""


def to_onnx(
    model: Any,
    *,
    dtype: str | None = None,
    step: bool = False,
    tokenizer: Tokenizer | None = None,
) -> Any:
    """Return a model as an ONNX graph with its parameters.

    Parameters
    ----------
    model : Recurrent
        A language model, a stack of blocks or a layer.
    dtype : {"float16", "bfloat16", "float32", "float64"}, optional
        Dtype to which the parameters are rounded; their dtype if omitted. The first two are
        computed in float32.
    step : bool
        Whether the graph takes exactly one step.
    tokenizer : Tokenizer, optional
        Tokenizer of the model, for the metadata.

    Returns
    -------
    onnx.ModelProto
        The graph.

    Raises
    ------
    CheckpointError, NonFiniteError
        If a part of the model has no graph, or a parameter is not finite.
    MissingExtraError
        If the package ``onnx`` is not installed.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("onnx")
    >>> from numpy_xlstm import sLSTM
    >>> [each.name for each in to_onnx(sLSTM(3, 4)).graph.input]
    ['x', 'state.h', 'state.c', 'state.n', 'state.m']
    """
    proto, kept = _described(model, dtype, step, tokenizer)
    for tensor, array in zip(proto.graph.initializer, kept, strict=False):
        tensor.raw_data = array.tobytes()
    return proto


def _write(model: Any, path: Path, options: Saving) -> None:
    """Write the graph of :func:`to_onnx` to a file, and large parameters to ``NAME.data``."""
    proto, kept = _described(model, options.dtype, options.step, options.tokenizer)
    external = sum(array.nbytes for array in kept) > LARGEST
    with ExitStack() as files:
        data = files.enter_context(replacing(_data(path))) if external else None
        for tensor, array in zip(proto.graph.initializer, kept, strict=False):
            if data is None:
                tensor.raw_data = array.tobytes()
                continue
            place = {"location": _data(path).name, "offset": data.tell(), "length": array.nbytes}
            tensor.data_location = tensor.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            data.write(array.tobytes())
        files.enter_context(replacing(path)).write(proto.SerializeToString())


def _data(path: Path) -> Path:
    """Return the path of the parameters of a large model."""
    return path.with_name(f"{path.name}.data")


def _described(
    model: Any, dtype: str | None, step: bool, tokenizer: Tokenizer | None
) -> tuple[Any, list[Array]]:
    """Return the checked graph, with names and shapes of the parameters, and their arrays."""
    try:
        from onnx import ModelProto, TensorProto, checker, helper

        from numpy_xlstm.checkpoints.onnx.layers import graph_of
    except ImportError as error:
        raise MissingExtraError(
            "a file for ONNX needs the onnx extra: pip install 'numpy-xlstm[onnx]'"
        ) from error
    check_has("model", model, "init_state", "compute")
    stored = check_choice("dtype", dtype or model.dtype.name, FLOATS)
    computed = np.dtype(COMPUTED_IN.get(stored, stored))
    proto = graph_of(model, computed, NUMBERS[stored], step=step)
    metadata = _metadata(model, stored, tokenizer)
    tensors, kept = [], []
    for name, array in model.params.items():
        check_array(name, array, array.shape)
        kept.append(np.ascontiguousarray(array.astype(numpy_dtype(stored), copy=False)))
        tensors.append(TensorProto(name=name, data_type=NUMBERS[stored], dims=array.shape))
    described = _checked_text(metadata.get(HEADER_KEY, ""), tensors)
    crcs = [zlib.crc32(described), *(zlib.crc32(array.reshape(-1).view("u1")) for array in kept)]
    metadata[CHECKSUM] = "".join(f"{crc:08x}" for crc in crcs)
    helper.set_model_props(proto, metadata)
    proto.producer_name, proto.producer_version = HEADER_KEY, __version__
    first = proto.graph.input[0].name
    proto.doc_string = CARD.format(
        kind=type(model).__name__, count=model.num_parameters, version=__version__, first=first
    )
    checked = ModelProto()
    checked.CopyFrom(proto)
    for tensor in tensors:  # the checker would need their numbers
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        checked.graph.input.append(info)
    checker.check_model(checked, full_check=True)
    constants = list(proto.graph.initializer)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend([*tensors, *constants])
    return proto, kept


def _metadata(model: Any, dtype: str, tokenizer: Tokenizer | None) -> dict[str, str]:
    """Return the metadata of a checkpoint; empty if checkpoints do not support the model."""
    try:
        kind_of(type(model).__name__).describe(model)
    except CheckpointError:
        if tokenizer is not None:
            raise
        return {}
    return {HEADER_KEY: as_json(metadata_of(model, tokenizer, {}, dtype))}


def _checked_text(metadata: str, tensors: Iterable[Any]) -> bytes:
    """Return the bytes whose checksum guards metadata, names, dtypes and shapes."""
    lines = [f"{each.name} {each.data_type} {[*each.dims]}" for each in tensors]
    return "\n".join([metadata, *lines]).encode()


class _Tensor(NamedTuple):
    """An initialiser as it is described in a file."""

    name: str
    data_type: int
    dims: tuple[int, ...]
    raw: slice
    """Place of its bytes in the file."""
    external: Mapping[str, str]
    """Place of its bytes in another file; empty if they are in this one."""


def open_onnx(path: Path, file: Opened) -> Tensors:
    """Read names, shapes and metadata of an ONNX file of this package, but not its graph.

    Raises
    ------
    CheckpointError
        If the file is not of this package, or describes parameters outside its files.
    ValueError, IndexError
        If the file is damaged.
    """
    with mmap.mmap(file.raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        count = itertools.count()
        metadata, tensors = dict[str, str](), dict[str, _Tensor]()
        for number, value in _fields(data, slice(0, file.size), count):
            if number == METADATA_PROPS:
                entry = dict(_fields(data, value, count))
                metadata[_text(data, entry[1])] = _text(data, entry[2])
            if number == GRAPH:
                for inner, place in _fields(data, value, count):
                    if inner == INITIALIZER:
                        each = _tensor(data, place, count)
                        if each.name in tensors or len(tensors) > 2 * MAX_ARRAYS:
                            raise ValueError(f"{each.name}: expected one array of few; got more")
                        tensors[each.name] = each
    if HEADER_KEY not in metadata or CHECKSUM not in metadata:
        raise CheckpointError(
            f"{path.name}: expected an ONNX file of a model that numpy_xlstm has written; got one "
            "without its configuration"
        )
    kept = [each for name, each in tensors.items() if not name.startswith(CONSTANT)]
    found = metadata[CHECKSUM]
    crcs = [int(found[n : n + 8], 16) for n in range(0, len(found), 8)]
    described = _checked_text(metadata[HEADER_KEY], kept)
    if len(crcs) != len(kept) + 1 or crcs[0] != zlib.crc32(described):
        raise ValueError("the checksum of its names is not that of its names")
    beside = Opened(_data(path)) if any(each.external for each in kept) else file
    arrays = {
        PREFIX + each.name: _stored(path, file, beside, each, crc)
        for each, crc in zip(kept, crcs[1:], strict=True)
    }
    return Tensors(arrays, metadata, True, ".onnx")


def _stored(path: Path, file: Opened, beside: Opened, each: _Tensor, crc: int) -> Stored:
    """Return the array of an initialiser, or raise an error if its bytes are not in a file."""
    dtypes = {number: name for name, number in NUMBERS.items()}
    if each.data_type not in dtypes or len(each.dims) > MAX_AXES or min(each.dims, default=0) < 0:
        raise ValueError(f"{each.name}: a dtype or shape that no parameter has")
    where, start, size = file, each.raw.start, each.raw.stop - each.raw.start
    if each.external:
        where, path = beside, _data(path)
        if each.external.get("location") != path.name:
            got = f"{each.external.get('location')!r:.80}"
            raise CheckpointError(f"{each.name}: expected an array in {path.name}; got {got}")
        start, size = (int(each.external[key]) for key in ("offset", "length"))
    found = Stored(path, each.name, dtypes[each.data_type], each.dims, where, start, crc)
    if found.nbytes != size or not 0 <= start <= where.size - size:
        raise ValueError(f"{each.name}: {size} bytes for an array of {found.nbytes}")
    return found


METADATA_PROPS, GRAPH, INITIALIZER = 14, 7, 5
DIMS, DATA_TYPE, NAME, RAW_DATA, EXTERNAL_DATA = 1, 2, 8, 9, 13
"""Numbers of fields of ONNX's messages."""

CONSTANT = "constant."
"""Prefix of initialisers that are not parameters."""


def _tensor(data: mmap.mmap, place: slice, count: Iterator[int]) -> _Tensor:
    """Read the description of an initialiser."""
    fields = list(_fields(data, place, count))
    external = {}
    for number, value in fields:
        if number == EXTERNAL_DATA:
            entry = dict(_fields(data, value, count))
            external[_text(data, entry[1])] = _text(data, entry[2])
    last: dict[int, Any] = dict(fields)
    dims = tuple(value for number, value in fields if number == DIMS)
    raw = last.get(RAW_DATA, slice(place.stop, place.stop))
    return _Tensor(_text(data, last[NAME]), last[DATA_TYPE], dims, raw, external)


def _fields(data: mmap.mmap, place: slice, count: Iterator[int]) -> Iterator[tuple[int, Any]]:
    """Yield the number of each field of a message, and its integer or the place of its bytes."""
    at = place.start
    while at < place.stop:
        if next(count) > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS:,} fields")
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of the unknown kind {kind}")
        size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + size > place.stop:
            raise ValueError(f"{size} bytes, which end after its end")
        yield number, slice(at, at + size)
        at += size


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """Return the integer that begins at an offset, of at most 64 bits, and the offset after it."""
    value = 0
    for n in range(10):
        byte = data[at + n]
        value |= (byte & 127) << 7 * n
        if byte < 128:
            return value, at + n + 1
    raise ValueError("an integer of more than ten bytes")


def _text(data: mmap.mmap, place: slice) -> str:
    """Return a text, or raise an error if it is too long."""
    if place.stop - place.start > MAX_HEADER:
        raise ValueError(f"a text of {place.stop - place.start} bytes")
    return data[place].decode()


ONNX: Format = NPZ._replace(
    name="onnx",
    recognises=lambda content: content.tensors.suffix == ".onnx",
    write=_write,
    suffix=".onnx",
)
"""A graph for ONNX runtimes. The parameters and metadata are those of a checkpoint."""
