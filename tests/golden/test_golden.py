"""Current results equal the recorded ones."""

import pytest

from tests.golden.cases import CELLS, GENERATION, MODELS, SEQUENCES, Case, Trees, adamw, greedy
from tests.golden.store import FILES, load
from tests.models.build import distance

EXPECTED = {file: load(f"{file}.npz") for file in ("cells", "sequences", "models")}
RTOL = 1e-12
CASES = [
    *(("cells", case) for case in CELLS.values()),
    *(("sequences", case) for case in SEQUENCES.values()),
    *(("models", case) for case in MODELS.values()),
]


def compare(got: Trees, expected: Trees, rtol: float) -> None:
    """Compare every leaf.

    A leaf that is small compared with the largest is compared relative to 1e-5 of that. It may be
    the remainder of a cancellation, such as δn before a norm, where one rounding changes it by
    3e-11.
    """
    for key, arrays in got.items():
        error, name = distance(arrays, expected[key], least=1e-5)
        assert error <= rtol, f"{key} {name}: {error:.2e}"


@pytest.mark.parametrize(("file", "case"), CASES, ids=lambda v: getattr(v, "name", v))
def test_values_states_and_gradients(file: str, case: Case) -> None:
    expected = EXPECTED[file][case.name]
    got = case.run(expected)
    assert got.keys() == expected.keys() - {"params", "x", "state", "dy", "dstate"}
    compare(got, expected, RTOL)


@pytest.mark.parametrize("name", GENERATION)
def test_greedy_tokens(name: str) -> None:
    expected = load("generation.npz")[name]
    compare(greedy(name, expected["params"]), expected, rtol=0)


def test_adamw() -> None:
    expected = load("adamw.npz")["AdamW"]
    compare(adamw(expected), expected, RTOL)


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FILES.glob("*.npz")) < 600_000
