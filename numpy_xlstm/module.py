"""Module, the base of every cell, layer and model: named parameters, and parts with parameters."""

import copy
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import DTypeError, ShapeError
from numpy_xlstm.numerics import (
    Array,
    check_form,
    check_parameter,
    check_separate,
    check_writable,
    checked_dtype,
    is_narrow,
    plain_array,
)
from numpy_xlstm.torch_habits import explained

Grads = dict[str, Array]
"""Gradients of parameters, by the names of ``params``."""


class Parameters(dict[str, Array]):
    """Arrays by name, changed in place: ``params[name] -= step`` or ``params[name][...] = new``."""

    def __setitem__(self, name: str, array: Array) -> None:
        """Accept only the same array, which an in-place operation assigns."""
        if self.get(name) is not array or array is None:
            self._refuse()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "params: expected a change in place, params[name][...] = …, or with_params; "
            "got other arrays or names"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copying and pickling."""
        return Parameters, (dict(self),)

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


class Module:
    """Named parameters, and parts that have parameters of their own.

    A cell sets ``params`` to a dict of arrays. A module made of other modules also sets ``parts``,
    with the prefixes of the parameter names of each part::

        self.params = {"learnable_skip": skip}
        self.parts = {"proj_up": "proj_up", "blocks": "blocks"}

    Here ``self.proj_up`` is a module, and its ``weight`` is ``proj_up.weight`` in ``params``.
    ``self.blocks`` is a list of modules, with names ``blocks.0.…``, ``blocks.1.…``. The prefix ""
    leaves names unchanged. A list may have a list of prefixes, in which ``*`` represents the name:
    ``{"layers": ["*_l0", "*_l1"]}`` gives ``weight_l0`` and ``weight_l1``.

    A module is frozen when ``params``, or ``dtype``, is read for the first time: arrays are then
    changed in place, and :meth:`with_params` returns a module with other arrays.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        All parameters, not copied. Write into an array to change a parameter, or use
        :meth:`with_params` for a module with other arrays, which are then validated. ``grads``
        returned by a backward has exactly these names and shapes.
    parts : dict[str, str | list[str]]
        Prefix of each part, by the name of its attribute.

    Raises
    ------
    TypeError
        If ``params``, ``parts`` or a part is set after ``params`` was read, or two parameters have
        the same name.

    Examples
    --------
    >>> import numpy as np
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.params = {"s": np.array([2.0])}
    >>> class Pair(Module):
    ...     def __init__(self):
    ...         self.scales, self.parts = [Scale(), Scale()], {"scales": "scales"}
    >>> Pair()
    Pair  2
    └─ scales  2
       ├─ 0  1
       │  └─ s  (1,) float64  1
       └─ 1  1
          └─ s  (1,) float64  1
    """

    parts: Mapping[str, str | list[str]] = MappingProxyType({})
    _own: Mapping[str, Array] = MappingProxyType({})
    """Parameters that belong to no part."""
    _names: Mapping[str, list[dict[str, str]]]
    """For each part, or each in a list, the names in ``params`` of its parameters."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; refuse parameters and parts of a frozen module."""
        if name in ("params", "parts") or name in self.parts:
            if "params" in vars(self):
                raise TypeError(
                    f"{name}: expected no other arrays or parts after params was read; got a new "
                    f"value; write with_params(…) for a {type(self).__name__} with other arrays"
                )
            if name == "params":
                name, value = "_own", _checked(value)
        object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # a type checker would accept every attribute

        def __getattr__(self, name: str) -> Any:
            """Raise the error for an unknown attribute, or again the error raised in a property."""
            try:
                return object.__getattribute__(self, name)
            except AttributeError as error:
                message = explained(error, name)
            own = name.startswith("_") or name in self.parts or hasattr(type(self), name)
            if not own and name in Module.params.func(self):  # self.params would freeze it
                expected = f"{type(self).__name__}: expected params[{name!r}]"
                message = f"{expected}; got an attribute {name}"
            raise AttributeError(message)

    @cached_property
    def params(self) -> dict[str, Array]:  # noqa: D102 (each class documents its own)
        params: dict[str, Array] = dict(self._own)
        names: dict[str, list[dict[str, str]]] = {}
        for attribute, prefix in self.parts.items():
            names[attribute] = []
            for where, part in _entries(prefix, getattr(self, attribute)):
                joined = {name: _joined(where, name) for name in part.params}
                if taken := params.keys() & joined.values():
                    raise TypeError(f"parts: expected unique names; got {sorted(taken)} twice")
                arrays = {joined[name]: array for name, array in part.params.items()}
                if twice := {id(a) for a in params.values()} & {id(a) for a in arrays.values()}:
                    several = [name for name, a in (params | arrays).items() if id(a) in twice]
                    raise TypeError(f"parts: expected each module once; got {some(several)} twice")
                params |= arrays
                names[attribute].append(joined)
        vars(self)["_names"] = names
        return Parameters(params)

    @cached_property
    def dtype(self) -> np.dtype[Any] | None:
        """Dtype of the parameters, which inputs must share; None without parameters.

        It is float32 if matrices are stored in 16 bits, as ``from_pretrained`` can load them.
        """
        for array in self.params.values():
            return np.dtype(np.float32) if is_narrow(array) else array.dtype
        return None

    @cached_property
    def is_narrow(self) -> bool:
        """Whether matrices are stored in 16 bits, so that there is no backward."""
        return any(map(is_narrow, self.params.values()))

    @property
    def num_parameters(self) -> int:
        """Number of all entries of the parameters."""
        return sum(array.size for array in self.params.values())

    def __repr__(self) -> str:
        """Return the parameters as a tree, with shapes and sizes."""
        return outline(type(self).__name__, self.params)

    def with_params(self, params: Mapping[str, Array]) -> Self:
        """Return the same module with other arrays (not copied) of the same names and shapes.

        They have one dtype, except that a matrix that is stored in 16 bits may keep that dtype.
        """
        check_same_parameters(self.params, params)
        for name, array in params.items():
            check_parameter(name, array, self.params[name])
        if len(dtypes := {array.dtype for array in params.values() if not is_narrow(array)}) > 1:
            raise DTypeError(
                f"params: expected arrays of one dtype; got {sorted(map(str, dtypes))}"
            )
        check_separate(params)
        return self.over(params)

    def over(self, params: Mapping[str, Array]) -> Self:
        """Do the same as :meth:`with_params`, without checks, for validated arrays."""
        own = {name: params[name] for name in self.params}
        clone = copy.copy(self)
        for name in ("dtype", "is_narrow"):
            vars(clone).pop(name, None)
        vars(clone).update(params=Parameters(own), _own={name: own[name] for name in self._own})
        for attribute in self.parts:
            part = getattr(self, attribute)
            several = part if isinstance(part, list) else [part]
            clones = [
                module.over({name: params[joined] for name, joined in names.items()})
                for names, module in zip(self._names[attribute], several, strict=True)
            ]
            new = clones if isinstance(part, list) else clones[0]
            object.__setattr__(clone, attribute, new)
        return clone

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Return a copy of the module whose parameters have another dtype, such as complex128."""
        to = checked_dtype(dtype)
        return self.with_params({name: array.astype(to) for name, array in self.params.items()})

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters under their names."""
        return {name: array.copy() for name, array in self.params.items()}

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Copy arrays, converted to its dtype, into each parameter; after an error change none.

        Parameters
        ----------
        arrays : Mapping[str, array_like]
            Arrays with the names and shapes of ``params``, as in PyTorch's ``state_dict()``.
        """
        if not isinstance(arrays, Mapping):
            raise ShapeError(
                f"state_dict: expected a mapping of arrays; got {type(arrays).__name__}"
            )
        params, converted = self.params, {n: plain_array(n, array) for n, array in arrays.items()}
        check_same_parameters(params, converted, "state_dict")
        for name, array in converted.items():
            if array.dtype.kind != "f" and array.dtype != params[name].dtype:
                raise DTypeError(f"{name}: expected floating-point numbers; got {array.dtype}")
            converted[name] = array.astype(params[name].dtype)
            check_parameter(name, converted[name], params[name])
        check_writable(params)
        for name, array in converted.items():
            params[name][...] = array

    def named_grads(self, **parts: Any) -> Grads:
        """Return the gradients of the given parts, under their names in ``params``.

        Each argument has the name of a part and contains its gradients, or a list for a list of
        parts.
        """
        self.params  # noqa: B018 (sets _names)
        grads: Grads = {}
        for attribute, part in parts.items():
            several = part if isinstance(part, list) else [part]
            for names, gradients in zip(self._names[attribute], several, strict=True):
                grads |= {names[name]: array for name, array in gradients.items()}
        return grads


def _checked(params: Any) -> dict[str, Array]:
    """Return the parameters of a module that belong to no part, or raise an error."""
    if not isinstance(params, Mapping):
        raise ShapeError(f"params: expected a mapping of arrays; got {type(params).__name__}")
    for name, array in params.items():
        check_form(name, array, (...,))
    return dict(params)


def _entries(prefix: str | list[str], part: Any) -> Iterator[tuple[str, Any]]:
    """Yield a part with its prefix, or each entry of a list with its own prefix."""
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
        raise ShapeError(f"{title}: expected a mapping of arrays; got {type(got).__name__}")
    if missing := expected.keys() - got.keys():
        raise ShapeError(f"{title}: expected {some(missing)} too; got only {some(got)}")
    if unknown := got.keys() - expected.keys():
        raise ShapeError(f"{title}: expected the names {some(expected)}; got {some(unknown)}")
    for name, array in expected.items():
        shape = getattr(got[name], "shape", type(got[name]).__name__)
        if shape != array.shape:
            raise ShapeError(f"{name}: expected shape {array.shape}; got {shape}")


def _joined(prefix: str, name: str) -> str:
    if "*" in prefix:
        return prefix.replace("*", name)
    return f"{prefix}.{name}" if prefix else name


def some(names: Collection[str]) -> str:
    """Return the first few names, and the number of further names."""
    first, rest = sorted(map(str, names))[:6], len(names) - 6
    return str(first) + (f" and {rest} more" if rest > 0 else "")


def outline(title: str, params: Mapping[str, Any], indent: str = "") -> str:
    """Return a text with arrays, or objects with shape and dtype, as a tree of dotted names."""
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
            drawn = outline(head, below, indent + ("   " if last else "│  "))
        lines.append(f"{indent}{'└─ ' if last else '├─ '}{drawn}")
    return "\n".join(lines)
