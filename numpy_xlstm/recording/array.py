"""An array that notes what NumPy does with it.

NumPy hands every operation on a subclass to two methods of it, ``__array_ufunc__`` and
``__array_function__``. Here they do the operation on plain arrays and note it, with its result as
the place to write to. A view needs no note, since it is of an array that stays where it is. Where
Python asks for a truth value, a check is noted.

What cannot be noted raises :class:`~numpy_xlstm.errors.RecordingError`. Some functions of NumPy
never ask the subclass, such as ``np.empty(shape)``, ``np.ascontiguousarray(x)``, or ``table[x]``
with x as the index: what they return is a constant for the program. Write
``np.empty(shape, like=x)``, ``np.ascontiguousarray(x, like=x)``, and
``np.take(np.asarray(table, like=x), x, axis=0)``.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NoReturn, cast

import numpy as np

from numpy_xlstm.errors import RecordingError
from numpy_xlstm.numerics import Array
from numpy_xlstm.recording.program import Recorder, assign, check

NEW: set[Any] = {np.empty, np.empty_like}
"""Make an array that has no value yet."""

CONSTANT: set[Any] = {np.zeros, np.zeros_like, np.ones, np.ones_like, np.full, np.full_like}
"""Make an array that has the same value at every run."""

WITH_OUT: set[Any] = {np.concatenate, np.cumsum, np.einsum}
"""Can write their result to an array."""

WITHOUT_OUT: set[Any] = {np.where, np.take}
"""Cannot, or are slower if they do."""

COMPOSED: set[Any] = {
    *(np.stack, np.reshape, np.swapaxes, np.transpose, np.moveaxis, np.expand_dims, np.squeeze),
    *(np.atleast_1d, np.copy, np.sum, np.prod, np.mean, np.max, np.min, np.any, np.all),
    *(np.shape, np.ndim, np.size),
}
"""Functions made of others that can be noted, or of views; or that ask for no numbers."""

QUESTIONS: set[Any] = {np.result_type, np.may_share_memory, np.iscomplexobj}
"""Ask for no numbers either, but must be asked with plain arrays."""

AS_RECORDED: set[Any] = {np.asarray, np.asanyarray}
"""With ``like``: make a constant an array on which operations are recorded."""

METHODS = ("__call__", "reduce", "accumulate")


class RecordedArray(np.ndarray[Any, Any]):
    """An array whose operations are noted by a recorder, see :func:`recorded`."""

    recorder: Recorder | None = None
    """None for an array that was made by an operation which could not be noted."""

    def __array_finalize__(self, source: Any) -> None:
        """Have the recorder of the array that this one is a view of."""
        if isinstance(source, RecordedArray) and source.recorder is not None:
            view = self.view(np.ndarray)
            if not self.size or np.may_share_memory(view, source.plain):
                self.recorder = source.recorder

    @cached_property
    def plain(self) -> Array:
        """The same as a plain array."""
        assert self._recorder
        return self.view(np.ndarray)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        """Do what a ufunc does, and note it."""
        if method not in METHODS or ufunc.nout > 1:
            _refuse(f"{ufunc.__name__}.{method}")
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return self._noted(function, inputs, options, out and out[0])

    def __array_function__(
        self, function: Any, types: Any, arguments: Any, options: Mapping[str, Any]
    ) -> Any:
        """Do what a function of NumPy does, and note it."""
        if function in COMPOSED:
            return super().__array_function__(function, types, arguments, options)
        if function in WITH_OUT:
            others = {key: value for key, value in options.items() if key != "out"}
            return self._noted(function, arguments, others, options.get("out"))
        given, options, recorder = plain(arguments), plain(options), self._recorder
        if function in QUESTIONS:
            return function(*given, **options)
        if function is np.ascontiguousarray:
            (array,) = arguments
            return array if array.flags.c_contiguous else array.copy()
        if function is np.copyto:
            return recorder.do(function, _target(arguments[0]), *given[1:], **options)
        if function not in NEW | CONSTANT | WITHOUT_OUT | AS_RECORDED:
            _refuse(function.__name__)
        result = function(*given, **options)
        if not isinstance(result, np.ndarray):
            _refuse(f"{function.__name__} with more than one result")
        if function in CONSTANT:
            recorder.note(np.copyto, result, result.copy())
        if function in WITHOUT_OUT:
            recorder.note(assign, result, function, *given, **options)
        return recorded(result, recorder)

    @property
    def _recorder(self) -> Recorder:
        if self.recorder is None:
            _refuse("an array that none of these has made")
        return self.recorder

    def _noted(
        self, function: Callable[..., Any], inputs: Any, options: Mapping[str, Any], out: Any
    ) -> Any:
        """The result of an operation that can write it to ``out``."""
        given, options, recorder = plain(inputs), plain(options), self._recorder
        if out is not None:
            recorder.do(function, *given, out=_target(out), **options)
            return out
        result = np.asarray(function(*given, **options))
        recorder.note(function, *given, out=result, **options)
        return recorded(result, recorder)

    def __getitem__(self, index: Any) -> Any:
        """Part of the array, as a view."""
        part = super().__getitem__(index)
        if not isinstance(part, np.ndarray):  # a number: as an array of shape ()
            part = super().__getitem__((*(index if isinstance(index, tuple) else (index,)), ...))
        return part

    def __setitem__(self, index: Any, value: Any) -> None:
        """Write to a part of the array."""
        part, value = self[index], plain(value)
        if part.recorder is None:
            _refuse("writing to a part that is no slice")
        if not (isinstance(value, np.ndarray) and _same_place(part.plain, value)):
            self._recorder.do(np.copyto, part.plain, value, casting="unsafe")

    def __bool__(self) -> bool:
        """Whether the one number is not 0; that it stays so becomes part of the program."""
        condition = self.plain
        truth = bool(condition)
        self._recorder.note(check, condition, truth)
        return truth

    def copy(self, order: Any = "C") -> Any:
        """Return a copy."""
        result = self.plain.copy(order)
        self._recorder.note(np.copyto, result, self.plain)
        return recorded(result, self._recorder)

    def astype(self, dtype: Any, *arguments: Any, **options: Any) -> Any:
        """Return a copy of another dtype."""
        result = self.plain.astype(dtype, *arguments, **(options | {"copy": True}))
        self._recorder.note(np.copyto, result, self.plain, casting="unsafe")
        return recorded(result, self._recorder)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        """Return a view of another shape, or a copy where there is none."""
        result = self.plain.reshape(*shape, **options)
        if self.size and not np.may_share_memory(result, self.plain):
            return self.copy().reshape(*shape, **options)
        return recorded(result, self._recorder)

    def __repr__(self) -> str:
        """Shape and dtype: the numbers are not to be looked at."""
        return f"RecordedArray(shape={self.shape}, dtype={self.dtype})"

    __str__ = __repr__


def _refused(name: str) -> Callable[..., NoReturn]:
    def method(self: RecordedArray, *arguments: Any, **options: Any) -> NoReturn:
        _refuse(name)

    return method


for _name in (
    *("__int__", "__float__", "__complex__", "__index__", "item", "tolist", "tobytes", "dump"),
    *("fill", "put", "sort", "partition", "resize", "setfield", "argmax", "argmin", "argsort"),
    *("take", "choose", "compress", "repeat", "nonzero", "searchsorted", "dot", "flatten", "ravel"),
):
    setattr(RecordedArray, _name, _refused(_name))


def _refuse(what: str) -> NoReturn:
    raise RecordingError(f"expected operations that can be recorded; got {what}")


def recorded(array: Array, recorder: Recorder) -> RecordedArray:
    """View of an array that notes what is done with it."""
    view = array.view(RecordedArray)
    view.recorder, view.plain = recorder, array
    return view


def plain(tree: Any) -> Any:
    """Whatever an operation is given, with plain arrays in the place of recorded ones."""
    if type(tree) is RecordedArray:
        return tree.plain
    if isinstance(tree, tuple):
        return tuple([plain(part) for part in tree])
    if isinstance(tree, list):
        return [plain(part) for part in tree]
    if isinstance(tree, dict) and tree:
        return {key: plain(value) for key, value in tree.items()}
    return tree


def _same_place(a: Array, b: Array) -> bool:
    """Whether both are the same numbers in memory, as after ``x[i] += y``, which assigns x[i]."""
    first, second = a.__array_interface__, b.__array_interface__
    return all(first[key] == second[key] for key in ("data", "shape", "strides", "typestr"))


def _target(out: Any) -> Array:
    """The plain array that an operation shall write to, which must be one of the program's."""
    if not isinstance(out, RecordedArray):
        _refuse("a result in an array of another origin; make it with like=")
    return cast(Array, plain(out))
