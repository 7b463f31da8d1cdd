"""Module: what every cell, layer and model is. Parameters by name, and parts that have some too."""

import copy
import functools
from collections.abc import Callable, Collection, ItemsView, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import DTypeError, OptionError, ShapeError, SizeError
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_form,
    checked_dtype,
    own_error_state,
    plain_array,
)

Grads = dict[str, Array]
"""Gradients of parameters, under the names of ``params``."""


class Parameters(Mapping[str, Array]):
    """Arrays by name, which are changed in place: ``params[name] -= step`` or ``[...] = new``."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = dict(arrays)

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __setitem__(self, name: str, array: Array) -> None:
        """Take back the array that is there, which an in-place operation hands over."""
        if self._arrays.get(name) is not array:
            raise TypeError(
                f"params: expected a change in place, params[{name!r}][...] = …, or with_params; "
                "got another array"
            )

    def __or__(self, other: Mapping[str, Array]) -> dict[str, Array]:
        """A dict of both."""
        return {**self, **other}

    def __ror__(self, other: Mapping[str, Array]) -> dict[str, Array]:
        return {**other, **self}

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def items(self) -> ItemsView[str, Array]:
        """Return names and arrays, as a dict does: the inherited view calls Python for each."""
        return self._arrays.items()

    def __len__(self) -> int:
        return len(self._arrays)


class Module:
    """Parameters by name, and parts that have parameters of their own.

    A cell sets ``params`` to a dict of arrays. What is made of other modules sets ``parts`` as
    well, which says what the names of their parameters begin with::

        self.params = {"learnable_skip": skip}
        self.parts = {"proj_up": "proj_up", "blocks": "blocks"}

    Here ``self.proj_up`` is a module, and its ``weight`` is ``proj_up.weight`` in ``params``;
    ``self.blocks`` is a list of modules, with names ``blocks.0.…``, ``blocks.1.…``. A part whose
    prefix is "" adds its names as they are. A list may have a list of prefixes, and ``*`` in one
    stands for the name: ``{"layers": ["*_l0", "*_l1"]}`` makes ``weight_l0`` and ``weight_l1``.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        All parameters, live: write into an array to change a parameter, or ask for a copy of the
        module over other arrays, :meth:`with_params`. What takes the place of an array is checked
        then, once. ``grads`` returned by a backward has exactly these names and shapes.
    parts : dict[str, str | list[str]]
        The prefix of each part, by the name of its attribute.

    Raises
    ------
    TypeError
        By ``params``, if two parts give a parameter the same name.

    Examples
    --------
    >>> import numpy as np
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.params = {"s": np.array([2.0])}
    >>> class Pair(Module):
    ...     def __init__(self):
    ...         self.scales, self.parts = [Scale(), Scale()], {"scales": "scales"}
    >>> print(Pair())
    Pair  2
    └─ scales  2
       ├─ 0  1
       │  └─ s  (1,) float64  1
       └─ 1  1
          └─ s  (1,) float64  1
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Let each forward and backward compute alike under any error state of NumPy."""
        super().__init_subclass__(**options)
        for name in {"forward", "backward", "__call__"} & vars(cls).keys():
            setattr(cls, name, own_error_state(vars(cls)[name]))
        if "init_state" in vars(cls):
            cls.init_state = _within_memory(vars(cls)["init_state"])  # type: ignore[attr-defined]

    parts: Mapping[str, str | list[str]] = MappingProxyType({})
    _arrays: Mapping[str, Array] = MappingProxyType({})

    @property
    def params(self) -> Parameters:  # noqa: D102 (each class documents its own)
        params = dict(self._arrays)
        for attribute, prefix in self.parts.items():
            for where, part in _entries(prefix, getattr(self, attribute)):
                found = _prefixed(where, part.params)
                if taken := params.keys() & found.keys():
                    raise TypeError(
                        f"parts: expected names of their own; got {sorted(taken)} twice"
                    )
                params |= found
        return Parameters(params)

    @params.setter
    def params(self, params: Mapping[str, Array]) -> None:
        """Set those that are in no part: at first any arrays, and later others like them."""
        if not isinstance(params, Mapping):
            raise ShapeError(f"params: expected arrays by name; got {type(params).__name__}")
        if taken := sorted(params.keys() & (self.params.keys() - self._arrays.keys())):
            raise TypeError(f"params: expected with_params for those of parts; got {taken}")
        if missing := self._arrays.keys() - params.keys():
            raise ShapeError(f"params: expected {some(missing)} too; got only {some(params)}")
        for name, array in params.items():
            check_form(name, array, getattr(array, "shape", ()))
            if (before := self._arrays.get(name)) is not None:
                check_array(name, array, before.shape, before.dtype)
        self._arrays = dict(params)

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of the parameters, which inputs must share; None if there are none."""
        for array in self._arrays.values():
            return array.dtype
        each = (_entries(prefix, getattr(self, name)) for name, prefix in self.parts.items())
        dtypes = (part.dtype for entries in each for _, part in entries)
        return next((dtype for dtype in dtypes if dtype is not None), None)

    @property
    def num_parameters(self) -> int:
        """How many numbers the parameters hold."""
        return sum(array.size for array in self.params.values())

    def __str__(self) -> str:
        """Draw the parameters as a tree, with shapes and how many numbers there are."""
        return tree(type(self).__name__, self.params)

    def with_params(self, params: Mapping[str, Array]) -> Self:
        """Return the same module over other arrays (not copied): same names, same shapes.

        Raises
        ------
        ShapeError
            If a name is missing or unknown, or a shape differs.
        DTypeError
            If they are not all plain arrays of one dtype that is supported.
        NonFiniteError
            If a number is NaN or infinite.
        """
        check_same_parameters(self.params, params)
        for name, array in params.items():
            check_array(name, array, array.shape)
        if len(dtypes := {array.dtype for array in params.values()}) > 1:
            raise DTypeError(
                f"params: expected arrays of one dtype; got {sorted(map(str, dtypes))}"
            )
        return self.over(params)

    def over(self, params: Mapping[str, Array]) -> Self:
        """As :meth:`with_params`, without checks: for arrays that have been checked."""
        clone = copy.copy(self)
        clone._arrays = {name: params[name] for name in self._arrays}
        for attribute, prefix in self.parts.items():
            parts = [
                part.over({name: params[_joined(where, name)] for name in part.params})
                for where, part in _entries(prefix, getattr(self, attribute))
            ]
            several = isinstance(getattr(self, attribute), list)
            setattr(clone, attribute, parts if several else parts[0])
        return clone

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Return a copy of the module whose parameters have another dtype, such as complex128."""
        to = checked_dtype(dtype)
        return self.with_params({name: array.astype(to) for name, array in self.params.items()})

    def state_dict(self) -> dict[str, Array]:
        """Return a copy of each parameter, by name."""
        return {name: array.copy() for name, array in self.params.items()}

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Copy arrays into the parameters, all or none.

        Parameters
        ----------
        arrays : Mapping[str, array_like]
            With the names and shapes of ``params``, as PyTorch's ``state_dict()`` has them.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If names or shapes differ, or a number is not a finite floating-point one.
        """
        params = self.params
        for name, array in like_parameters(params, arrays).items():
            params[name][...] = array

    def named_grads(self, **parts: Any) -> Grads:
        """Gradients of all parts under the names of ``params``, from those of each part."""
        grads: Grads = {}
        for attribute, found in parts.items():
            for prefix, part in _entries(self.parts[attribute], found):
                grads |= _prefixed(prefix, part)
        return grads


def _within_memory(init_state: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """Let it raise :class:`SizeError` for a batch of which there cannot be a state."""

    @functools.wraps(init_state)
    def made(self: Any, batch_size: int) -> Any:
        try:
            return init_state(self, batch_size)
        except (MemoryError, OverflowError, ValueError) as error:
            if isinstance(error, OptionError | ShapeError):
                raise
            if isinstance(error, ValueError):
                init_state(self, 1)  # one that is not of the size comes again, and stays as it is
            raise SizeError(
                f"batch_size: expected one whose state fits into the memory; got {batch_size}"
            ) from error

    return made


def _entries(prefix: str | list[str], part: Any) -> Iterator[tuple[str, Any]]:
    """A part with its prefix; of a list, each entry with its own."""
    if isinstance(prefix, list):
        yield from zip(prefix, part, strict=True)
    elif isinstance(part, list):
        yield from ((_joined(prefix, str(n)), entry) for n, entry in enumerate(part))
    else:
        yield prefix, part


def check_same_parameters(
    expected: Mapping[str, Array], got: Mapping[str, Array], title: str = "params"
) -> None:
    """Raise :class:`ShapeError` unless both have the same names with the same shapes."""
    if not isinstance(got, Mapping):
        raise ShapeError(f"{title}: expected arrays by name; got {type(got).__name__}")
    if missing := expected.keys() - got.keys():
        raise ShapeError(f"{title}: expected {some(missing)} too; got only {some(got)}")
    if unknown := got.keys() - expected.keys():
        raise ShapeError(f"{title}: expected the names {some(expected)}; got {some(unknown)}")
    for name, array in expected.items():
        shape = getattr(got[name], "shape", type(got[name]).__name__)
        if shape != array.shape:
            raise ShapeError(f"{name}: expected shape {array.shape}; got {shape}")


def like_parameters(params: Mapping[str, Array], arrays: Mapping[str, Any]) -> dict[str, Array]:
    """Return arrays in the dtypes of the parameters, if they are finite and like them."""
    if not isinstance(arrays, Mapping):
        raise ShapeError(f"state_dict: expected arrays by name; got {type(arrays).__name__}")
    found = {name: plain_array(name, array) for name, array in arrays.items()}
    check_same_parameters(params, found, "state_dict")
    for name, array in found.items():
        if array.dtype.kind != "f":
            raise DTypeError(f"{name}: expected floating-point numbers; got {array.dtype}")
        found[name] = array.astype(params[name].dtype)
        check_array(name, found[name], params[name].shape)
    return found


def _joined(prefix: str, name: str) -> str:
    if "*" in prefix:
        return prefix.replace("*", name)
    return f"{prefix}.{name}" if prefix else name


def _prefixed(prefix: str, named: Mapping[str, Array]) -> dict[str, Array]:
    return {_joined(prefix, name): array for name, array in named.items()}


def some(names: Collection[str]) -> str:
    """The first few names, and how many there are beside them."""
    first, rest = sorted(map(str, names))[:6], len(names) - 6
    return str(first) + (f" and {rest} more" if rest > 0 else "")


def tree(title: str, params: Mapping[str, Any], indent: str = "") -> str:
    """Draw named arrays, or what has their shapes and dtypes, as a tree by their dotted names."""
    lines = [f"{title}  {sum(array.size for array in params.values()):,}"]
    branches: dict[str, dict[str, Any]] = {}
    for name, array in params.items():
        head, _, rest = name.partition(".")
        branches.setdefault(head, {})[rest] = array
    for head, below in branches.items():
        last = head == next(reversed(branches))
        if "" in below:
            drawn = f"{head}  {below[''].shape} {below[''].dtype}  {below[''].size:,}"
        else:
            drawn = tree(head, below, indent + ("   " if last else "│  "))
        lines.append(f"{indent}{'└─ ' if last else '├─ '}{drawn}")
    return "\n".join(lines)
