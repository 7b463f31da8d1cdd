from typing import NamedTuple

import numpy as np

from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import join_states, leaves, rebuild, tree_map


class Pair(NamedTuple):
    a: Array
    b: Array | None


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
    parts = [(Pair(np.full((n, 2), n), None),) for n in (1, 2)]
    (joined,) = join_states(parts)
    assert isinstance(joined, Pair)
    assert joined.a.tolist() == [[1, 1], [2, 2], [2, 2]]
    assert joined.b is None
