"""Matching of arrays in files to the parameters of a model, and reading them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from numpy_xlstm.checkpoints.safetensors import FLOATS
from numpy_xlstm.checkpoints.tensors import Stored, check_memory
from numpy_xlstm.errors import CheckpointError, ShapeError
from numpy_xlstm.models.state_dict import (
    BIAS,
    KERNEL,
    bias_to_vanilla,
    found_layouts,
    kernel_to_vanilla,
)
from numpy_xlstm.numerics import Array, check_array, check_parameter, is_narrow
from numpy_xlstm.numerics.initial import ShapesOnly

SIZES = frozenset(
    """
    vocab_size embedding_size embedding_dim input_size hidden_size qk_dim num_heads num_blocks
    num_layers proj_size conv1d_kernel_size qkv_proj_blocksize
    """.split()  # noqa: SIM905
)
"""Configuration fields that are sizes."""

ARRAYS = {"num_blocks": 8, "num_layers": 2}
"""Configuration fields that count parts, and the least number of arrays per part."""

OnProgress = Callable[[int, int], None]
"""Function of the number of bytes read or written so far, and of the total."""


class Source(NamedTuple):
    """Source of a parameter in a file."""

    stored: Stored
    order: str = "vanilla"
    """Layout of R or b of an sLSTM."""
    num_heads: int = 0
    """Number of heads for b of an sLSTM; 0 for other parameters."""

    def read(self, dtype: npt.DTypeLike, mapped: bool) -> Array:
        """Read the array, convert its layout, and refuse numbers that are not finite."""
        array = self.stored.read(dtype, mapped=mapped)
        if is_narrow(array):
            check_parameter(str(self.stored), array, array)
        elif array.size and not np.isfinite((array.min(), array.max())).all():
            check_array(str(self.stored), array, array.shape)
        if self.num_heads:
            return bias_to_vanilla(array, self.order, self.num_heads)
        return kernel_to_vanilla(array, self.order)


def matched(
    where: str,
    params: Mapping[str, Array],
    arrays: Mapping[str, Stored],
    layout: str | None = None,
) -> dict[str, Source]:
    """Find the source of each parameter, from names, shapes and dtypes.

    ``where`` is the name of the checkpoint, and ``layout`` the layout of b of an sLSTM if it is not
    that of R.
    """
    if missing := [name for name in params if name not in arrays]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"{where}: expected {missing[0]!r}{more} too; got none")
    if unknown := [name for name in arrays if name not in params]:
        other = arrays[unknown[0]]
        raise CheckpointError(f"{other.path.name}: expected no {other.name!r}; got one")
    sources = {}
    for name, ours in params.items():
        stored = arrays[name]
        if stored.dtype not in FLOATS:
            expected = " or ".join(FLOATS)
            raise CheckpointError(f"{stored}: expected {expected}; got {stored.dtype}")
        if name.endswith(KERNEL):
            bias = name.removesuffix(KERNEL) + BIAS
            try:
                of_R, of_b = found_layouts(
                    name, stored.shape, arrays[bias].shape, ours.shape, layout
                )
            except ShapeError as error:
                raise CheckpointError(f"{stored.path.name}: {error}") from None
            sources[name] = Source(stored, of_R)
            sources[bias] = Source(arrays[bias], of_b, len(ours))
        elif not name.endswith(BIAS):  # whose source is found with that of R
            if stored.shape != ours.shape:
                raise CheckpointError(f"{stored}: expected shape {ours.shape}; got {stored.shape}")
            sources[name] = Source(stored)
    return sources


def read_all(
    sources: Mapping[str, Source],
    dtypes: Mapping[str, np.dtype[Any]],
    *,
    mapped: bool = False,
    progress: OnProgress | None = None,
    hint: str = "",
) -> dict[str, Array]:
    """Read all parameters in the order of the files, one at a time, to save memory."""
    stored = {name: source.stored for name, source in sources.items()}
    copied = [name for name in sources if not (mapped and stored[name].fits_map(dtypes[name]))]
    check_memory("parameters", sum(stored[n].size * dtypes[n].itemsize for n in copied), hint)
    total, done, params, previous = sum(array.nbytes for array in stored.values()), 0, {}, None
    for name in sorted(sources, key=lambda n: (stored[n].path, stored[n].start, stored[n].name)):
        is_alone = stored[name] is not previous  # two parameters never share a map
        params[name] = sources[name].read(dtypes[name], mapped and is_alone)
        previous = stored[name]
        done += previous.nbytes
        if progress is not None:
            progress(done, total)
    return params


@contextmanager
def building(place: str) -> Iterator[None]:
    """Turn errors about the configuration at a place of a file into :class:`CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{place}: {error}") from error
    except MemoryError as error:
        raise CheckpointError(f"{place}: expected a smaller model") from error


def meta_initialisation(
    where: str, values: Mapping[str, Any], arrays: Mapping[str, Stored]
) -> ShapesOnly:
    """Return the generator for a shape-only model whose size is limited by its file.

    The configuration of a far larger model is refused, because even a shape-only model could take
    much time or memory. ``where`` is a prefix of the field name in errors. The limit is a multiple
    of the numbers in the file, because a tied matrix may be stored once, and because stacks draw
    parameters that they do not keep.
    """
    total = sum(stored.size for stored in arrays.values())
    for name, value in _sizes(values):
        exceeded = f"{total:,} numbers" if value > total else ""
        if value * ARRAYS.get(name.rpartition(".")[2], 0) > len(arrays):
            exceeded = f"{len(arrays):,} arrays"
        if exceeded:
            expected = f"expected a model that fits the {exceeded} in the file"
            raise CheckpointError(f"{where}{name}: {expected}; got {value!r}")
    return ShapesOnly(8 * total)


def _sizes(value: Any, name: str = "") -> list[tuple[str, float]]:
    if isinstance(value, Mapping):
        before = name and f"{name}."
        return [pair for key, inner in value.items() for pair in _sizes(inner, f"{before}{key}")]
    known = name.rpartition(".")[2] in SIZES and isinstance(value, int | float)
    return [(name, value)] if known else []
