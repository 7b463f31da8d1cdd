"""An array that notes what NumPy does with it.

NumPy hands every operation on a subclass to two methods of it, ``__array_ufunc__`` and
``__array_function__``. Here they do the operation on plain arrays and note it, with its result as
the place to write to. A view needs no note, since it is of an array that stays where it is. Where
Python asks for a truth value, a check is noted.

What is known not to be possible raises :class:`~numpy_xlstm.errors.RecordingError`. What NumPy does
without asking the subclass is not seen: its result is a constant for the program. That is so where

- an array is made from no array that NumPy looks at, as by ``np.empty(shape)``,
  ``np.ascontiguousarray(x)``, ``np.array(x)`` or ``np.max([x, y])``; pass ``like=x``, or stack;
- an array of another origin is indexed with x, or written to: ``table[x]``, ``table[...] = x``;
- x is taken out of NumPy, or given to what is not NumPy's arithmetic: ``np.float64(x)``,
  ``np.nditer(x)``, ``x.view(np.ndarray)``, ``as_strided(x, ...)``, ``rng.normal(x)``;
- Python asks what kind of thing a result is: ``isinstance(x.sum(), float)``.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from numpy_xlstm.errors import RecordingError
from numpy_xlstm.numerics import Array
from numpy_xlstm.recording.calls import BUFFER
from numpy_xlstm.recording.functions import (
    AS_THEY_ARE,
    COMPOSED,
    FILLED,
    NEW,
    ORDERLESS,
    OUT_COMES_AFTER,
    QUESTIONS,
    WITH_OUT,
    WITHOUT_OUT,
)
from numpy_xlstm.recording.memory import owner, same_place, shares
from numpy_xlstm.recording.recorder import Recorder

METHODS = ("__call__", "reduce", "accumulate")
"""Of a ufunc, that can be noted."""

PLAIN = {np.ndarray, np.memmap, int, float, bool, str, type(None), np.float64, np.float32}
"""What an operation can be given as it is, apart from rarer kinds of numbers."""

UNSAFE: dict[str, Any] = {"casting": "unsafe"}
"""As an assignment to a part of an array casts."""


class RecordedArray(np.ndarray[Any, Any]):
    """An array whose operations are noted by a recorder, see :func:`recorded`."""

    recorder: Recorder | None = None
    """None for an array that was made by an operation which could not be noted."""
    is_number = False
    """Whether NumPy would have a number in its place, which nothing can be written to."""

    def __array_finalize__(self, source: Any) -> None:
        """Have the recorder of the array that this one is a view of."""
        if not isinstance(source, RecordedArray) or source.recorder is None:
            return
        if owner(self) is owner(source):
            vars(self).update(recorder=source.recorder, is_number=source.is_number)

    @property
    def plain(self) -> Array:
        """The same as a plain array."""
        known = vars(self)
        if "_plain" not in known:
            known["_plain"] = self.view(np.ndarray)
        plain: Array = known["_plain"]
        return plain

    @property
    def _recorder(self) -> Recorder:
        if self.recorder is None:
            _refuse(
                "an array that was taken from a recorded one, but is no view of it, as by a mask; "
                "np.where and np.take can be recorded"
            )
        return self.recorder

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        """Do what a ufunc does, and note it."""
        if method not in METHODS or ufunc.nout > 1:
            _refuse(f"{ufunc.__name__}.{method}")
        if not {list, tuple}.isdisjoint(map(type, inputs)):
            _refuse(f"{ufunc.__name__} of a list; use np.stack")
        with self._recorder:
            if method == "__call__":
                return self._noted(ufunc, inputs, options, out and out[0])
            if ufunc not in ORDERLESS and np.size(plain(inputs[0])) > BUFFER:
                self._recorder.buffer = np.getbufsize()
            return self._noted(getattr(ufunc, method), inputs, options, out and out[0])

    def __array_function__(
        self, function: Any, types: Any, arguments: Any, options: Mapping[str, Any]
    ) -> Any:
        """Do what a function of NumPy does, and note it."""
        if function in COMPOSED:
            return super().__array_function__(function, types, arguments, options)
        if function in QUESTIONS:
            return function(*plain(arguments), **plain(options))
        with self._recorder:
            return self._done(function, arguments, options)

    def _done(self, function: Any, arguments: Any, options: Mapping[str, Any]) -> Any:
        """Do and note what is a function of its own."""
        if len(arguments) > OUT_COMES_AFTER.get(function, len(arguments)):
            _refuse(f"{function.__name__} with a result in an array that is not named by out=")
        if function in WITH_OUT:
            others = {key: value for key, value in options.items() if key != "out"}
            return self._noted(function, arguments, others, options.get("out"))
        if function is np.copyto and arguments:
            target, value, *more = arguments
            if more:
                _refuse("copyto with options that are not named")
            return self._recorder.note_copy(_target(target), plain(value), **plain(options))
        if function not in NEW | FILLED | WITHOUT_OUT | AS_THEY_ARE:
            _refuse(function.__name__)
        if options.get("out") is not None:
            _refuse(f"{function.__name__} with out=")
        return self._made(function, arguments, options)

    def _noted(
        self, function: Callable[..., Any], inputs: Any, options: Mapping[str, Any], out: Any
    ) -> Any:
        """The result of an operation that can write it to ``out``."""
        given, options, recorder = plain(inputs), plain(options), self._recorder
        found = function(*given, **options) if out is None else _target(out)
        result = np.asarray(found)
        if function is np.einsum and out is None and any(shares(result, a) for a in given):
            return recorded(result, recorder)  # a view
        if out is not None:
            function(*given, out=result, **options)
        recorder.note(result, function, *given, **options)
        return out if out is not None else recorded(result, recorder, isinstance(found, np.generic))

    def _made(
        self, function: Callable[..., Any], arguments: Any, options: Mapping[str, Any]
    ) -> "RecordedArray":
        """The array that a function makes."""
        given, options, recorder = plain(arguments), plain(options), self._recorder
        found = function(*given, **options)
        if isinstance(found, tuple):
            _refuse(f"{function.__name__} with more than one result")
        result = np.asarray(found)
        if function in AS_THEY_ARE and any(result is a or shares(result, a) for a in given):
            if isinstance(arguments[0], RecordedArray) and arguments[0].is_number:
                return arguments[0].of_its_own()
            result = result.view()
            result.flags.writeable &= isinstance(arguments[0], RecordedArray)  # or is a constant
        elif function in FILLED:
            recorder.note(result, np.copyto, int(function in (np.ones, np.ones_like)))
        elif function not in NEW:
            recorder.note(result, function, *given, **options)
        return recorded(result, recorder, isinstance(found, np.generic))

    def __getitem__(self, index: Any) -> Any:
        """Part of the array, as a view; a copy where NumPy would give a number."""
        if self.is_number and not (isinstance(index, tuple) and not index):
            return self.of_its_own()[index]
        part = super().__getitem__(index)
        if isinstance(part, np.ndarray):
            return part
        index = index if isinstance(index, tuple) else (index,)
        number: RecordedArray = self[(*index, ...)].copy()
        number.is_number = True
        return number

    def __setitem__(self, index: Any, value: Any) -> None:
        """Write to a part of the array."""
        part, value = super().__getitem__(index), plain(value)
        if not isinstance(part, np.ndarray):
            part = super().__getitem__((*(index if isinstance(index, tuple) else (index,)), ...))
        if part.recorder is None:
            _refuse("writing to a part that is no slice")
        if not (isinstance(value, np.ndarray) and same_place(part.plain, value)):
            fits = getattr(value, "dtype", None) == self.dtype
            self._recorder.note_copy(part.plain, value, **({} if fits else UNSAFE))

    def __bool__(self) -> bool:
        """Whether the one number is not 0; that it stays so becomes part of the program."""
        recorder = self._recorder
        return recorder.note_check(self.plain)

    def copy(self, order: Any = "C") -> Any:
        """Return a copy."""
        recorder = self._recorder
        result = self.plain.copy(order)
        recorder.note(result, np.copyto, self.plain)
        return recorded(result, recorder, self.is_number)

    def astype(self, dtype: Any, *arguments: Any, **options: Any) -> Any:
        """Return an array of another dtype."""
        recorder = self._recorder
        result = self.plain.astype(dtype, *arguments, **options)
        if result is self.plain:
            return self
        recorder.note(result, np.copyto, self.plain, **UNSAFE)
        return recorded(result, recorder, self.is_number)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        """Return a view of another shape, or a copy where there is none."""
        if self.is_number:
            return self.of_its_own().reshape(*shape, **options)
        recorder = self._recorder
        result = self.plain.reshape(*shape, **options)
        if self.size and not shares(result, self.plain):
            recorder.note(result, np.reshape, self.plain, result.shape, **options)
        return recorded(result, recorder)

    def of_its_own(self) -> "RecordedArray":
        """Return the array that NumPy makes of a number."""
        array: RecordedArray = self.copy()
        array.is_number = False
        return array

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what a recorded array has beside an array; the rest may not be changed in place."""
        if hasattr(np.ndarray, name):
            _refuse(f"setting {name}")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        """Shape and dtype: the numbers are not to be looked at."""
        return f"RecordedArray(shape={self.shape}, dtype={self.dtype})"

    __str__ = __repr__

    def __format__(self, specification: str) -> str:
        """Write the same into a message; not the number."""
        return repr(self) if not specification else _refuse("__format__")


def _refused(name: str) -> Callable[..., NoReturn]:
    def method(self: RecordedArray, *arguments: Any, **options: Any) -> NoReturn:
        _refuse(name)

    return method


def _in_place(name: str) -> Callable[..., Any]:
    """``x += y`` and the like: for a number, Python's own meaning, x = x + y."""
    in_place, binary = getattr(np.ndarray, name), getattr(operator, name.replace("__i", "__", 1))

    def method(self: RecordedArray, other: Any) -> Any:
        return binary(self, other) if self.is_number else in_place(self, other)

    return method


def _of_numbers(name: str) -> Callable[..., Any]:
    """``x * y`` and the like: NumPy computes some of them otherwise for numbers than for arrays."""
    operation = getattr(np.ndarray, name)

    def method(self: RecordedArray, *others: Any) -> Any:
        if self.is_number and ("pow" in name or self.dtype.kind == "c"):
            _refuse(f"{name} of a number; take a slice, x[:1] instead of x[0], or an axis")
        return operation(self, *others)

    return method


for _name in (
    *("__int__", "__float__", "__complex__", "__index__", "__round__", "item", "tolist", "tobytes"),
    *("fill", "put", "sort", "partition", "resize", "setfield", "byteswap", "dump", "trace"),
    *("argmax", "argmin", "argsort", "searchsorted", "nonzero", "compress", "choose"),
    *("take", "repeat", "dot", "flatten", "ravel", "round", "__dlpack__"),
):
    setattr(RecordedArray, _name, _refused(_name))
for _name in (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"),
    *("and", "or", "xor", "lshift", "rshift"),
):
    setattr(RecordedArray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in ("mul", "rmul", "truediv", "rtruediv", "pow", "rpow", "abs"):
    setattr(RecordedArray, f"__{_name}__", _of_numbers(f"__{_name}__"))
RecordedArray.flat = property(_refused("flat"))  # type: ignore[assignment, method-assign]


def _refuse(what: str) -> NoReturn:
    raise RecordingError(f"expected operations that can be recorded; got {what}")


def recorded(array: Array, recorder: Recorder, is_number: bool = False) -> RecordedArray:
    """View of an array that notes what is done with it."""
    if array.dtype == np.float16:
        _refuse("float16, of which NumPy takes means in Python")
    view = array.view(RecordedArray)
    vars(view).update(recorder=recorder, _plain=array, is_number=is_number)
    return view


def plain(tree: Any) -> Any:
    """Whatever an operation is given, with plain arrays in the place of recorded ones."""
    kind = type(tree)
    if kind is RecordedArray:
        tree._recorder.check_open()
        return tree.plain
    if kind in PLAIN:
        return tree
    if isinstance(tree, np.ndarray):
        _refuse(f"an array of the class {kind.__name__}")
    if isinstance(tree, tuple):
        return tuple([plain(part) for part in tree])
    if isinstance(tree, list):
        return [plain(part) for part in tree]
    if isinstance(tree, dict) and tree:
        return {key: plain(value) for key, value in tree.items()}
    return tree


def _target(out: Any) -> Array:
    """The plain array that an operation shall write to, which must be one of the program's."""
    if not isinstance(out, RecordedArray):
        _refuse("a result in an array of another origin; make it with like=")
    target: Array = plain(out)
    return target
