"""A program does what the function does, for other inputs too, bit for bit; or it is refused."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from numpy_xlstm.errors import BranchError, DTypeError, RecordingError, ShapeError
from numpy_xlstm.numerics import Array
from numpy_xlstm.recording import Program, record
from numpy_xlstm.trees import leaves

TABLE = np.arange(12.0).reshape(4, 3)


def in_place(x: Array, y: Array) -> Array:
    z = x * 2
    z += y
    z[0] = y[1]
    z[..., 1:] -= 1
    np.exp(z, out=z)
    return z


def a_sum_that_starts_at_zero(x: Array, y: Array) -> Array:
    total = np.zeros_like(x)
    for row in (x, y, x):
        total += row
    return total


def into_an_empty_one(x: Array, y: Array) -> Array:
    out = np.empty((2, *x.shape), x.dtype, like=x)
    out[0], out[1] = x, 3.0
    np.matmul(x, y.swapaxes(0, 1), out=out[1, :, :2])
    return out


def parts_of_parts(x: Array, y: Array) -> Array:
    z = np.stack([x, y])
    z[0][1:] += x[0]
    z[:, :, 1] *= z[::-1, :, 0]
    z[0], z[1] = z[1], z[0].copy()
    return z


def layouts(x: Array, y: Array) -> tuple[Array, ...]:
    turned = x.T.reshape(-1)  # a copy
    flat = np.ascontiguousarray(y.T, like=y).reshape(3, 2)
    return turned + 1, flat[::-1] * turned[:2], x[:, None, :2].swapaxes(0, 2).copy()


def reductions(x: Array, y: Array) -> tuple[Any, ...]:
    return x.sum(), y.max(axis=-1, keepdims=True), np.mean(x, axis=0), np.add.accumulate(y), x.any()


def functions(x: Array, y: Array) -> tuple[Array, ...]:
    joined = np.concatenate((x, TABLE[:1], y))
    return (
        np.where(joined > 0, joined, -1),
        np.einsum("ij,kj->ik", x, y),
        np.einsum("ij->ji", x),
        np.stack([x, y]).astype(np.float32),
        np.cumsum(x, axis=-1),
        np.take(np.asarray(TABLE, like=x), (x > y).astype(np.int64), axis=0),
    )


def numbers(x: Array, y: Array) -> tuple[Array, ...]:
    z = x + y
    first, total = z[0, 0], z.sum()
    kept, turned = total, first.T
    alias = turned
    turned += 1
    total *= 2
    first += 3
    z[0, 0] = z[1, 1]
    z[1, 1] = first
    return z, total, kept, first * y, np.vecdot(x, y)[..., None], turned, alias, np.take(x, 2)


def arrays_of_numbers(x: Array, y: Array) -> tuple[Array, ...]:
    """NumPy makes new arrays of a number, of which it has no views."""
    s = x.sum()
    a, b, c, d = s.reshape(1), np.atleast_1d(s), np.expand_dims(s, 0), np.asarray(s, like=x)
    e = x[0, 0][None]
    same = e
    a += 1
    b += 2
    c += 3
    d += 4
    e += y[0, 0]
    return s, a, b, c, d, same, x


def lists(x: Array, y: Array) -> tuple[Array, ...]:
    z = np.empty((2, 3), like=x)
    z[:] = [[1, 2, 3], x[0]]
    z[:, 1] = (x.sum(), y.max())
    w = np.zeros(2, like=x)
    np.copyto(w, [y[0, 0], x[0, 0]])
    return z, w


def by_strides(x: Array, y: Array) -> tuple[Array, ...]:
    moved = as_strided(y, (3,), (8,), subok=True)
    return moved + np.zeros((2, 3)), moved * 2


def iterated(x: Array, y: Array) -> tuple[Array, ...]:
    z, found = x * 1, []
    for row, other in zip(z, y, strict=True):
        found.append(row * other)
        z += 1
    return (*found, z)


def filled(x: Array, y: Array) -> tuple[Array, ...]:
    high = np.full_like(x, y.max())
    ones = np.ones((2, 3), like=x)
    ones += x
    return high, np.full((2,), y[0, 0], like=x), ones, np.zeros((0, 3), like=x)


def as_they_are(x: Array, y: Array) -> tuple[Array, ...]:
    z = np.asarray(x, like=x)
    z += y
    pair = np.asarray([x[0, 0], y[1, 1]], like=x)
    narrow = np.asarray(x, np.float32, like=x)
    turned = np.ascontiguousarray(y.T, np.float32, like=x)
    return x, pair, narrow, turned, np.array(y, like=x), np.copy(y), np.asarray(TABLE, like=x) + 1


def reshaped(x: Array, y: Array) -> tuple[Array, ...]:
    same = x.astype(x.dtype, copy=False)
    same += 1
    return x, y.reshape(-1, order="F"), np.reshape(y.T, (2, 3)), y[:0].reshape(3, 0)


def long_sums(x: Array, y: Array) -> tuple[Array, ...]:
    many = np.concatenate([x * n for n in range(1, 2000)])
    return many[::2].mean(), many.sum(axis=0), many[:, ::2].sum(), np.max(many[::3], initial=9)


def given_numbers(x: Array, y: Array) -> tuple[Array, ...]:
    narrow = x.astype(np.float32)
    return (
        np.float_power(np.abs(narrow), 2.1),
        narrow * (0.1 + 0.3j),
        np.ldexp(x, 2),
        narrow * np.float64(0.1),
        y.sum() * narrow,
        np.multiply(x, 3, out=x.copy(), where=y > 0),
    )


def repeated_operands(x: Array, y: Array) -> tuple[Array, ...]:
    """Constants, single numbers and rows, which are repeated in the shape of the result."""
    z, narrow = x + TABLE[0], y.astype(np.float32)
    z -= z[:1, :1]  # which overlaps
    z[:1] *= z[1:, 2:]
    return (
        z,
        TABLE[:2] - x[:1, :1],
        np.maximum(y[:1, :1], x),
        np.minimum(TABLE[1, 0], x),
        narrow * TABLE[0].astype(np.float32),
        narrow * TABLE[0],
        x[None] / (TABLE[:2, :1] + 1),
        (x > 0) * TABLE[0].astype(int),
        x[:, :0] + TABLE[0, :1],
    )


def with_out(x: Array, y: Array) -> tuple[Array, ...]:
    z = np.empty((4, 3), like=x)
    np.concatenate((x, y), out=z)
    np.cumsum(x, axis=1, out=z[:2])
    return z, np.cumsum(y, 0, np.float32), np.einsum("ij->ji", np.asarray(TABLE, like=x))


def arguments_given_back(x: Array, y: Array) -> tuple[Array, Array]:
    return y, x[:1]


FUNCTIONS = (
    in_place,
    a_sum_that_starts_at_zero,
    into_an_empty_one,
    parts_of_parts,
    layouts,
    reductions,
    functions,
    numbers,
    arrays_of_numbers,
    lists,
    by_strides,
    iterated,
    filled,
    as_they_are,
    reshaped,
    long_sums,
    given_numbers,
    repeated_operands,
    with_out,
    arguments_given_back,
)


def run(program: Program, *inputs: Array) -> list[Array]:
    for place, array in zip(program.inputs, inputs, strict=True):
        place[...] = array
    program.run()
    return [array for _, array in leaves("", program.outputs)]


def assert_same(got: Any, expected: Any) -> None:
    for a, (_, b) in zip(got, leaves("", expected), strict=True):
        assert type(a) is np.ndarray
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("function", FUNCTIONS)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_program_is_the_function(function: Callable[..., Any], seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, third = rng.standard_normal((3, 2, 2, 3))
    program = record(function, *first)
    results = [array for _, array in leaves("", program.outputs)]
    assert_same(results, function(*first.copy()))
    for inputs in (second, third, second):
        assert_same(run(program, *inputs), function(*inputs.copy()))


def test_the_arguments_are_left_alone_and_outputs_are_no_inputs() -> None:
    x = np.ones((2, 3))
    program = record(lambda x: (np.multiply(x, 2, out=x), x[:1]), x)
    assert (x == 1).all()
    for _, output in leaves("", program.outputs):
        assert not np.may_share_memory(output, program.inputs[0])


def test_parameters_are_constants() -> None:
    """Those that an operation takes as they are, are read again; do not rely on it."""
    weight = np.ones(3)
    program = record(lambda x: (x * weight, x * (weight + 1)), np.ones(3))
    weight[...] = 5
    program.run()
    assert [list(y) for y in program.outputs] == [[5, 5, 5], [2, 2, 2]]


def halved(x: Array) -> Array:
    if np.abs(x).max() > 1:
        return x / 2
    return x


def test_another_branch_is_noticed() -> None:
    program = record(halved, np.array([4.0, -8.0]))
    assert_same(run(program, np.array([0.0, -3.0])), halved(np.array([0.0, -3.0])))
    with pytest.raises(BranchError, match="to be True"):
        run(program, np.array([0.5, 0.25]))
    assert_same(run(program, np.array([2.0, 2.0])), np.array([1.0, 1.0]))
    other = record(halved, np.array([0.5]))
    with pytest.raises(BranchError, match="to be False"):
        run(other, np.array([2.0]))


def quiet(x: Array) -> Array:
    with np.errstate(over="ignore", divide="ignore"):
        return np.exp(x) + 1 / x


def test_floating_point_errors_are_treated_as_in_the_function() -> None:
    loud = record(np.exp, np.zeros(2))
    with pytest.warns(RuntimeWarning, match="overflow"):
        run(loud, np.array([0.0, 1e4]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program = record(quiet, np.ones(2))
        assert_same(run(program, np.array([0.0, 1e4])), np.array([np.inf, np.inf]))
    assert "1  t1 (2,) float64 = divide(1, in.0 (2,))" in str(program)


def lost(x: Array) -> Array:
    best = np.ndarray.__getitem__(x, [0, 2])  # a copy, of which the recorder knows nothing
    return best + 1


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: x * float(x[0]), "__float__"),
        (lambda x: x[x > 0] + 1, "no view"),
        (lambda x: x[x > 9].sum(), "no view"),
        (lambda x: x[[0, 1]] + 1, "no view"),
        (lambda x: x * x.argmax(), "argmax"),
        (lambda x: np.sort(x), "sort"),
        (lambda x: np.linalg.norm(x), "norm"),
        (lambda x: x.fill(0), "fill"),
        (lambda x: np.multiply(x, 2, out=np.empty(3)), "like="),
        (lambda x: np.copyto(np.empty(3), x), "like="),
        (lambda x: np.modf(x)[0], "modf"),
        (lambda x: np.add.at(x, [0], 1), "add.at"),
        (lambda x: np.put_along_axis(x, np.array([0]), 1, 0), "put_along_axis"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: np.where(x > 0)[0], "where"),
        (lambda x: round(x[0]), "__round__"),
        (lambda x: x.flat[0] + 1, "flat"),
        (lambda x: x.trace(), "trace"),
        (lambda x: setattr(x, "real", 0), "setting real"),
        (lambda x: setattr(x, "shape", (3, 1)), "setting shape"),
        (lambda x: np.copyto(dst=x, src=x), "copyto"),
        (lambda x: {"x": x}, "nested tuples"),
        (lost, "no view"),
        (lambda x: x * [x[0], x[1], 2], "multiply of a list"),
        (lambda x: np.take(x, [0, 1], out=np.empty(2)), "take with out="),
        (lambda x: np.cumsum(x, dtype=float, out=np.empty(3)), "like="),
        (lambda x: np.concatenate((x, x), 0, np.empty(6)), "not named by out="),
        (lambda x: x[0] ** 0.5, "__pow__ of a number"),
        (lambda x: x.astype(complex)[0] * 2, "__mul__ of a number"),
        (lambda x: abs(x.astype(complex)[0]), "__abs__ of a number"),
        (lambda x: x.sum().round(), "round"),
        (lambda x: x.astype(np.float16).mean(), "float16"),
        (lambda x: f"{x[0]:.2f}", "__format__"),
        (lambda x: x + np.ma.array(np.ones(3), mask=np.eye(3)[0] > 0), "MaskedArray"),
        (lambda x: np.from_dlpack(x), "__dlpack__"),
    ],
)
def test_what_cannot_be_recorded_is_refused(function: Callable[..., Any], what: str) -> None:
    with pytest.raises(RecordingError, match=what):
        record(function, np.array([1.0, -2.0, 3.0]))


@pytest.mark.parametrize("value", [1.0, -9.0])
def test_a_mask_is_no_slice(value: float) -> None:
    """Not even one that selects nothing."""

    def masked(x: Array) -> Array:
        y = x + 1
        y[y > 0] = 0
        return y

    with pytest.raises(RecordingError, match="no slice"):
        record(masked, np.full(3, value))


def test_a_constant_is_not_written_to() -> None:
    def adds(x: Array) -> Array:
        table = np.asarray(TABLE, like=x)
        table += x
        return table

    with pytest.raises(ValueError, match="read-only"):
        record(adds, np.ones(3))
    assert TABLE[0, 0] == 0


def test_a_function_that_changes_an_array_of_its_own_is_refused() -> None:
    def cumulates(x: Array) -> Array:
        mask, y = np.zeros(3), x * 0
        for t in range(3):
            mask[t] = 1
            y = y + x * mask
        return y

    def counts(x: Array) -> Array:
        table = np.zeros(3)
        y = x + table
        table += 1
        return y if table[0] + x[0] > 1 else x

    for function in (cumulates, counts):
        with pytest.raises(RecordingError, match="changes from call to call"):
            record(function, np.ones(3))


def test_an_error_on_the_way_is_a_branch() -> None:
    def careful(x: Array) -> Array:
        with np.errstate(over="raise"):
            try:
                return np.exp(x)
            except FloatingPointError:
                return x * 9

    with pytest.raises(RecordingError, match="that succeed"):
        record(careful, np.array([1e4]))
    program = record(careful, np.array([1.0]))
    with pytest.raises(FloatingPointError):
        program(np.array([1e4]))


def test_a_matrix_is_no_array() -> None:
    with pytest.raises(RecordingError, match="of the class matrix"):
        record(np.exp, np.ones((1, 2)).view(np.matrix))


@pytest.mark.parametrize("order", ["C", "F"])
def test_arguments_keep_their_layout(order: Any) -> None:
    """On which the order of a sum depends."""
    rng = np.random.default_rng(0)
    x, other = (np.asarray(rng.standard_normal((50, 37)), order=order) for _ in range(2))
    program = record(lambda x: x.sum(axis=0), x)
    assert_same([program.outputs], x.sum(axis=0))
    assert_same([program(other)], other.sum(axis=0))


def test_floating_point_errors_are_treated_as_when_recorded() -> None:
    with np.errstate(over="ignore"):
        program = record(quiet, np.ones(2))
    with np.errstate(over="raise"):
        assert_same([program(np.full(2, 1e4))], np.full(2, np.inf))


def test_an_output_is_no_constant() -> None:
    table = TABLE.copy()
    program = record(lambda x: np.asarray(table, like=x), np.ones(3))
    table += 1
    assert_same([program.outputs], TABLE)


def test_a_program_is_called_with_arguments_like_the_first() -> None:
    program = record(lambda x, state: (x * 2, (x + state[0], None)), np.ones(3), (np.ones(3), None))
    y, (z, nothing) = program(np.full(3, 2.0), (np.ones(3), None))
    assert nothing is None
    program(np.zeros(3), (np.zeros(3), None))
    assert_same([y, z], (np.full(3, 4.0), np.full(3, 3.0)))
    before, one = program.inputs[0].copy(), np.ones(3)
    for arguments, error, message in (
        ((one,), ShapeError, r"arguments like \('array', \('array', None\)\); got \('array',\)"),
        ((one, (np.ones(4), None)), ShapeError, r"in.1.0: expected shape \(3,\); got \(4,\)"),
        ((one.astype(int), (one, None)), DTypeError, "in.0: expected float64; got int64"),
    ):
        with pytest.raises(error, match=message):
            program(*arguments)
    assert_same([program.inputs[0]], before)


def test_arguments_that_are_its_own_inputs() -> None:
    program = record(lambda u, v: u - 2 * v, np.ones(3), np.full(3, 3.0))
    assert_same([program(*program.inputs[::-1])], np.ones(3))


def test_what_a_program_is_not_called_with() -> None:
    program = record(lambda u, v: 2 * v if u is None else u, None, np.ones(3))
    with pytest.raises(ShapeError, match=r"like \(None, 'array'\); got \('array', None\)"):
        program(np.ones(3), None)
    with pytest.raises(RecordingError, match=r"in\.1: expected an array; got MaskedArray"):
        program(None, np.ma.array(np.ones(3), mask=False))
    with pytest.raises(RecordingError, match=r"in\.1: expected an array; got RecordedArray"):
        record(lambda x: program(None, x), np.ones(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble, np.complex128])
def test_single_numbers_in_other_shapes(dtype: Any) -> None:
    """Which NumPy may compute in another way, with other last bits."""
    rng = np.random.default_rng(0)

    def functions(x: Array, y: Array) -> tuple[Array, ...]:
        return x * y, x + y, x - y, x / y, np.exp(y) * x[0]

    def draw() -> list[Array]:
        parts = rng.standard_normal((2, 2))
        numbers = (parts[0] + 1j * parts[1] if dtype is np.complex128 else parts[0]).astype(dtype)
        return [numbers[:1].reshape(1, 1), numbers[1:]]

    program = record(functions, *draw())
    for _ in range(200):
        inputs = draw()
        assert_same(program(*inputs), functions(*inputs))


@pytest.mark.parametrize("frozen", [lambda x: np.array(x), lambda x: TABLE[0] * np.float64(x[0])])
def test_what_numpy_does_not_see_is_found_by_other_numbers(frozen: Callable[..., Any]) -> None:
    with pytest.raises(RecordingError, match=r"got others in out: .*does not see all"):
        record(lambda x: x * 0 + frozen(x), np.ones(3))
    record(lambda x: x * 0 + frozen(x), np.ones(3), verify=False)


def test_a_function_that_does_not_take_other_numbers() -> None:
    def only_one(x: Array) -> Array:
        if x[0] != 1:
            raise ValueError("not one")
        return x * 2

    program = record(only_one, np.ones(3))
    assert_same([program.outputs], np.full(3, 2.0))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_program_is_not_copied(copied: Callable[[Any], Any]) -> None:
    with pytest.raises(RecordingError, match="request to copy"):
        copied(record(np.exp, np.ones(3)))


def test_a_closed_recording_is_not_written_to() -> None:
    kept: list[Array] = []

    def leaks(x: Array) -> Array:
        kept.append(x * 2)
        return kept[0]

    program = record(leaks, np.ones(3))
    writes: tuple[Callable[[Array], Any], ...] = (
        lambda y: y.__setitem__(0, 99),
        lambda y: np.copyto(y, 5),
        lambda y: np.exp(y, y),
    )
    for write in writes:
        with pytest.raises(RecordingError, match="an earlier one"):
            write(kept[0])
    assert_same([program.outputs], np.full(3, 2.0))


def test_an_array_of_another_recording_is_refused() -> None:
    kept: list[Array] = []

    def remembers(x: Array) -> Array:
        kept.append(x * 2)
        return kept[0] + x

    record(remembers, np.ones(3))
    with pytest.raises(RecordingError, match="an earlier one"):
        record(remembers, np.ones(3))


def test_arguments_are_arrays() -> None:
    with pytest.raises(RecordingError, match="nested tuples of arrays; got array"):
        record(lambda x: x, {"x": np.ones(3)})


def test_a_state_of_nested_tuples() -> None:
    def step(x: Array, state: Any) -> tuple[Array, Any]:
        (h, nothing), c = state
        return h + x, ((h * x, nothing), c - 1)

    state = ((np.ones(2), None), np.zeros(2))
    program = record(step, np.full(2, 3.0), state)
    expected = step(np.full(2, 3.0), state)
    assert_same([array for _, array in leaves("", program.outputs)], expected)
    assert program.outputs[1][0][1] is None


def test_a_program_is_written_out() -> None:
    weight = np.ones((1, 3))

    def function(x: Array, state: Any) -> Any:
        y = np.concatenate((x, weight), axis=0) * np.float64(0.5)
        y[1:] += 1
        y[0] = 2
        if state[0] > weight.sum():
            y = y * weight
        turned = y[:, :2].T.reshape(-1)
        return np.where(y.sum(axis=0, keepdims=True) > 1, y, 0), (state[0] + TABLE[0, 0], turned)

    program = record(function, np.ones((2, 3)), (np.array(4.0),))
    assert str(program).splitlines() == [
        "   0  t0 (3, 3) float64 = concatenate((in.0 (2, 3), c0 (1, 3)), axis=0)",
        "   1  t1 (3, 3) float64 = multiply(t0 (3, 3), 0.5)",
        "   2  t1+3 (2, 3) float64 = add(t1+3 (2, 3), 1)",
        "   3  t1 (3,) float64 = copy(2)",
        "   4  t4 () bool = greater(in.1.0 (), 3.0)",
        "   5  check(t4 () is True)",
        "   6  t6 (3, 3) float64 = multiply(t1 (3, 3), c0 (1, 3))",
        "   7  t7 (6,) float64 = reshape(t6 (2, 3) by (1, 3), (6,))",
        "   8  t8 (1, 3) float64 = add.reduce(t6 (3, 3), axis=0)",
        "   9  t9 (1, 3) bool = greater(t8 (1, 3), 1)",
        "  10  t10 (3, 3) float64 = where(t9 (1, 3), t6 (3, 3), 0)",
        "  11  t11 () float64 = add(in.1.0 (), 0.0)",
        "      out.0 = t10 (3, 3)",
        "      out.1.0 = t11 ()",
        "      out.1.1 = t7 (6,)",
    ]
