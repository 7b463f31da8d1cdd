from typing import Any, NamedTuple

import numpy as np
import pytest

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.trees import join_states, leaves, rebuild, tree_map


class Pair(NamedTuple):
    a: Any
    b: Any


TREE = (Pair(np.array([1, 2]), None), [np.array([3])], None)


def test_arrays_are_named_by_their_place() -> None:
    assert [(name, a.tolist()) for name, a in leaves("s", TREE)] == [
        ("s.0.a", [1, 2]),
        ("s.1.0", [3]),
    ]


def test_a_tree_keeps_its_types() -> None:
    first, second, third = rebuild(TREE, iter([np.array([7]), np.array([8])]))
    assert isinstance(first, Pair)
    assert (first.a.tolist(), first.b) == ([7], None)
    assert ([a.tolist() for a in second], third) == ([[8]], None)
    doubled = tree_map(lambda array: 2 * array, TREE)
    assert [a.tolist() for _, a in leaves("", doubled)] == [[2, 4], [6]]


def test_states_are_joined_along_the_batch() -> None:
    states = [(Pair(np.full((n, 2), n), None), (), np.full((n, 1, 3), n)) for n in (1, 2)]
    joined = join_states(states)
    assert isinstance(joined[0], Pair)
    assert joined[0].a.tolist() == [[1, 1], [2, 2], [2, 2]]
    assert joined[0].b is None
    assert joined[1] == ()
    assert joined[2].tolist() == [[[1] * 3], [[2] * 3], [[2] * 3]]
    assert join_states([None, None]) is None


@pytest.mark.parametrize(
    "states",
    [
        [np.zeros((1, 2)), None],
        [(None,), (None, None)],
        [(None, (None,)), (None, Pair(1, 2))],
        [(np.zeros((1, 2)), None), (None, np.zeros((1, 2)))],
    ],
)
def test_states_of_different_structure(states: list[Any]) -> None:
    with pytest.raises(ShapeError, match="states: expected the same structure in all; got "):
        join_states(states)
