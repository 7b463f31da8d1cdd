"""Objects that hold parameters: a flat dict of live arrays, and nothing hidden beside it."""

import copy
from collections.abc import Collection, Mapping
from inspect import getattr_static
from typing import Any, Generic, Self, TypeVar

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
    def cache_options(self) -> dict[str, Any]:
        """What the meaning of a cache depends on beside kind and parameters."""
        return {}

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters, which inputs must share."""
        for array in self.params.values():
            return array.dtype
        raise AttributeError(f"dtype: expected parameters; this {type(self).__name__} has none")

    @property
    def num_parameters(self) -> int:
        """How many numbers the parameters hold."""
        return sum(array.size for array in self.params.values())

    def __str__(self) -> str:
        """Draw the parameters as a tree, with shapes and how many numbers there are."""
        return parameter_tree(type(self).__name__, self.params)

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


def check_same_parameters(
    expected: Mapping[str, Array], got: Mapping[str, Array], title: str = "params"
) -> None:
    """Raise :class:`ShapeError` unless both have the same names with the same shapes."""
    if not isinstance(got, Mapping):
        raise ShapeError(f"{title}: expected arrays by name; got {type(got).__name__}")
    if missing := expected.keys() - got.keys():
        raise ShapeError(f"{title}: expected {_some(missing)} too; got only {_some(got)}")
    if unknown := got.keys() - expected.keys():
        raise ShapeError(f"{title}: expected the names {_some(expected)}; got {_some(unknown)}")
    for name, array in expected.items():
        shape = getattr(got[name], "shape", type(got[name]).__name__)
        if shape != array.shape:
            raise ShapeError(f"{name}: expected shape {array.shape}; got {shape}")


def _some(names: Collection[str]) -> str:
    """The first few names, and how many there are beside them."""
    first, rest = sorted(names)[:6], len(names) - 6
    return str(first) + (f" and {rest} more" if rest > 0 else "")


def parameter_tree(title: str, params: Mapping[str, Array], indent: str = "") -> str:
    """Draw named arrays as a tree, a branch for each part of a dotted name.

    Examples
    --------
    >>> print(parameter_tree("model", {"head.weight": np.zeros((3, 2)), "head.bias": np.zeros(3)}))
    model  9
    └─ head  9
       ├─ weight  (3, 2) float64  6
       └─ bias  (3,) float64  3
    """
    lines = [f"{title}  {sum(array.size for array in params.values()):,}"]
    branches: dict[str, dict[str, Array]] = {}
    for name, array in params.items():
        head, _, rest = name.partition(".")
        branches.setdefault(head, {})[rest] = array
    for head, below in branches.items():
        last = head == next(reversed(branches))
        if "" in below:
            array = below[""]
            drawn = f"{head}  {array.shape} {array.dtype}  {array.size:,}"
        else:
            drawn = parameter_tree(head, below, indent + ("   " if last else "│  "))
        lines.append(f"{indent}{'└─ ' if last else '├─ '}{drawn}")
    return "\n".join(lines)


class LiveParams(dict[str, Array]):
    """The parameters of a composite: put together at each reading, so that a change is lost."""

    def _refuse(self, name: Any = "name", *others: Any, **more: Any) -> Any:
        """Raise an error that says what to do instead."""
        shown = repr(name) if isinstance(name, str) else "name"
        raise TypeError(
            f"params: expected to be read; got a change of the dict: write into the array, "
            f"params[{shown}][...] = …, or see with_params"
        )

    def __reduce__(self) -> Any:
        """Copy as a plain dict, which can be changed."""
        return dict, (dict(self),)

    __setitem__ = __delitem__ = _refuse
    __ior__ = update = setdefault = pop = popitem = clear = _refuse  # type: ignore[assignment]


class Composite(Parameterised):
    """A layer made of layers: its ``params`` are theirs, under dotted names.

    Attributes
    ----------
    children : dict[str, Parameterised]
        The parts, by the prefix of their names; one in parentheses, "(up)", adds no prefix. To be
        replaced as a whole, which sets the attributes that are declared with :class:`child`.
    own : dict[str, np.ndarray]
        Parameters that are in no part.
    """

    _children: dict[str, Parameterised]
    own: dict[str, Array] = {}  # noqa: RUF012 — replaced, never written to

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, but for a part: that would not be the one in ``children``."""
        if isinstance(getattr_static(type(self), name, None), child):
            raise AttributeError(
                f"{name}: expected to be read; replace `children` as a whole, or see with_params"
            )
        super().__setattr__(name, value)

    @property
    def children(self) -> dict[str, Parameterised]:
        """The parts, by the prefix of their names; to be replaced as a whole."""
        return self._children

    @children.setter
    def children(self, parts: Mapping[str, Parameterised]) -> None:
        self._children = dict(parts)
        for kind in type(self).__mro__:
            for name, attribute in vars(kind).items():
                if isinstance(attribute, child) and attribute.prefix in parts:
                    vars(self)[name] = parts[attribute.prefix]

    @property
    def params(self) -> dict[str, Array]:  # type: ignore[override]
        """The parameters of all parts, as ``child.name``; the arrays are live."""
        params = dict(self.own)
        for prefix, part in self.children.items():
            params |= prefixed(prefix, part.params)
        return LiveParams(params)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters, which inputs must share."""
        return next(iter(self.own.values() or self._first_part.params.values())).dtype

    @property
    def cache_options(self) -> dict[str, Any]:
        """Those of the parts."""
        options: dict[str, Any] = {}
        for prefix, part in self.children.items():
            options |= prefixed(prefix, getattr(part, "cache_options", {}))
        return options

    @property
    def _first_part(self) -> Parameterised:
        return next(part for part in self.children.values() if part.params)

    def with_params(self, params: Mapping[str, Array]) -> Self:
        """Return the same layer over other arrays (not copied): same names, same shapes."""
        check_same_parameters(self.params, params)
        clone = copy.copy(self)
        clone.own = {name: params[name] for name in self.own}
        clone.children = {
            prefix: part.with_params({name: params[joined(prefix, name)] for name in part.params})
            for prefix, part in self.children.items()
        }
        return clone


Part = TypeVar("Part", bound=Parameterised)
Value = TypeVar("Value")


class child(Generic[Part]):
    """Declares an attribute that is a part of a composite: ``head = child[Linear]()``.

    Parameters
    ----------
    prefix : str, optional
        The key of the part in ``children``; the name of the attribute if omitted.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    def __set_name__(self, owner: type[Composite], name: str) -> None:
        """Learn the name of the attribute."""
        self.prefix = self.prefix or name

    def __get__(self, composite: Composite, owner: type[Composite]) -> Part:
        """Say that there is no such part: one that there is, is in the composite itself."""
        raise AttributeError(f"{owner.__name__} has no part {self.prefix!r}")


def joined(prefix: str, name: str) -> str:
    """Name of a child's parameter as its parent calls it."""
    return name if prefix.startswith("(") else f"{prefix}.{name}"


def prefixed(prefix: str, named: Mapping[str, Value]) -> dict[str, Value]:
    """Rename what a child has by name, such as its gradients, as its parent calls it."""
    return {joined(prefix, name): value for name, value in named.items()}


def named_grads(parts: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    """Gradients of all parts together, from those of each part by its prefix."""
    return {
        joined(prefix, name): array
        for prefix, grads in parts.items()
        for name, array in grads.items()
    }
