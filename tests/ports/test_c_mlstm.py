"""The mLSTM in C passes the kit, each changed copy fails, and errors name wrong inputs."""

import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import conformance
from numpy_xlstm.conformance.files import header, write_tensors
from tests.ports.compiled import SANITISED, build, verified
from tests.ports.compiled import cases as compiled_cases

cases = partial(compiled_cases, "mlstm")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("c"), "mlstm_port")


def test_it_passes_in_float64(compiled: Path, tmp_path: Path) -> None:
    report = verified(compiled / "mlstm_port", cases("float64"), tmp_path)
    assert report.passed, report
    assert len(report.verdicts) > 60


def test_it_passes_in_float32(compiled: Path, tmp_path: Path, seed_of_cases: int) -> None:
    report = verified(compiled / "mlstm_port", cases("float32", seed_of_cases), tmp_path)
    assert report.passed, report


@pytest.mark.long
def test_no_sanitizer_complains(tmp_path: Path) -> None:
    folder, vectors = build(tmp_path, "read_set", flags=SANITISED), tmp_path / "vectors"
    assert len(list(conformance.write_vectors(vectors, cases()))) == len(cases())
    done = subprocess.run([folder / "read_set", vectors], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    n = len(cases())
    assert done.stdout == f"{n} cases read, {n} of {n} of the sLSTM and the mLSTM passed\n"


KEYS = "if (map == MAP_K)\n            sum /= sqrt((REAL)p->DK);\n        made[a] = sum + p->b"
OF_ROWS = "size_t length = lengths ? (size_t)lengths[b] : T;\n        for (size_t t = 0,"
WRONG = {
    "k is not divided": [("sum /= sqrt((REAL)p->DK)", "sum /= 1")],
    "q is divided too": [(KEYS, KEYS.replace("map == MAP_K", "map <= MAP_K"))],
    "the gradient of W_k is not divided": [("? dmade[a] / sqrt((REAL)p->DK) :", "? dmade[a] :")],
    "an empty state of m = 0": [("s.m[j] = -INFINITY;", "s.m[j] = 0;")],
    "a floor of 1": [("denominator(p, qn, exp(-clip(m)));", "denominator(p, qn, 1);")],
    "no eps": [(" + p->eps;", " + 0 * p->eps;")],
    "a floor that overflows": [
        ("return fmin(fmax(m, -most), most)", "return most < 0 ? most : m"),
    ],
    "m is a constant": [("*ds.m - f * df;", "0 * f;"), ("*ds.m - i * di :", "0 * i :")],
    "the floor is a constant": [("*ds.m += S * (floor_ / den);", "(void)S;")],
    "ties go to i": [("int past = A >= log_i;", "int past = A > log_i;")],
    "kinks go to the floor": [("fabs(qn) >= floor_", "fabs(qn) > floor_")],
    "n is not read by the query's gradient": [("dq / den + dqn * u.n[a]", "dq / den")],
    "padding is run": [(OF_ROWS, OF_ROWS.replace("(size_t)lengths[b]", "T"))],
    "exp is a sigmoid": [("return p->exp_forget ? x", "return p->exp_forget < 0 ? x")],
    "log σ of the value": [("fmin(x, (REAL)0) - log1p(exp(-fabs(x)))", "log(sigmoid(x))")],
}


@pytest.mark.long
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_copy_fails(name: str, compiled: Path, tmp_path: Path) -> None:
    changes = WRONG[name]
    folder = build(tmp_path, "mlstm_port", changes=changes, changed="mlstm.c", like=compiled)
    assert not verified(folder / "mlstm_port", cases("float32"), tmp_path).passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "x: expected a tensor of F32 or F64"),
        ({"params.W_v": None}, "params.W_v: expected a tensor of F64 with 2 axes"),
        ({"params.b_k": np.zeros(7)}, "params.b_k: expected 8 numbers along axis 0; got 7"),
        (
            {"params.W_i": np.zeros((5, 5))},
            "params.W_i: expected heads that divide 8 and 12; got 5",
        ),
        (
            {"params.W_q": np.zeros((0, 5))},
            "params.W_q, params.W_v: expected keys and values; got none",
        ),
        ({"dy": np.zeros((3, 7, 5))}, "dy: expected 12 numbers along axis 2; got 5"),
        ({"state.C": np.zeros((3, 2, 6, 4))}, "state.C: expected 4 numbers along axis 2; got 6"),
        ({"lengths": np.array([1, 8, 3])}, "lengths: expected 0 to 7; got 8"),
        ({"forget_gate": "tanh"}, "forget_gate: expected sigmoid or exp; got tanh"),
        ({"eps": "small"}, "eps: expected a number; got small"),
    ],
)
def test_wrong_inputs_are_named(
    compiled: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    case = next(c for c in cases("float64") if c.id == "mlstm.sequence.exp.ordinary.float64")
    inputs = {n: a for n, a in (case.inputs | change).items() if isinstance(a, np.ndarray)}
    known = header(case) | {n: a for n, a in change.items() if isinstance(a, str)}
    write_tensors(tmp_path / "in.safetensors", inputs, known)
    command = [compiled / "mlstm_port", tmp_path / "in.safetensors", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"{message}\n")
    assert not (tmp_path / "out").exists()
    assert subprocess.run(command[:1], capture_output=True).returncode == 2
