"""Cases in 16 bits: correct ports in three styles pass, and mistakes in such ports fail."""

import importlib
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import conformance
from numpy_xlstm.cli import main
from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS, in_dtype, stored
from numpy_xlstm.conformance.files import write_tensors
from numpy_xlstm.conformance.verify import Port
from numpy_xlstm.errors import MissingExtraError
from numpy_xlstm.gradcheck import from_torch
from numpy_xlstm.numerics import Array
from tests.conformance.shared import narrowed

ml_dtypes = pytest.importorskip("ml_dtypes")
torch = pytest.importorskip("torch")
PORTS = importlib.import_module("tests.ports.torch_ports").PORTS

FAMILIES = {"lstm": 3, "slstm": 12, "mlstm": 11}
"""Families, with the number of known mistakes of a step that bfloat16 hides, of 176, 281, 296."""
NARROW = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
EACH_DTYPE = pytest.mark.parametrize("dtype", SIXTEEN_BITS)


def rounded(case: Case, results: dict[str, Array]) -> dict[str, Array]:
    """Round results once, to arrays of the dtype."""
    return {name: array.astype(NARROW[case.dtype]) for name, array in results.items()}


def with_state_in_16_bits(case: Case) -> dict[str, Array]:
    """Return the results of a port whose state and its cotangents are rounded at each step."""
    narrow = partial(narrowed, dtype=case.dtype)
    return in_dtype(case.results(stored(case.subject.specification, narrow)), case.dtype)


@EACH_DTYPE
def test_results_that_are_rounded_pass(dtype: str, trials: int) -> None:
    """In one trial a twentieth of the cases; in more, all cases of more seeds."""
    chosen = [case for n in range(trials) for case in conformance.cases(dtype=dtype, seed=n)]
    for case in chosen[:: 20 if trials == 1 else 1]:
        case.check(rounded(case, case.expected))
        case.check(rounded(case, case.results()))
        case.check(with_state_in_16_bits(case))


def storing(family: str, dtype: str, *, state: bool) -> Port:
    """Return a port that rounds pre-activations, outputs and, if asked to, the state."""
    kind = PORTS[family]

    def stored(tensor: Any) -> Any:
        return tensor.to(getattr(torch, dtype)).float()

    class Storing(kind):  # type: ignore[misc, valid-type]
        def gates(self, *given: Any) -> Any:
            return tuple(map(stored, super().gates(*given)))

        def step(self, *given: Any) -> Any:
            y, after = super().step(*given)
            return stored(y), tuple(map(stored, after)) if state else after

    port = conformance.from_layer(lambda case: from_torch(Storing(**case.options)))
    return lambda case: in_dtype(dict(port(case)), dtype)


@EACH_DTYPE
@pytest.mark.parametrize("family", FAMILIES)
def test_ports_from_the_equations_pass(family: str, dtype: str) -> None:
    ports = [storing(family, dtype, state=state) for state in (False, True)]
    for case in conformance.cases(f"{family}.sequence", dtype)[:: 2 if dtype == "bfloat16" else 4]:
        for port in ports:
            case.check(port(case))


@pytest.mark.parametrize(("family", "most"), FAMILIES.items())
def test_a_report_counts_the_mistakes_that_16_bits_hide(family: str, most: int) -> None:
    cases = conformance.cases(f"{family}.step", "bfloat16")
    report = conformance.verify(cases, lambda case: rounded(case, case.results()))
    assert report.passed
    (line,) = report.diagnosis
    counts = re.match(rf"{family}.step in bfloat16: (\d+) of \d+ known mistakes change no", line)
    assert counts is not None
    assert int(counts[1]) <= most


def test_inputs_are_exact_and_dtypes_are_checked() -> None:
    case = conformance.cases("lstm.step", "bfloat16")[0]
    for array in case.inputs.values():
        assert (array.astype(ml_dtypes.bfloat16).astype(np.float32) == array).all()
    results = {name: array.astype(np.float16) for name, array in case.results().items()}
    note = conformance.compare(case, results)[0].note
    assert note == "expected bfloat16 or float32 (3, 6); got float16 (3, 6)"


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingExtraError, match=r"bfloat16 needs the cli extra"):
        conformance.cases("lstm.step", "bfloat16")[0].inputs  # noqa: B018
    assert conformance.cases("lstm.step", "float16")[0].inputs


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kit, chosen = str(tmp_path / "kit"), ["--subject", "elman.step", "--dtype", "bfloat16"]
    assert main(["vectors", kit, *chosen]) == 0
    cases = conformance.read_vectors(kit)
    for case in cases:
        path = tmp_path / f"{case.id}.safetensors"
        write_tensors(path, rounded(case, case.results()), {})
    capsys.readouterr()
    assert main(["verify", str(tmp_path), "--vectors", kit, *chosen]) == 0
    out = capsys.readouterr().out
    assert f"elman.step: {len(cases)} of {len(cases)} cases passed" in out
    assert "known mistakes change no result" in out
