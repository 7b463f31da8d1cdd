"""Module, the base of every cell, layer and model: named parameters, also of submodules."""

import copy
from collections.abc import Collection, Iterator, Mapping
from functools import wraps
from inspect import signature
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
from numpy_xlstm.torch_habits import advising, explained

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
        return Parameters, (dict(self),)

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


class Module:
    """Named parameters, and submodules that have parameters of their own.

    A cell sets ``params`` to a dict of arrays. A module made of other modules then sets
    ``submodules``, with the prefix of the parameter names of each::

        self.params = {"learnable_skip": skip}
        self.submodules = {"proj_up": "proj_up", "blocks": "blocks"}

    Here ``self.proj_up`` is a module, and its ``weight`` is ``proj_up.weight`` in ``params``.
    ``self.blocks`` is a list of modules, with names ``blocks.0.…``, ``blocks.1.…``. The prefix ""
    leaves names unchanged. A list may have a list of prefixes, in which ``*`` represents the name:
    ``{"layers": ["*_l0", "*_l1"]}`` gives ``weight_l0`` and ``weight_l1``.

    Both are set once, and submodules do not change after that. Arrays are changed in place, and
    :meth:`with_params` returns a module with other arrays.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        All parameters, not copied. Write into an array to change a parameter, or use
        :meth:`with_params` for a module with other arrays, which are then validated. ``grads``
        returned by a backward has exactly these names and shapes.
    submodules : dict[str, str | list[str]]
        Prefix of each submodule, by the name of its attribute.
    dtype : np.dtype or None
        Dtype of the parameters, which inputs must share; None without parameters. It is float32 if
        matrices are stored in 16 bits, as ``from_pretrained`` can load them.
    is_narrow : bool
        Whether matrices are stored in 16 bits, so that there is no backward.

    Raises
    ------
    TypeError
        If ``params``, ``submodules`` or a submodule is set again, or two parameters have the same
        name.

    Examples
    --------
    >>> import numpy as np
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.params = {"s": np.array([2.0])}
    >>> class Pair(Module):
    ...     def __init__(self):
    ...         self.scales = [Scale(), Scale()]
    ...         self.submodules = {"scales": "scales"}
    >>> Pair()
    Pair  2
    └─ scales  2
       ├─ 0  1
       │  └─ s  (1,) float64  1
       └─ 1  1
          └─ s  (1,) float64  1
    """

    forward: Any
    params: dict[str, Array] = Parameters()
    submodules: Mapping[str, str | list[str]] = MappingProxyType({})
    dtype: np.dtype[Any] | None = None
    is_narrow: bool = False
    _is_made = False
    """Whether the constructor has ended."""
    _names: Mapping[str, list[dict[str, str]]]
    """For each submodule, or each in a list, the names in ``params`` of its parameters."""

    def __init_subclass__(cls) -> None:
        """Make errors about wrong arguments say which are right, and note when a module is made."""
        super().__init_subclass__()
        for name in {"__init__", "__call__", "forward", "backward"} & vars(cls).keys():
            setattr(cls, name, advising(vars(cls)[name]))
        if "__init__" in vars(cls):
            cls.__init__ = _noting_its_end(cls.__init__)  # type: ignore[method-assign]

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Return the results of ``forward`` without the last, its cache."""
        *results, _ = self.forward(*args, **options)
        return results[0] if len(results) == 1 else tuple(results)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; join the parameters of submodules; refuse what has no effect."""
        if self._is_made and name not in self.submodules:
            write = f"another {type(self).__name__}, made with {name}=…"
            if name in self.params:
                write = f"params[{name!r}][...] = …, or with_params"
            options = {*signature(type(self)).parameters, "dropout"}  # dropout may be in a config
            if name in options or name in self.params:
                raise TypeError(f"{name}: expected {write}; got a new value of an attribute")
        if name in ("params", "submodules") or name in self.submodules:
            if name in vars(self) or "submodules" in vars(self):
                raise TypeError(
                    f"{name}: expected to be set once, params before submodules; got a new value; "
                    f"write with_params(…) for a {type(self).__name__} with other arrays"
                )
            if name == "params":
                check_mapping("params", value)
                for own, array in value.items():
                    check_form(own, array, (...,))
                self._hold(value)
                return
        object.__setattr__(self, name, value)
        if name == "submodules":
            self._join()

    def _hold(self, params: Mapping[str, Array]) -> None:
        """Set all parameters, and what depends on them."""
        arrays = list(params.values())
        narrow = any(map(is_narrow, arrays))
        dtype = np.dtype(np.float32) if narrow else arrays[0].dtype if arrays else None
        vars(self).update(params=Parameters(params), dtype=dtype, is_narrow=narrow)

    def _join(self) -> None:
        """Add the parameters of the submodules."""
        params: dict[str, Array] = dict(self.params)
        names: dict[str, list[dict[str, str]]] = {}
        for attribute, prefix in self.submodules.items():
            names[attribute] = []
            for where, module in _entries(prefix, getattr(self, attribute)):
                joined = {name: _joined(where, name) for name in module.params}
                if taken := params.keys() & joined.values():
                    raise TypeError(f"submodules: expected unique names; got {sorted(taken)} twice")
                arrays = {joined[name]: array for name, array in module.params.items()}
                if twice := {id(a) for a in params.values()} & {id(a) for a in arrays.values()}:
                    several = [name for name, a in (params | arrays).items() if id(a) in twice]
                    raise TypeError(
                        f"submodules: expected each module once; got {some(several)} twice"
                    )
                params |= arrays
                names[attribute].append(joined)
        self._names = names
        self._hold(params)

    if not TYPE_CHECKING:  # a type checker would accept every attribute

        def __getattr__(self, name: str) -> Any:
            """Raise the error for an unknown attribute, or again the error raised in a property."""
            try:
                return object.__getattribute__(self, name)
            except AttributeError as error:
                message = explained(error, name)
            if not name.startswith("_") and not hasattr(type(self), name) and name in self.params:
                expected = f"{type(self).__name__}: expected params[{name!r}]"
                message = f"{expected}; got an attribute {name}"
            raise AttributeError(message, name=name, obj=self)  # Python suggests a similar name

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
        clone = copy.copy(self)
        clone._hold({name: params[name] for name in self.params})
        for attribute in self.submodules:
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

    @advising
    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Copy arrays, converted to its dtype, into each parameter; after an error change none.

        Parameters
        ----------
        arrays : Mapping[str, array_like]
            Arrays with the names and shapes of ``params``, as in PyTorch's ``state_dict()``.
        """
        check_mapping("state_dict", arrays)
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

    def named_grads(self, **submodules: Any) -> Grads:
        """Return the gradients of the given submodules, under their names in ``params``.

        Each argument has the name of a submodule and contains its gradients, or a list for a list
        of submodules.
        """
        grads: Grads = {}
        for attribute, part in submodules.items():
            several = part if isinstance(part, list) else [part]
            for names, gradients in zip(self._names[attribute], several, strict=True):
                grads |= {names[name]: array for name, array in gradients.items()}
        return grads


def _noting_its_end(init: Any) -> Any:
    """Decorate a constructor: note when that of the class itself has ended, not of a base."""

    @wraps(init)
    def call(self: Any, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        if type(self).__init__ is call:
            vars(self)["_is_made"] = True

    return call


def check_mapping(title: str, arrays: Any) -> None:
    """Raise :class:`ShapeError` unless the arrays are a mapping."""
    if not isinstance(arrays, Mapping):
        raise ShapeError(f"{title}: expected a mapping of arrays; got {type(arrays).__name__}")


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
    check_mapping(title, got)
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
