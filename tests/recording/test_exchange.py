"""Two programs in turns are a recurrence, bit for bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from numpy_xlstm.errors import RecordingError
from numpy_xlstm.numerics import Array
from numpy_xlstm.recording import exchanged, record
from tests.models.build import assert_same

WEIGHT = np.random.default_rng(0).standard_normal((3, 3))


def step(x: Array, state: Any) -> tuple[Array, Any]:
    """With views of the state, lists of them, options, and parts that are written one by one."""
    h, (c, m) = state
    joined = np.concatenate((h[:, 1:], x, c[:, :2].T.reshape(2, -1)), axis=-1)
    after = np.empty_like(c)
    after[:, 0], after[:, 1:] = c[:, 1], np.where(c[:, :2] > 0, c[:, ::2], m[0, 0])
    np.multiply(after, 2, out=after, where=h > 0)
    with np.errstate(over="ignore"):
        low = np.exp(-np.abs(m)) * 0.5
    return joined.sum(axis=0), (np.tanh(h @ WEIGHT) + x[:, :1], (np.sin(after), low))


def draw(rng: np.random.Generator) -> tuple[Array, Any]:
    x, h, c, m = rng.standard_normal((4, 2, 3))
    return x[:, :2].copy(), (h, (c, m))


@given(seed=st.integers(0, 2**32 - 1))
def test_both_do_what_the_function_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, state = draw(rng)
    program = record(step, x, state)
    other = exchanged(program, program.inputs[1], program.outputs[1])
    y, state = step(x, state)
    for now in (other, program, other, other, program):
        x = rng.standard_normal(x.shape)
        now(x, state)
        y, state = step(x, state)
        assert_same({"y": now.outputs[0]}, {"y": y})
        assert_same({"h": now.outputs[1][0]}, {"h": state[0]})
        assert_same({"m": now.outputs[1][1][1]}, {"m": state[1][1]})


def test_the_state_goes_from_one_to_the_other() -> None:
    rng = np.random.default_rng(1)
    x, state = draw(rng)
    program = record(step, x, state)
    other = exchanged(program, program.inputs[1], program.outputs[1])
    _, state = step(x, state)
    for now in (other, program) * 5:
        now.inputs[0][...] = x
        now.run()
        y, state = step(x, state)
        assert_same({"y": now.outputs[0]}, {"y": y})


def test_operations_that_have_none_of_the_arrays_are_the_same() -> None:
    program = record(lambda x, h: (x * 2, h + x), np.ones(2), np.ones(2))
    other = exchanged(program, program.inputs[1], program.outputs[1])
    same = [a is b for a, b in zip(program.operations, other.operations, strict=True)]
    assert same == [True, False]


@pytest.mark.parametrize(
    ("function", "state"),
    [
        (lambda h: h[:1] * 2, np.ones(2)),
        (lambda h: h.astype(np.float32), np.ones(2)),
        (lambda h: h * 2, np.ones((3, 2)).T),
    ],
)
def test_only_what_is_alike_is_exchanged(function: Any, state: Array) -> None:
    program = record(function, state)
    with pytest.raises(RecordingError, match=r"expected alike arrays to exchange.*number 0"):
        exchanged(program, program.inputs, (program.outputs,))


def test_only_arrays_of_the_program_once_and_as_many() -> None:
    program = record(lambda x, h: (x * 2, h + x), np.ones(2), np.ones(2))
    x, h = program.inputs
    y, after = program.outputs
    for inputs, outputs, message in (
        ((x, x), (y, after), "inputs: expected some of the program's, each once"),
        ((x, np.ones(2)), (y, after), "inputs: expected some of the program's"),
        ((x, h), (y, h), "outputs: expected some of the program's"),
        ((x, h), (y,), "expected 2 outputs, as inputs; got 1"),
    ):
        with pytest.raises(RecordingError, match=message):
            exchanged(program, inputs, outputs)


def test_an_output_that_is_a_constant() -> None:
    constant = np.arange(3.0)
    program = record(lambda x, s: (x + s, constant), np.zeros((2, 3)), np.full(3, 5.0))
    other = exchanged(program, program.inputs[1], program.outputs[1])
    y, after = other(np.zeros((2, 3)), np.full(3, 7.0))
    assert_same({"y": y, "after": after}, {"y": np.full((2, 3), 7.0), "after": constant})


def test_a_view_by_strides() -> None:
    def sums(s: Array) -> Array:
        twice = as_strided(s, (3, 2), (8, 0), subok=True)
        y: Array = np.einsum("ij->i", twice) + np.zeros((1, 3))[0]
        return y

    program = record(sums, np.arange(3.0))
    other = exchanged(program, program.inputs[0], program.outputs)
    for now in (program, other):
        assert_same({"": now(np.array([5.0, -2.0, 7.0]))}, {"": np.array([10.0, -4.0, 14.0])})
