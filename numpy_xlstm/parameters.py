"""Objects that hold parameters: a flat dict of live arrays, and nothing hidden beside it."""

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array, checked_dtype


class Parameterised:
    """Base of every layer: ``params`` maps dotted names to live NumPy arrays.

    A layer reads its parameters from ``params`` at each call. Write into an array to change a
    parameter, or ask for a copy of the layer over other arrays with :meth:`with_params`.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        The parameters. ``grads`` returned by ``backward`` has exactly these keys and shapes.
    """

    params: dict[str, Array]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters, which inputs must share."""
        return next(iter(self.params.values())).dtype

    @property
    def num_parameters(self) -> int:
        """How many numbers the parameters hold."""
        return sum(array.size for array in self.params.values())

    def with_params(self, params: Mapping[str, Array]) -> Self:
        """Return the same layer over other arrays (not copied): same names, same shapes.

        Raises
        ------
        ShapeError
            If a name is missing or unknown, or a shape differs.
        """
        check_same_parameters(self.params, params)
        clone = copy.copy(self)
        clone.params = dict(params)
        return clone

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Return a copy of the layer whose parameters have another dtype, such as complex128."""
        to = checked_dtype(dtype)
        return self.with_params({name: array.astype(to) for name, array in self.params.items()})


def check_same_parameters(expected: Mapping[str, Array], got: Mapping[str, Array]) -> None:
    """Raise :class:`ShapeError` unless both have the same names with the same shapes."""
    if missing := expected.keys() - got.keys():
        raise ShapeError(f"params: expected {sorted(missing)} too; got only {sorted(got)}")
    if unknown := got.keys() - expected.keys():
        raise ShapeError(f"params: expected the names {sorted(expected)}; got {sorted(unknown)}")
    for name, array in expected.items():
        if got[name].shape != array.shape:
            raise ShapeError(f"{name}: expected shape {array.shape}; got {got[name].shape}")


class LiveParams(dict[str, Array]):
    """The parameters of a composite: put together at each reading, so that setting one is lost."""

    def __setitem__(self, name: str, array: Array) -> None:
        """Raise an error that says what to do instead."""
        raise TypeError(
            f"params: expected to be read; got an array set as {name!r}: write into the array, "
            f"params[{name!r}][...] = …, or see with_params"
        )


class Composite(Parameterised):
    """A layer made of layers: its ``params`` are theirs, under dotted names.

    Attributes
    ----------
    children : dict[str, Parameterised]
        The parts, by the prefix of their names.
    """

    children: dict[str, Parameterised]

    @property
    def params(self) -> dict[str, Array]:  # type: ignore[override]
        """The parameters of all children, as ``child.name``; the arrays are live."""
        return LiveParams(
            (f"{prefix}.{name}", array)
            for prefix, child in self.children.items()
            for name, array in child.params.items()
        )

    def with_params(self, params: Mapping[str, Array]) -> Self:
        """Return the same layer over other arrays (not copied): same names, same shapes."""
        check_same_parameters(self.params, params)
        clone = copy.copy(self)
        clone.children = {
            prefix: child.with_params({name: params[f"{prefix}.{name}"] for name in child.params})
            for prefix, child in self.children.items()
        }
        return clone


def prefixed(prefix: str, grads: Mapping[str, Array]) -> dict[str, Array]:
    """Rename a child's gradients to the names that its parent gives them."""
    return {f"{prefix}.{name}": array for name, array in grads.items()}
