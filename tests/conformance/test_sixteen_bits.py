"""Cases in 16 bits: correct ports in three styles pass, and mistakes in such ports fail."""

import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import conformance
from numpy_xlstm.cli import main
from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS, in_dtype, stored
from numpy_xlstm.conformance.files import write_tensors
from numpy_xlstm.errors import MissingExtraError
from numpy_xlstm.numerics import Array
from tests.conformance.shared import narrowed

ml_dtypes = pytest.importorskip("ml_dtypes")
pytest.importorskip("torch")

from tests.conformance import ports_16  # noqa: E402 - needs PyTorch

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


@cache
def ported(family: str, dtype: str) -> list[Case]:
    """Return the cases of a family that the ports of this test have."""
    cases = conformance.cases(f"{family}.sequence", dtype)
    return [case for case in cases if not {"zero-memory", "forget_gate=exp"} & case.tags]


@EACH_DTYPE
@pytest.mark.parametrize("family", ports_16.STEPS)
def test_ports_from_the_equations_pass(family: str, dtype: str) -> None:
    for case in ported(family, dtype)[:: 1 if dtype == "bfloat16" else 4]:
        for state in (False, True):
            case.check(ports_16.port(case, state=state))


@pytest.mark.parametrize(
    ("family", "mistake"),
    [(family, name) for family, names in ports_16.MISTAKES.items() for name in names],
)
def test_mistakes_in_bfloat16_fail(family: str, mistake: str) -> None:
    def port(case: Case) -> Any:
        return ports_16.port(case, state=True, mistake=mistake)

    cases = ported(family, "bfloat16")
    assert any(not row.passed for case in cases for row in conformance.compare(case, port(case)))


def test_a_report_counts_the_mistakes_that_16_bits_hide() -> None:
    cases = conformance.cases("layer.layer-norm", "bfloat16")
    report = conformance.verify(cases, lambda case: rounded(case, case.results()))
    assert report.passed
    (line,) = report.diagnosis
    assert "layer.layer-norm in bfloat16: 5 of 26 known mistakes change no result" in line


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
