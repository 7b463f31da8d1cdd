"""Module, the base of every cell, layer and model: named parameters, and parts with parameters."""

import copy
import html
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import DTypeError, ShapeError
from numpy_xlstm.numerics import (
    Array,
    check_array,
    check_form,
    check_separate,
    check_writable,
    checked_dtype,
    own_error_state,
    plain_array,
)
from numpy_xlstm.outline import outline
from numpy_xlstm.torch_habits import ExplainsTorchNames

Grads = dict[str, Array]
"""Gradients of parameters, by the names of ``params``."""

_latest_change = [object()]
"""Identifies the last change of a part or of the own parameters of any module."""


class Parameters(dict[str, Array]):
    """Arrays by name, changed in place: ``params[name] -= step`` or ``params[name][...] = new``."""

    def __setitem__(self, name: str, array: Array) -> None:
        """Accept only the same array, which an in-place operation assigns."""
        if name not in self or self[name] is not array:
            raise TypeError(
                f"params: expected a change in place, params[{name!r}][...] = …, or with_params; "
                "got another array"
            )

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "params: expected a change in place, params[name][...] = …, or with_params; "
            "got a change of names"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copying and pickling."""
        return Parameters, (dict(self),)

    __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


class Module(ExplainsTorchNames):
    """Named parameters, and parts that have parameters of their own.

    A cell sets ``params`` to a dict of arrays. A module made of other modules also sets ``parts``,
    with the prefixes of the parameter names of each part::

        self.params = {"learnable_skip": skip}
        self.parts = {"proj_up": "proj_up", "blocks": "blocks"}

    Here ``self.proj_up`` is a module, and its ``weight`` is ``proj_up.weight`` in ``params``.
    ``self.blocks`` is a list of modules, with names ``blocks.0.…``, ``blocks.1.…``. The prefix ""
    leaves names unchanged. A list may have a list of prefixes, in which ``*`` represents the name:
    ``{"layers": ["*_l0", "*_l1"]}`` gives ``weight_l0`` and ``weight_l1``.

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
        From ``params``, if two parameters have the same name.

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

    def __init_subclass__(cls, **options: Any) -> None:
        """Make each forward and backward independent of NumPy's error state."""
        super().__init_subclass__(**options)
        for name in {"forward", "backward", "__call__"} & vars(cls).keys():
            setattr(cls, name, own_error_state(vars(cls)[name]))

    parts: Mapping[str, str | list[str]] = MappingProxyType({})
    _arrays: Mapping[str, Array] = MappingProxyType({})
    _params: Parameters
    _names: Mapping[str, list[dict[str, str]]]
    _collected: object = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. If it is a part, every module collects its parameters again.

        A list of parts, or ``parts`` itself, that is changed in place is not noticed: set it anew.
        """
        object.__setattr__(self, name, value)
        if name in ("_arrays", "parts") or name in self.parts:
            _latest_change[0] = object()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise the error for an unknown attribute."""
            own = name.startswith("_") or name in self.parts or hasattr(type(self), name)
            if not own and name in self.params:
                expected = f"{type(self).__name__}: expected params[{name!r}]"
                raise AttributeError(f"{expected}; got an attribute {name}")
            return super().__getattr__(name)

    @property
    def params(self) -> Parameters:  # noqa: D102 (each class documents its own)
        self._collect()
        return self._params

    @params.setter
    def params(self, params: Mapping[str, Array]) -> None:
        """Set the module's own parameters, which belong to no part.

        At first any arrays are accepted, and later arrays of the same names, shapes and dtypes.
        """
        if not isinstance(params, Mapping):
            raise ShapeError(f"params: expected a mapping of arrays; got {type(params).__name__}")
        if taken := sorted(params.keys() & (self.params.keys() - self._arrays.keys())):
            raise TypeError(
                f"params: expected no parameters of parts; got {taken}; use with_params for them"
            )
        if missing := self._arrays.keys() - params.keys():
            raise ShapeError(f"params: expected {some(missing)} too; got only {some(params)}")
        if self._arrays and (unknown := params.keys() - self._arrays.keys()):
            raise ShapeError(
                f"params: expected the names {some(self._arrays)}; got {some(unknown)}"
            )
        for name, array in params.items():
            check_form(name, array, getattr(array, "shape", ()))
            if (before := self._arrays.get(name)) is not None:
                check_array(name, array, before.shape, before.dtype)
        self._arrays = dict(params)

    def _names_in(self, attribute: str) -> list[dict[str, str]]:
        """Return the names in ``params`` of the parameters of a part, or of each part in a list."""
        self._collect()
        return self._names[attribute]

    def _collect(self) -> None:
        """Collect the dict of all parameters, and their names in each part, after any change."""
        if self._collected is _latest_change[0]:
            return
        change = _latest_change[0]
        params: dict[str, Array] = dict(self._arrays)
        names: dict[str, list[dict[str, str]]] = {}
        for attribute, prefix in self.parts.items():
            for where, part in _entries(prefix, getattr(self, attribute)):
                joined = {name: _joined(where, name) for name in part.params}
                if taken := params.keys() & joined.values():
                    raise TypeError(f"parts: expected unique names; got {sorted(taken)} twice")
                arrays = {joined[name]: array for name, array in part.params.items()}
                if twice := {id(a) for a in params.values()} & {id(a) for a in arrays.values()}:
                    names_of = [name for name, a in (params | arrays).items() if id(a) in twice]
                    raise TypeError(f"parts: expected each module once; got {some(names_of)} twice")
                params |= arrays
                names.setdefault(attribute, []).append(joined)
        self.__dict__.update(_params=Parameters(params), _names=names, _collected=change)

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Dtype of the parameters, which inputs must share; None without parameters."""
        return next((array.dtype for array in self.params.values()), None)

    @property
    def num_parameters(self) -> int:
        """Number of all entries of the parameters."""
        return sum(array.size for array in self.params.values())

    def __repr__(self) -> str:
        """Return the parameters as a tree, with shapes and sizes."""
        return outline(type(self).__name__, self.params)

    def _repr_html_(self) -> str:
        """Return the same tree for a notebook."""
        return f"<pre>{html.escape(repr(self))}</pre>"

    def with_params(self, params: Mapping[str, Array]) -> Self:
        """Return the same module with other arrays (not copied) of the same names and shapes.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If names or shapes differ, the arrays are not of one supported dtype, or a number is
            NaN or infinite.
        OptionError
            If two arrays share memory, which an optimiser would then change twice.
        """
        check_same_parameters(self.params, params)
        for name, array in params.items():
            check_array(name, array, array.shape)
        if len(dtypes := {array.dtype for array in params.values()}) > 1:
            raise DTypeError(
                f"params: expected arrays of one dtype; got {sorted(map(str, dtypes))}"
            )
        check_separate(params)
        return self.over(params)

    def over(self, params: Mapping[str, Array]) -> Self:
        """Do the same as :meth:`with_params`, without checks, for validated arrays."""
        self._collect()
        clone = copy.copy(self)

        def put(name: str, value: Any) -> None:
            """Set an attribute without notice: no other module has the clone as a part yet."""
            object.__setattr__(clone, name, value)

        put("_arrays", {name: params[name] for name in self._arrays})
        put("_params", Parameters({name: params[name] for name in self._params}))
        for attribute in self.parts:
            found = getattr(self, attribute)
            each = found if isinstance(found, list) else [found]
            parts = [
                part.over({name: params[joined] for name, joined in names.items()})
                for names, part in zip(self._names[attribute], each, strict=True)
            ]
            put(attribute, parts if isinstance(found, list) else parts[0])
        return clone

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Return a copy of the module whose parameters have another dtype, such as complex128."""
        to = checked_dtype(dtype)
        return self.with_params({name: array.astype(to) for name, array in self.params.items()})

    def parameters(self) -> Iterator[Array]:
        """Yield all parameters, not copied: the values of ``params``."""
        yield from self.params.values()

    def named_parameters(self) -> Iterator[tuple[str, Array]]:
        """Yield all parameters, not copied, with their names: the items of ``params``."""
        yield from self.params.items()

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters under their names."""
        return {name: array.copy() for name, array in self.params.items()}

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Copy arrays into the parameters; after an error, no parameter is changed.

        Parameters
        ----------
        arrays : Mapping[str, array_like]
            Arrays with the names and shapes of ``params``, as in PyTorch's ``state_dict()``.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError, OptionError
            If names or shapes differ, a number is not a finite floating-point number, or a
            parameter is read-only.
        """
        params = self.params
        found = like_parameters(params, arrays)
        check_writable(params)
        for name, array in found.items():
            params[name][...] = array

    def named_grads(self, **parts: Any) -> Grads:
        """Return the gradients of the given parts, under their names in ``params``.

        Each argument has the name of a part and contains its gradients, or a list for a list of
        parts.
        """
        grads: Grads = {}
        for attribute, found in parts.items():
            each = found if isinstance(found, list) else [found]
            for names, part in zip(self._names_in(attribute), each, strict=True):
                for name, array in part.items():
                    grads[names[name]] = array
        return grads


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


def like_parameters(params: Mapping[str, Array], arrays: Mapping[str, Any]) -> dict[str, Array]:
    """Return arrays converted to the dtypes of the parameters, or raise an error."""
    if not isinstance(arrays, Mapping):
        raise ShapeError(f"state_dict: expected a mapping of arrays; got {type(arrays).__name__}")
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


def some(names: Collection[str]) -> str:
    """Return the first few names, and the number of further names."""
    first, rest = sorted(map(str, names))[:6], len(names) - 6
    return str(first) + (f" and {rest} more" if rest > 0 else "")
